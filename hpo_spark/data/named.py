"""The datasets that are known by name: the digits that ship with scikit-learn, MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np

from hpo_spark.data.dataset import Dataset, as_dataset
from hpo_spark.data.files import NpzFile, dataset_of_arrays
from hpo_spark.data.recipe import Recipe, digest_of_files
from hpo_spark.errors import DataError, MissingExtra

__all__ = ["DATA_FOLDER_VARIABLE", "NAMES", "Digits", "Mnist", "locate"]

DATA_FOLDER_VARIABLE = "HPO_SPARK_DATA"
NAMES = ("digits", "mnist", "fashion_mnist")

_DIGITS_TEST_SHARE = 0.2
_FASHION_FILES = {
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}


class Digits(Recipe):
    """1,797 images of 8 x 8 pixels in [0, 1], ten classes; a fifth of them, the same for every seed, as test part."""

    describe = "digits"

    def load(self) -> Dataset:
        """Take them from scikit-learn."""
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

    def prepare(self) -> None:
        """Find out whether scikit-learn is here."""
        self.load()


class Mnist(Recipe):
    """MNIST or Fashion-MNIST, wherever it is found.

    Args:
        name: ``mnist`` or ``fashion_mnist``.
        path: As for `locate`.
    """

    def __init__(self, name: str, path: str | None = None) -> None:
        self.describe = name
        self._path, self._folder = path, os.environ.get(DATA_FOLDER_VARIABLE)
        self._found: Path | None = None

    def load(self) -> Dataset:
        """Read it."""
        # A worker's own setting goes before the driver's.
        folder = os.environ.get(DATA_FOLDER_VARIABLE) or self._folder
        found = locate(self.describe, None if self._found is None else str(self._found), folder)
        if not found.is_dir():
            return NpzFile(str(found)).load()
        try:
            arrays = {name: _read_idx(found / file) for name, file in _FASHION_FILES.items()}
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"The files of {found} cannot be read: {error}") from error
        return dataset_of_arrays(arrays, f"The folder {found}")

    def prepare(self) -> None:
        """Find it."""
        self._found = locate(self.describe, self._path, self._folder)

    def digest(self) -> str | None:
        """Of its file, once it has been found."""
        if self._found is None:
            return None
        files = [self._found / file for file in _FASHION_FILES.values()] if self._found.is_dir() else [self._found]
        return digest_of_files(*files)


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
