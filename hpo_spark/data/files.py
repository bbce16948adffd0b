"""Datasets in files: arrays in ``.npz`` and ``.npy``, tables in CSV."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpo_spark.data.columns import BYTE_DIVISOR, import_arrow
from hpo_spark.data.dataset import Dataset, Part, as_dataset
from hpo_spark.data.listing import open_file_system
from hpo_spark.data.recipe import Recipe, digest_of_files, reason
from hpo_spark.data.table import TableFiles
from hpo_spark.errors import DataError
from hpo_spark.redaction import redact

__all__ = ["CsvFile", "NpyFiles", "NpzFile", "dataset_of_arrays"]


class NpzFile(Recipe):
    """An ``.npz`` file with ``x_train``, ``y_train`` and so on, or ``x`` and ``y``."""

    def __init__(self, path: str) -> None:
        self.describe = path
        self.path = Path(os.path.abspath(path))

    def load(self) -> Dataset:
        """Read it; nothing in it is unpickled."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
            raise DataError(f"The file {self.path} cannot be read as .npz arrays: {error}") from error
        return dataset_of_arrays(arrays, f"The file {self.path}")

    def prepare(self) -> None:
        """Look for the names of its arrays, without reading these."""
        if not self.path.is_file():
            raise DataError(f"The data file {self.path} does not exist on this machine.")
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                names = set(archive.files)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
            raise DataError(f"The file {self.path} cannot be read as .npz arrays: {error}") from error
        if not ({"x", "y"} <= names or {"x_train", "y_train"} <= names):
            raise DataError(f"The file {self.path} must hold x_train and y_train (or x and y), found {sorted(names)}.")

    def digest(self) -> str | None:
        """Of the file."""
        return digest_of_files(self.path)


class NpyFiles(Recipe):
    """Arrays in ``.npy`` files.

    Args:
        parts: ``[x, y]`` or ``[x, y, weight]`` by ``train``, ``validation`` and ``test``.
    """

    def __init__(self, parts: Mapping[str, Sequence[str]]) -> None:
        self._parts: dict[str, list[Path]] = {}
        for name, paths in parts.items():
            is_list = isinstance(paths, Sequence) and not isinstance(paths, str)
            if not is_list or not 2 <= len(paths) <= 3 or not all(isinstance(path, str | Path) for path in paths):
                raise DataError(f"npy: the {name} part must be the two files [x.npy, y.npy], got {paths!r}.")
            self._parts[name] = [Path(os.path.abspath(path)) for path in paths]
        self.describe = ", ".join(str(path) for path in self._parts["train"])

    def load(self) -> Dataset:
        """Read them; nothing in them is unpickled."""
        arrays = {}
        for part, paths in self._parts.items():
            for letter, path in zip("xyw", paths, strict=False):
                arrays[f"{letter}_{part}"] = _read_npy(path)
        return dataset_of_arrays(arrays, self.describe)

    def prepare(self) -> None:
        """Read the shapes of the arrays, and no more."""
        for paths in self._parts.values():
            rows = {str(path): len(_read_npy(path, "r")) for path in paths}
            if len(set(rows.values())) > 1:
                raise DataError(f"Arrays that belong together must have as many rows, got {rows}.")

    def digest(self) -> str | None:
        """Of all the files."""
        return digest_of_files(*(path for paths in self._parts.values() for path in paths))


class CsvFile(TableFiles):
    """A CSV file with a line of names; a name that ends in ``.gz`` is unpacked.

    Args:
        url, columns, test: As for `TableFiles`.
    """

    def prepare(self) -> None:
        """Find out whether there is a file, and whether it can be read at all."""
        import_arrow("Reading CSV")
        super().prepare()

    def _part(self, url: str) -> Part:
        pa = import_arrow("Reading CSV")
        file_system, path = open_file_system(url)
        try:
            with file_system.open(path, "rb", compression="infer") as file:
                table = pa.csv.read_csv(file)
        except Exception as error:
            raise DataError(f"{redact(url)} cannot be read as CSV: {reason(error)}") from None
        columns = self._columns.resolved(table.column_names, redact(url))
        if columns.where:
            table = table.filter(pa.parquet.filters_to_expression([*columns.where]))
        return columns.part(table, redact(url))


def dataset_of_arrays(arrays: Mapping[str, Any], where: str) -> Dataset:
    """Arrays by name as a dataset: labels of bytes become int64, images of bytes get a divisor.

    Raises:
        DataError: If they are none.
    """
    is_bytes = {name for name, array in arrays.items() if array.dtype == np.uint8}
    flat = {
        name: array.astype(np.int64) if name in is_bytes and array.ndim == 1 else array
        for name, array in arrays.items()
    }
    try:
        return as_dataset(flat)._map(_with_divisor)
    except DataError as error:
        raise DataError(f"{where} is no dataset: {error}") from error


def _with_divisor(part: Part) -> Part:
    is_image = part.x.dtype == np.uint8 and part.x.ndim >= 3
    return Part(part.x, part.y, part.sample_weight, BYTE_DIVISOR) if is_image else part


def _read_npy(path: Path, mmap_mode: Any = None) -> Any:
    try:
        return np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"The data file {path} does not exist on this machine.") from None
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise DataError(f"The file {path} cannot be read as an .npy array: {error}") from None
