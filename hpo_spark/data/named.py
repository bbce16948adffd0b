"""The datasets that are known by name: the digits that ship with scikit-learn, MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpo_spark.data.dataset import Dataset, as_dataset
from hpo_spark.errors import DataError, MissingExtra

__all__ = ["DATA_FOLDER_VARIABLE", "NAMES", "check_npz", "load_digits", "load_npz", "locate"]

DATA_FOLDER_VARIABLE = "HPO_SPARK_DATA"
NAMES = ("digits", "mnist", "fashion_mnist")

_DIGITS_TEST_SHARE = 0.2
_FASHION_FILES = {
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}


def load_digits() -> Dataset:
    """1,797 images of 8 x 8 pixels in [0, 1], ten classes; a fifth of them, the same for every seed, as test part."""
    try:
        from sklearn.datasets import load_digits as load
    except ImportError:
        raise MissingExtra("The dataset 'digits'", "scikit-learn", "sklearn") from None
    bunch = load()
    x, y = (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    n_test = int(len(x) * _DIGITS_TEST_SHARE)
    test, train = np.sort(order[:n_test]), np.sort(order[n_test:])
    return as_dataset(((x[train], y[train]), (x[test], y[test])))


def locate(name: str, path: str | None, folder: str | None) -> Path:
    """Find MNIST or Fashion-MNIST, or have Keras download it.

    Args:
        name: ``mnist`` or ``fashion_mnist``.
        path: An ``.npz`` file to look at first.
        folder: A folder to look into next, ``$HPO_SPARK_DATA``.

    Returns:
        An ``.npz`` file, or the folder of Keras' cache that holds the four files of Fashion-MNIST.

    Raises:
        DataError: Says where it looked and what to do.
    """
    tried = []
    if path is None:
        tried.append("no explicit path was given")
    elif Path(path).is_file():
        return Path(path)
    else:
        tried.append(f"the path {path} is no file")
    if not folder:
        tried.append(f"${DATA_FOLDER_VARIABLE} is not set")
    elif (found := Path(folder) / f"{name}.npz").is_file():
        return found
    else:
        tried.append(f"${DATA_FOLDER_VARIABLE} holds no {found}")
    cached = _in_keras_cache(name)
    if _is_cached(cached):
        return cached
    tried.append(f"Keras' cache holds no {cached}")
    try:
        _download(name)
        if _is_cached(cached):
            return cached
        tried.append("Keras downloaded it to an unknown place")
    except Exception as error:
        tried.append(f"Keras could not download it ({type(error).__name__}: {error})")
    raise DataError(
        f"The dataset {name!r} was not found: {'; '.join(tried)}. "
        f"Put {name}.npz, with x_train, y_train, x_test and y_test, into a folder and set {DATA_FOLDER_VARIABLE} to it."
    )


def load_npz(path: Path, scale_images: bool = True) -> Dataset:
    """Read arrays from an ``.npz`` file, or Keras' folder of Fashion-MNIST.

    Args:
        path: What to read; nothing in it is unpickled.
        scale_images: Whether to turn images of uint8 into float32 in [0, 1].
    """
    try:
        arrays: Mapping[str, Any]
        if path.is_dir():
            arrays = {name: _read_idx(path / file) for name, file in _FASHION_FILES.items()}
        else:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise DataError(f"The file {path} cannot be read as .npz arrays: {error}") from error
    try:
        return as_dataset({name: _ready(array, scale_images) for name, array in arrays.items()})
    except DataError as error:
        raise DataError(f"The file {path} is no dataset: {error}") from error


def check_npz(path: Path) -> None:
    """Find out whether a file can be a dataset, without reading its arrays.

    Raises:
        DataError: If it cannot.
    """
    if not path.is_file():
        raise DataError(f"The data file {path} does not exist on this machine.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = set(archive.files)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"The file {path} cannot be read as .npz arrays: {error}") from error
    if not ({"x", "y"} <= names or {"x_train", "y_train"} <= names):
        raise DataError(f"The file {path} must hold x_train and y_train (or x and y), found {sorted(names)}.")


def _ready(array: Any, scale_images: bool) -> Any:
    if array.dtype != np.uint8:
        return array
    if array.ndim == 1:
        return array.astype(np.int64)  # labels
    return array.astype(np.float32) / np.float32(255) if scale_images and array.ndim >= 3 else array


def _in_keras_cache(name: str) -> Path:
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"
    return home / "fashion-mnist" if name == "fashion_mnist" else home / "mnist.npz"


def _is_cached(path: Path) -> bool:
    # Read from where it lies: Keras would delete a file that is not its own when it cannot download another.
    return path.is_file() or all((path / file).is_file() for file in _FASHION_FILES.values())


def _download(name: str) -> None:
    from keras import datasets

    getattr(datasets, name).load_data()


def _read_idx(path: Path) -> Any:
    """Read an IDX file: a magic number whose last byte counts the dimensions, their sizes, then the bytes."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)
