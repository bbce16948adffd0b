"""Where trials were when they ended, so that a promoted one goes on from there.

    checkpoints/trial-7-attempt-1-step-3    after 3 epochs

The worker writes the file when its trial ends; nothing of it is in the journal. One that is missing costs time only: a
trial then begins from the start, and comes to the same.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hpo_spark.place import Place
from hpo_spark.redaction import redact
from hpo_spark.shelf import Shelf
from hpo_spark.storage import Storage
from hpo_spark.trial import Trial

__all__ = ["Checkpoint", "Checkpoints", "read_checkpoint", "write_checkpoint"]

logger = logging.getLogger(__name__)

_FOLDER = "checkpoints"
_CHECK_BYTES = 4
_NAME = re.compile(r"trial-(\d+)-attempt-(\d+)-step-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """Where an earlier trial of the same configuration was when it ended.

    Attributes:
        step: Epochs that were trained.
        content: What the objective kept.
    """

    step: int
    content: bytes


def write_checkpoint(place: Place, trial: Trial, step: int, content: bytes) -> str | None:
    """Write a trial's checkpoint, on its worker; its file, or None where that does not see the folder."""
    name = f"{_FOLDER}/trial-{trial.number}-attempt-{trial.attempt}-step-{step}"
    try:
        if not place.is_seen():
            return None
        # Not durably: a file that a power failure has spoilt does not fit its check.
        place.storage.write(name, _check_of(content) + content, durable=False)
    except Exception as error:  # whatever it is, the trial has succeeded
        logger.warning("%s/%s cannot be written here: %s", place.storage, name, redact(str(error)))
        return None
    return name


def read_checkpoint(place: Place, name: str) -> Checkpoint | None:
    """Read a checkpoint, on a worker; None where it is not to be had."""
    try:
        if not place.is_seen():
            return None
        written = place.storage.read(name)
    except Exception as error:
        logger.warning("%s/%s cannot be read here: %s", place.storage, name, redact(str(error)))
        return None
    check, content = written[:_CHECK_BYTES], written[_CHECK_BYTES:]
    if check != _check_of(content):
        logger.warning("%s/%s is damaged; its trial begins from the start", place.storage, name)
        return None
    return Checkpoint(_step_of(name), content)


class Checkpoints:
    """The checkpoints of a search, on its driver.

    Args:
        storage: The folder, as workers see it.
    """

    def __init__(self, storage: Storage) -> None:
        self._shelf = Shelf(storage, _FOLDER)
        self._names: dict[int, str] = {}

    def open(self, attempts: Mapping[int, int]) -> None:
        """Find those of trials that have ended, and remove what is nobody's.

        Args:
            attempts: The attempt in which each ended, by number.
        """
        self._names = self._shelf.of_trials(_NAME, attempts)
        self._shelf.sweep(_NAME.fullmatch, self._names.values())

    def receive(self, trial: Trial, name: str | None) -> None:
        """Know the checkpoint of a trial that has ended."""
        if name is not None:
            self._names[trial.number] = name

    def name_of(self, number: int | None) -> str | None:
        """The file of a trial's checkpoint; None where it has none."""
        return None if number is None else self._names.get(number)

    def step_of(self, number: int | None) -> int:
        """Epochs that a trial's checkpoint saves; 0 where it has none."""
        name = self.name_of(number)
        return 0 if name is None else _step_of(name)

    def drop(self, numbers: Iterable[int]) -> None:
        """Remove the checkpoints of trials that nothing will continue from."""
        for number in numbers:
            if (name := self._names.pop(number, None)) is not None:
                self._shelf.remove(name)

    def close(self, keeps: bool) -> None:
        """Remove what is nobody's, and where nothing will be promoted any more all."""
        if not keeps:
            self.drop(list(self._names))
        self._shelf.sweep(_NAME.fullmatch, self._names.values())


def _check_of(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECK_BYTES, "big")


def _step_of(name: str) -> int:
    match = _NAME.fullmatch(name.rpartition("/")[2])
    assert match is not None
    return int(match[3])
