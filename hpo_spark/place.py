"""The run folder, as workers may see it."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_spark.storage import Storage
from hpo_spark.storage.local import LocalStorage

__all__ = ["Place", "as_seen_by_workers"]


@dataclass(frozen=True)
class Place:
    """A folder that a worker sees or does not; picklable.

    Attributes:
        storage: The folder.
        probe: The file there that tells that it is the driver's: it has a random name, and is removed at the end.
    """

    storage: Storage
    probe: str

    def is_seen(self) -> bool:
        """Whether this process sees the folder, and its search runs."""
        return self.storage.exists(self.probe)


def as_seen_by_workers(storage: Storage) -> Storage:
    """The same folder for processes that have working folders of their own."""
    return LocalStorage(storage.path.absolute()) if isinstance(storage, LocalStorage) else storage
