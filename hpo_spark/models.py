"""The trained models of a search: from the worker that trained one to its place in the run folder.

    models/trial-7-attempt-1.keras    one for each trial that is worth it; .weights.h5 where Keras cannot save it whole,
                                      .joblib of scikit-learn
    best/model.keras                  the best trial's, as a second name of the same file where there are such names

A small model comes back with its trial's result, and the driver writes it. A large one is written by the worker, under
its trial and attempt, so that two processes with the same trial never write the same file. A worker must see the folder
for that, which it knows by a probe: a file with a random name that the driver writes first and removes last. So a
worker that outlives its search writes nothing more either.
"""

from __future__ import annotations

import logging
import re
import secrets
import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from hpo_spark.place import Place, as_seen_by_workers
from hpo_spark.redaction import redact
from hpo_spark.shelf import Shelf
from hpo_spark.storage import Storage
from hpo_spark.trial import Trial

__all__ = ["MAX_RETURNED_BYTES", "SUFFIXES", "KeptModels", "ModelPlace", "Models", "Sent", "suffix_of"]

logger = logging.getLogger(__name__)

# What Spark's driver takes of a result without a thought; `spark.driver.maxResultSize` is for all of them together.
MAX_RETURNED_BYTES = 4_000_000

_FOLDER = "models"
# How the names of models' files end.
SUFFIXES = (".keras", ".weights.h5", ".joblib")
_NAME = re.compile(rf"trial-(\d+)-attempt-(\d+)(?:{'|'.join(map(re.escape, SUFFIXES))})")
_PROBE = re.compile(r"probe-[0-9a-f]+")
_ZIP, _PICKLE = b"PK", b"\x80"


def suffix_of(model: bytes) -> str:
    """How the name of a model's file ends."""
    if model.startswith(_PICKLE):
        return ".joblib"
    return ".keras" if model.startswith(_ZIP) else ".weights.h5"


def _name_of(trial: Trial, model: bytes) -> str:
    return f"{_FOLDER}/trial-{trial.number}-attempt-{trial.attempt}{suffix_of(model)}"


@dataclass(frozen=True)
class Sent:
    """How a model leaves its worker: one of the three.

    Attributes:
        content: With the result.
        name: As this file of the run folder.
        problem: Not at all, and why.
    """

    content: bytes | None = None
    name: str | None = None
    problem: str | None = None


class ModelPlace(Place):
    """The run folder, as workers may write models to it."""

    def send(self, trial: Trial, model: bytes) -> Sent:
        """Send a trial's model to the driver, or write it."""
        if len(model) <= MAX_RETURNED_BYTES:
            return Sent(content=model)
        size = f"{len(model) / 1e6:.1f} MB"
        try:
            if not self.is_seen():
                return Sent(problem=f"it has {size}, and {socket.gethostname()} does not see {self.storage}")
            name = _name_of(trial, model)
            self.storage.write(name, model)
        except Exception as error:  # whatever it is, the trial has succeeded
            why = redact(f"{type(error).__name__}: {error}")
            return Sent(problem=f"it has {size}, and {socket.gethostname()} cannot write it to {self.storage}: {why}")
        return Sent(name=name)

    def read(self, name: str) -> bytes | None:
        """A file of the run folder; None where this process does not see it."""
        try:
            return self.storage.read(name) if self.is_seen() else None
        except Exception as error:
            logger.warning("%s/%s cannot be read here: %s", self.storage, name, redact(str(error)))
            return None


@dataclass(frozen=True)
class KeptModels:
    """The models that a search has kept; large ones stay where they are until somebody reads them.

    Attributes:
        storage: The run folder; None where all is in memory.
        names: Their files there, by the numbers of their trials.
        held: Their contents, where all is in memory.
        best: The file of the best trial's model, or of what was trained in its stead; None where there is none.
    """

    storage: Storage | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    held: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    best: str | None = None

    def read(self, number: int) -> bytes | None:
        """A trial's model; None where it has none, or its file has gone."""
        return self.held.get(number) or self.read_file(self.names.get(number))

    def read_file(self, name: str | None) -> bytes | None:
        """A file of the run folder; None where there is none."""
        if name is None or self.storage is None:
            return None
        try:
            return self.storage.read(name)
        except FileNotFoundError:
            return None


