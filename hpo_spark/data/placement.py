"""A dataset in the caches of the hosts, where trial processes map it.

    KEY/dataset.json        what each file is
    KEY/train-x.npy ...     the arrays, already split

The driver follows the recipe and hands the files to the executor; of Parquet files the first trial process of each host
reads what the search needs, and the others there wait for it.
"""

from __future__ import annotations

import copy
import errno
import inspect
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpo_spark.cache import HostCache, new_owner
from hpo_spark.data.dataset import Dataset, Part
from hpo_spark.data.recipe import Recipe
from hpo_spark.data.source import DataSource
from hpo_spark.errors import DataError
from hpo_spark.executors.base import can_share, fill_on_hosts, share_files, unshare_files
from hpo_spark.executors.shared import Shared

__all__ = ["placed"]

logger = logging.getLogger(__name__)

_INDEX = "dataset.json"
_PARTS = ("train", "validation", "test")
_ARRAYS = ("x", "y", "sample_weight")


@contextmanager
def placed(objective: Any, executor: Executor, seed: int) -> Iterator[Any]:
    """The objective with its data where an executor's workers are, for a ``with`` block.

    Where workers are this process, or data is loaded in each process by its own function, it is the same objective.

    Args:
        objective: What trials run; its data, if it has any, is its attribute ``data``.
        executor: Where they run.
        seed: The study's seed, which the split follows.

    Raises:
        DataError: If the data cannot be had, or there is no room for it.
    """
    source = getattr(objective, "data", None)
    if (
        not isinstance(source, DataSource)
        or source.recipe.where == "process"
        or not can_share(executor)
        or inspect.isroutine(objective)
    ):
        yield objective
        return
    owner = new_owner()
    try:
        other = copy.copy(objective)
        other.data = _placed(source, executor, seed, owner)
        yield other
    finally:
        unshare_files(executor, owner)
        HostCache().release(owner)


def _placed(source: DataSource, executor: Executor, seed: int, owner: str) -> DataSource:
    if source.recipe.where == "host":
        made = _MadeOnHost(source.key(seed), owner, source.recipe.n_bytes(), source, seed)
        fill_on_hosts(executor, owner, made.resolve)
        return DataSource(_Mapped(source.describe, made), keep_bytes=True)
    dataset = source.follow(seed)
    if dataset.is_streamed:
        return source
    cache, n_bytes = HostCache(), sum(array.nbytes for array in dataset.arrays())
    cache.make_room(n_bytes)
    with cache.draft() as draft:
        _write(dataset, draft)
        folder = cache.fill(cache.key_of(draft), owner, 0, lambda place: _move(draft, place))
    shared = share_files(executor, folder, owner)
    assert shared is not None
    logger.info("%s: %.1f MB for each host of the workers", source.describe, n_bytes / 1e6)
    return DataSource(_Mapped(source.describe, shared), keep_bytes=True)


class _Mapped(Recipe):
    """A dataset in the cache of this host.

    Args:
        describe: How messages call it.
        shared: Where it is.
    """

    is_split = True

    def __init__(self, describe: str, shared: Shared) -> None:
        self.describe = describe
        self._shared = shared

    def load(self) -> Dataset:
        return _read(self._shared.resolve())


@dataclass(frozen=True)
class _MadeOnHost:
    """A folder that the first process of a host makes.

    Attributes:
        key: Of the folder.
        owner: Whom it is for.
        n_bytes: About how much it will hold.
        source: What is put there.
        seed: The study's.
    """

    key: str
    owner: str
    n_bytes: int
    source: DataSource
    seed: int

    def resolve(self) -> Path:
        def write(folder: Path) -> None:
            _write(self.source.follow(self.seed), folder)

        return HostCache().fill(self.key, self.owner, self.n_bytes, write)


def _write(dataset: Dataset, folder: Path) -> None:
    index: dict[str, Any] = {}
    try:
        for name in _PARTS:
            if (part := getattr(dataset, name)) is None:
                continue
            index[name] = {"divisor": part.divisor}
            for column in _ARRAYS:
                if (array := getattr(part, column)) is not None:
                    index[name][column] = f"{name}-{column}.npy"
                    np.save(folder / index[name][column], np.ascontiguousarray(array), allow_pickle=False)
        (folder / _INDEX).write_text(json.dumps(index))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"There is no room for the data in {folder.parent}: {error.strerror}.") from None
        raise


def _read(folder: Path) -> Dataset:
    parts: dict[str, Part] = {}
    for name, entry in json.loads((folder / _INDEX).read_text()).items():
        divisor = entry.pop("divisor")
        parts[name] = Part(**{column: _map(folder / file) for column, file in entry.items()}, divisor=divisor)
    return Dataset(**parts)


def _map(file: Path) -> Any:
    """The array in a file, as memory that the processes of this host share."""
    return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))


def _move(source: Path, target: Path) -> None:
    for file in source.iterdir():
        os.replace(file, target / file.name)
