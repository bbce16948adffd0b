"""Files on their way to the hosts of a Spark cluster.

The driver puts them into the cache of its own host, where workers beside it find them. A task that does not find them
says so, a small job then fills the cache of a host, and the task is run again. What travels is a broadcast, in pieces:
Spark hands it from executor to executor, needs no shared storage and opens no port of ours, and executors forget it as
soon as the files are written. ``SparkContext.addFile`` would keep a copy for each executor, and for ever.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_spark.cache import HostCache, files_of, new_owner
from hpo_spark.errors import DataError
from hpo_spark.executors.shared import HostPath

if TYPE_CHECKING:
    from pyspark import Broadcast, SparkContext

__all__ = ["RELEASE_S", "Content", "FillTask", "ReleaseTask", "SparkFiles"]

# A broadcast is read into memory as a whole, on the driver and in the process that fills a cache.
_PIECE_BYTES = 1 << 26
# Releasing what lies on the hosts must not hold up the end of a search for long.
RELEASE_S = 15.0
# Its tasks last so long, so that Spark does not give them all to the quickest executor.
_SPREAD_S = 0.2


@dataclass(frozen=True)
class Content:
    """The files of a folder, as broadcasts of their pieces.

    Attributes:
        path: Where they go.
        n_bytes: Their sizes, together.
        files: Name and pieces of each.
    """

    path: HostPath
    n_bytes: int
    files: tuple[tuple[str, tuple[Broadcast[bytes], ...]], ...]

    def write(self, folder: Path) -> None:
        """Write the files, on a worker."""
        for name, pieces in self.files:
            with (folder / name).open("wb") as file:
                for piece in pieces:
                    file.write(piece.value)
                    vars(piece).pop("_value", None)  # pyspark would keep it as long as the worker lives


@dataclass(frozen=True)
class FillTask:
    """Fills the cache of the host that it happens to run on."""

    contents: tuple[Content, ...]

    def __call__(self, partition: Iterator[Any]) -> Iterator[Any]:
        """Run it as a task of its own."""
        for _ in partition:
            pass
        with contextlib.suppress(DataError, OSError):  # the task that needs the files will say why they are missing
            self.write()
        return iter(())

    def write(self) -> None:
        """Fill it, unless it is filled."""
        for content in self.contents:
            HostCache().fill(content.path.key, content.path.owner, content.n_bytes, content.write)


@dataclass(frozen=True)
class ReleaseTask:
    """Releases an owner's folders on the hosts that it happens to run on; answers with host and executor."""

    owner: str

    def __call__(self, partition: Iterator[Any]) -> Iterator[tuple[str, int]]:
        """Run it, slowly enough for Spark to use other executors too."""
        for _ in partition:
            HostCache().release(self.owner)
            time.sleep(_SPREAD_S)
            yield socket.gethostname(), os.getppid()  # Spark's daemon, one for each executor


class SparkFiles:
    """What an executor shares, on the driver.

    Args:
        context: The Spark context.
    """

    def __init__(self, context: SparkContext) -> None:
        self._context = context
        self._paths: dict[HostPath, Path] = {}
        self._contents: dict[HostPath, Content] = {}
        self._is_away: set[str] = set()  # owners of what may lie on other hosts
        self._n_filling = 0
        self._lock = threading.RLock()

    @property
    def shared(self) -> tuple[HostPath, ...]:
        """What each task must find on its host."""
        with self._lock:
            return tuple(self._paths)

    def add(self, path: str | os.PathLike[str], owner: str | None) -> HostPath:
        """Share a file or a folder of files."""
        cache, source = HostCache(), Path(path).absolute()
        files = files_of(source)
        n_bytes = sum(file.stat().st_size for file in files)
        shared = HostPath(cache.key_of(source), owner or new_owner(), None if source.is_dir() else source.name)

        def copy(folder: Path) -> None:
            for file in files:
                shutil.copyfile(file, folder / file.name)

        folder = cache.fill(shared.key, shared.owner, n_bytes, copy)
        with self._lock:
            self._paths[shared] = folder
        return shared

    def expect(self, owner: str) -> None:
        """Have `release` go to all hosts: tasks write files of this owner there themselves."""
        with self._lock:
            self._is_away.add(owner)

    @contextlib.contextmanager
    def filling(self) -> Iterator[FillTask]:
        """What fills the cache of a host, for a ``with`` block that runs it; executors forget it at the end."""
        with self._lock:
            self._n_filling += 1
            contents = tuple(self._content(shared) for shared in self._paths)
        try:
            yield FillTask(contents)
        finally:
            with self._lock:
                for content in contents:
                    self._is_away.add(content.path.owner)
                self._n_filling -= 1
                if not self._n_filling:  # else it would be taken from under the hands of another
                    _each_piece(contents, lambda piece: piece.unpersist(blocking=False))

    def release(self, owner: str | None, run: Callable[[ReleaseTask], list[tuple[str, int]]], n_executors: int) -> None:
        """Share an owner's files no more, and remove them from all hosts, as far as these answer in time.

        Args:
            owner: Whose files; None for all.
            run: Runs a task as a Spark job on all slots.
            n_executors: How many there are.
        """
        with self._lock:
            gone = [shared for shared in self._paths if owner in (None, shared.owner)]
            contents = [self._contents.pop(shared) for shared in gone if shared in self._contents]
            for shared in gone:
                del self._paths[shared]
            away = {one for one in self._is_away if owner in (None, one)}
            self._is_away -= away
        _each_piece(contents, lambda piece: piece.destroy())
        deadline = time.monotonic() + RELEASE_S
        for one in away:
            answered: set[tuple[str, int]] = set()
            # What is left, where slots are taken or the session is gone, is removed when it is stale.
            with contextlib.suppress(Exception):
                while len(answered) < n_executors and time.monotonic() < deadline:
                    answered.update(run(ReleaseTask(one)))
        for one in {*away, *(shared.owner for shared in gone)}:
            HostCache().release(one)

    def _content(self, shared: HostPath) -> Content:
        known = self._contents.get(shared)
        if known is None:
            files = files_of(self._paths[shared])
            n_bytes = sum(file.stat().st_size for file in files)
            pieces = tuple((file.name, tuple(map(self._context.broadcast, _pieces(file)))) for file in files)
            known = self._contents[shared] = Content(shared, n_bytes, pieces)
        return known


def _each_piece(contents: Iterable[Content], act: Callable[[Broadcast[bytes]], None]) -> None:
    for content in contents:
        for _, pieces in content.files:
            for piece in pieces:
                with contextlib.suppress(Exception):  # the session is gone, and the broadcast with it
                    act(piece)


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            yield piece