class Models:
    """The models of a search, on its driver.

    None of them is the record, which is the journal: one that cannot be written or removed is a warning.

    Args:
        storage: The run folder; None to keep all in memory.
    """

    def __init__(self, storage: Storage | None) -> None:
        self._storage = None if storage is None else as_seen_by_workers(storage)
        self._shelf = None if self._storage is None else Shelf(self._storage, _FOLDER)
        self.place = None if self._storage is None else ModelPlace(self._storage, f"{_FOLDER}/{_new_probe()}")
        self._names: dict[int, str] = {}
        self._held: dict[int, bytes] = {}
        self._problems: dict[int, str] = {}
        self._settled: set[int] = set()
        self._is_open = False

    def open(self, attempts: Mapping[int, int]) -> None:
        """Find what the folder holds already, remove what is nobody's, and let workers write.

        Args:
            attempts: The attempt in which each trial ended, by number.
        """
        self._is_open = True
        if self._shelf is None or self.place is None:
            return
        self._names = self._shelf.of_trials(_NAME, attempts)
        self._sweep(self._shelf)
        self._shelf.write(self.place.probe, b"hpo_spark\n")

    def receive(self, trial: Trial, sent: Sent, is_wanted: bool) -> None:
        """Keep the model of a trial that has just ended, before the record says that it has.

        Args:
            trial: The trial.
            sent: How its model left the worker.
            is_wanted: Whether the trial leads; otherwise its model is let go of.
        """
        if sent.problem is not None:
            self._problems[trial.number] = sent.problem
        elif sent.name is not None:
            self._names[trial.number] = sent.name  # also of a loser: its file is to be removed
        elif sent.content is not None and is_wanted:
            if self._shelf is None:
                self._held[trial.number] = sent.content
                return
            name = _name_of(trial, sent.content)
            if self._shelf.write(name, sent.content):
                self._names[trial.number] = name
            else:
                self._problems[trial.number] = f"it could not be written to {self._storage}"

    def settle(self, ended: Iterable[int], keepers: Collection[int]) -> None:
        """Remove the models of the losers.

        Args:
            ended: Numbers of trials that have been dealt with.
            keepers: Numbers of those trials whose models are kept. What is not dealt with yet stays too.
        """
        self._settled.update(ended)
        for number in self._settled - set(keepers):
            self._held.pop(number, None)
            self._problems.pop(number, None)
            if (name := self._names.pop(number, None)) is not None and self._shelf is not None:
                self._shelf.remove(name)
        self._settled.intersection_update(keepers)

    def name_of(self, number: int) -> str | None:
        """The file of a trial's model; None where it has none."""
        return self._names.get(number)

    def put_back(self, number: int, name: str | None) -> None:
        """Have a trial's model be what it was before it was trained again: a file, or None for none."""
        if name is None:
            self._names.pop(number, None)
        else:
            self._names[number] = name

    def has(self, number: int) -> bool:
        """Whether a trial's model is here."""
        return number in self._names or number in self._held

    def problem_of(self, number: int) -> str | None:
        """Why a trial's model is not here; None where it has none, or it is."""
        return self._problems.get(number)

    def kept(self, best: str | None = None) -> KeptModels:
        """What is kept now.

        Args:
            best: File of the best model.
        """
        return KeptModels(self._storage, dict(self._names), dict(self._held), best)

    def close(self) -> None:
        """Let workers write nothing more, and remove what is nobody's."""
        if self._is_open and self._shelf is not None and self.place is not None:
            self._is_open = False
            self._shelf.remove(self.place.probe)
            self._sweep(self._shelf)

    def _sweep(self, shelf: Shelf) -> None:
        """Remove the models of no trial: those of attempts that nobody waited for."""
        shelf.sweep(lambda file: _NAME.fullmatch(file) or _PROBE.fullmatch(file), self._names.values())


def _new_probe() -> str:
    return f"probe-{secrets.token_hex(8)}"
