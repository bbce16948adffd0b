"""Files that tasks map: what `executor.share(path)` answers with, and resolves on the worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hpo_spark.cache import HostCache
from hpo_spark.errors import DataError

__all__ = ["HostPath", "LocalPath", "Shared"]


class Shared(Protocol):
    """A file or a folder of files, wherever a worker finds it; picklable."""

    def resolve(self) -> Path:
        """Its path on this machine."""


@dataclass(frozen=True)
class LocalPath:
    """A path of the one machine that all workers run on."""

    path: Path

    def resolve(self) -> Path:
        """The path as it is."""
        return self.path


@dataclass(frozen=True)
class HostPath:
    """A folder in the cache of each host.

    Attributes:
        key: Its content's digest.
        owner: Whom it is for.
        name: The file in it that is meant; None for the folder.
    """

    key: str
    owner: str
    name: str | None = None

    def find(self) -> Path | None:
        """Its path on this machine, held from now on; None where it is not here yet."""
        folder = HostCache().hold(self.key, self.owner)
        return folder if folder is None or self.name is None else folder / self.name

    def resolve(self) -> Path:
        """The same.

        Raises:
            DataError: If it is not here, as in a process that no task of its executor runs in.
        """
        if (found := self.find()) is None:
            raise DataError(f"The shared files {self.key} are not in the cache of this host, {HostCache().root}.")
        return found
