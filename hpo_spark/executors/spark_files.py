"""Files on their way to the hosts of a Spark cluster.

What travels is a broadcast, in pieces: Spark hands it from executor to executor, needs no shared storage and opens no
port of ours, and executors forget it as soon as the files are written. ``SparkContext.addFile`` would keep a copy for
each executor, and for ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpo_spark.cache import files_of
from hpo_spark.executors.host_files import FillTask, HostFiles
from hpo_spark.executors.shared import HostPath

if TYPE_CHECKING:
    from pyspark import Broadcast, SparkContext

__all__ = ["SparkFiles"]

# A broadcast is read into memory as a whole, on the driver and in the process that fills a cache.
_PIECE_BYTES = 1 << 26


@dataclass(frozen=True)
class _Broadcasts:
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


class SparkFiles(HostFiles):
    """What an executor shares by broadcasts.

    Args:
        context: The Spark context.
    """

    def __init__(self, context: SparkContext) -> None:
        super().__init__()
        self._context = context
        self._contents: dict[HostPath, _Broadcasts] = {}
        self._n_filling = 0

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

    def _forget(self, gone: Sequence[HostPath]) -> None:
        contents = [self._contents.pop(shared) for shared in gone if shared in self._contents]
        _each_piece(contents, lambda piece: piece.destroy())

    def _content(self, shared: HostPath) -> _Broadcasts:
        known = self._contents.get(shared)
        if known is None:
            files = files_of(self._paths[shared])
            n_bytes = sum(file.stat().st_size for file in files)
            pieces = tuple((file.name, tuple(map(self._context.broadcast, _pieces(file)))) for file in files)
            known = self._contents[shared] = _Broadcasts(shared, n_bytes, pieces)
        return known


def _each_piece(contents: Iterable[_Broadcasts], act: Callable[[Broadcast[bytes]], None]) -> None:
    for content in contents:
        for _, pieces in content.files:
            for piece in pieces:
                with contextlib.suppress(Exception):  # the session is gone, and the broadcast with it
                    act(piece)


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            yield piece
