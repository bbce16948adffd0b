"""Files beside the record: models, checkpoints, reports. Trouble with one is a warning, and the search goes on."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping

from hpo_spark.redaction import redact
from hpo_spark.storage import Storage
from hpo_spark.storage.local import LocalStorage

__all__ = ["Shelf"]

logger = logging.getLogger(__name__)


class Shelf:
    """One folder of such files in a run folder, on the driver.

    Args:
        storage: The run folder, as workers see it.
        folder: Its name there.
    """

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage = storage
        self._folder = folder

    def files(self) -> list[str]:
        """Names of its files, without the folder's."""
        try:
            return self._storage.names(self._folder)
        except OSError as error:
            logger.warning("%s/%s cannot be read: %s", self._storage, self._folder, redact(str(error)))
            return []

    def of_trials(self, name: re.Pattern[str], attempts: Mapping[int, int]) -> dict[int, str]:
        """The files of trials that have ended, by number; of each trial that of its last attempt.

        Args:
            name: Matches a file's name, with the trial's number and the attempt as its first groups.
            attempts: The attempt in which each trial ended, by number.
        """
        found = ((file, name.fullmatch(file)) for file in self.files())
        return {
            int(match[1]): f"{self._folder}/{file}"
            for file, match in found
            if match and attempts.get(int(match[1])) == int(match[2])
        }

    def write(self, name: str, content: bytes) -> bool:
        """Write a file of the run folder; whether that went well."""
        return self._try("written", name, lambda: self._storage.write(name, content))

    def remove(self, name: str) -> None:
        """Remove a file of the run folder."""
        self._try("removed", name, lambda: self._storage.remove(name))

    def sweep(self, is_ours: Callable[[str], object], kept: Collection[str] = ()) -> None:
        """Remove what is nobody's, and what was being written when its process was killed.

        Args:
            is_ours: Tells by a file's name whether it may be removed.
            kept: Files of the run folder that stay.
        """
        kept = set(kept)
        for file in self.files():
            if is_ours(file) and f"{self._folder}/{file}" not in kept:
                self.remove(f"{self._folder}/{file}")
        if isinstance(self._storage, LocalStorage):
            for draft in (self._storage.path / self._folder).glob(".trial-*"):
                self.remove(f"{self._folder}/{draft.name}")

    def _try(self, what: str, name: str, act: Callable[[], None]) -> bool:
        try:
            act()
        except OSError as error:
            logger.warning("%s/%s cannot be %s: %s", self._storage, name, what, redact(str(error)))
            return False
        return True
