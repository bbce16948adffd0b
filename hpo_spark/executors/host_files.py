"""Files that an executor shares with the hosts of a cluster, on the driver.

They lie in the cache of the driver's own host, where workers beside it find them. A task that does not find them says
so, the cache of its host is then filled, and the task is run again. How the files travel is a subclass's business.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hpo_spark.cache import HostCache, files_of, new_owner
from hpo_spark.errors import DataError
from hpo_spark.executors.shared import HostPath

__all__ = ["RELEASE_S", "Content", "FillTask", "HostFiles", "ReleaseTask"]

# Releasing what lies on the hosts must not hold up the end of a search for long.
RELEASE_S = 15.0
# Its tasks last so long, so that Spark does not give them all to the quickest executor.
_SPREAD_S = 0.2


class Content(Protocol):
    """The files of a folder on their way to a host; picklable."""

    @property
    def path(self) -> HostPath:
        """Where they go."""

    @property
    def n_bytes(self) -> int:
        """Their sizes, together."""

    def write(self, folder: Path) -> None:
        """Write the files, on a worker."""


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


class HostFiles:
    """What an executor shares."""

    def __init__(self) -> None:
        self._paths: dict[HostPath, Path] = {}
        self._is_away: set[str] = set()  # owners of what may lie on other hosts
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

    def release(self, owner: str | None, run: Callable[[ReleaseTask], list[tuple[str, int]]], n_executors: int) -> None:
        """Share an owner's files no more, and remove them from all hosts, as far as these answer in time.

        Args:
            owner: Whose files; None for all.
            run: Runs a task on all slots.
            n_executors: How many there are.
        """
        with self._lock:
            gone = [shared for shared in self._paths if owner in (None, shared.owner)]
            for shared in gone:
                del self._paths[shared]
            self._forget(gone)
            away = {one for one in self._is_away if owner in (None, one)}
            self._is_away -= away
        deadline = time.monotonic() + RELEASE_S
        for one in away:
            answered: set[tuple[str, int]] = set()
            # What is left, where slots are taken or the session is gone, is removed when it is stale.
            with contextlib.suppress(Exception):
                while len(answered) < n_executors and time.monotonic() < deadline:
                    answered.update(run(ReleaseTask(one)))
        for one in {*away, *(shared.owner for shared in gone)}:
            HostCache().release(one)

    def _forget(self, gone: Sequence[HostPath]) -> None:
        """Let go of what was prepared for the way of files that are shared no more."""
