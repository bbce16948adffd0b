"""How a dataset is had: what travels with an objective until its data is put in place."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hpo_spark.redaction import redact

__all__ = ["Recipe", "digest_of_arrays", "digest_of_files", "reason"]

# Of a larger file its size and both ends count.
_END_BYTES = 1 << 20


class Recipe(ABC):
    """A way to a dataset; picklable.

    Attributes:
        describe: How messages call the data, without passwords.
        where: Who follows the recipe: the ``driver``, for all; one process of each ``host``; or each ``process``.
        is_split: Whether what it gives is split already.
    """

    describe: str
    where: Literal["driver", "host", "process"] = "driver"
    is_split: bool = False

    @abstractmethod
    def load(self) -> Any:
        """What `as_dataset` takes."""

    def prepare(self) -> None:  # noqa: B027 - nothing need be done
        """Find out on the driver, before the search, whether the data can be had.

        Raises:
            DataError: If it cannot.
        """

    def digest(self) -> str | None:
        """Tells the data from what it was at another time; None where that cannot be told."""
        return None

    def key(self) -> str | None:
        """Tells what `load` gives from what any other recipe gives, now or at another time."""
        return self.digest()

    def n_bytes(self) -> int:
        """About how much memory its arrays take, where it can be told without loading them; else 0."""
        return 0


def digest_of_files(*paths: str | os.PathLike[str]) -> str | None:
    """Of some files, of which large ones count with their sizes and ends; None where one cannot be read."""
    digest = blake2b(digest_size=8)
    try:
        for path in map(Path, paths):
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(0)
                digest.update(b"%d" % size + file.read(_END_BYTES))
                file.seek(max(0, size - _END_BYTES))
                digest.update(file.read(_END_BYTES))
    except OSError:
        return None
    return digest.hexdigest()


def digest_of_arrays(arrays: Iterable[Any]) -> str:
    """Of some arrays, of which large ones count with their shapes and ends."""
    digest = blake2b(digest_size=8)
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        rows = max(1, _END_BYTES * len(array) // max(1, array.nbytes))
        digest.update(np.ascontiguousarray(array[:rows]).tobytes() + np.ascontiguousarray(array[-rows:]).tobytes())
    return digest.hexdigest()


def reason(error: BaseException) -> str:
    """The first line of an error, without passwords."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return redact(f"{type(error).__name__}: {lines[0].strip() if lines else ''}")
