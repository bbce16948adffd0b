"""What a tracker is: somebody outside of this package who is told of a search, and may be away for a while."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar

from hpo_spark import yaml
from hpo_spark.errors import ConfigError
from hpo_spark.journal import StudyRecord
from hpo_spark.models import SUFFIXES, suffix_of
from hpo_spark.plain import dump_json
from hpo_spark.redaction import redact, redact_all
from hpo_spark.results.columns import csv_of
from hpo_spark.results.result import Result
from hpo_spark.space import SearchSpace
from hpo_spark.storage import Storage
from hpo_spark.trial import Trial

__all__ = ["FILES", "MODELS", "Outcome", "StudyFacts", "Tracker", "cause_of"]

logger = logging.getLogger(__name__)

# What a run folder may hold that is worth to be seen elsewhere.
FILES = ("report.html", "study.yaml", "result.json", "trials.csv", "best/params.yaml")
MODELS = tuple(f"best/model{suffix}" for suffix in SUFFIXES)
_MAX_CAUSE = 300


@dataclass(frozen=True)
class StudyFacts:
    """What trackers know of a search from its beginning on.

    Attributes:
        id: What tells this search from all others, for as long as its journal lives.
        name: The study's name.
        directions: ``"minimize"`` or ``"maximize"``, one an objective.
        space: What is searched.
        description: The study in the form of a study file, without secrets.
        began: When it was begun, in seconds since the epoch.
    """

    id: str
    name: str
    directions: tuple[str, ...]
    space: SearchSpace
    description: Mapping[str, Any]
    began: float

    @classmethod
    def of(cls, record: StudyRecord) -> StudyFacts:
        """The facts of a journal."""
        return cls(
            id=record.id,
            name=record.study["study"]["name"],
            directions=tuple(record.directions),
            space=SearchSpace.from_dict(record.study["space"]),
            description=record.study,
            began=record.began,
        )


@dataclass(frozen=True)
class Outcome:
    """What trackers are told at the end of a search, or of a part of it.

    Attributes:
        state: As in ``result.json``; ``"interrupted"`` too where there is none.
        summary: The content of ``result.json``; empty where there is none.
        read: The content of one of `FILES` or `MODELS`; None where there is none.
    """

    state: str
    summary: Mapping[str, Any] = field(default_factory=dict)
    read: Callable[[str], bytes | None] = field(default=lambda name: None, repr=False)

    @classmethod
    def of_folder(cls, folder: Storage, state: str | None = None) -> Outcome:
        """What a run folder holds.

        Args:
            folder: The folder.
            state: How the search ended; None for what ``result.json`` says.
        """
        content = _read(folder, "result.json")
        try:
            summary = {} if content is None else json.loads(content)
        except ValueError:
            summary = {}
        return cls(state or summary.get("state") or "interrupted", summary, partial(_read, folder))

    @classmethod
    def of_result(cls, result: Result, description: Mapping[str, Any]) -> Outcome:
        """What a search without a run folder has found."""
        summary = result.to_dict()

        def read(name: str) -> bytes | None:
            if name in MODELS:
                model = result.best_model
                return model if model is not None and name.endswith(suffix_of(model)) else None
            texts = {
                "study.yaml": lambda: yaml.dump(redact_all(description)),
                "result.json": lambda: dump_json(summary) + "\n",
                "trials.csv": lambda: csv_of(result.trials),
            }
            return texts[name]().encode(errors="backslashreplace") if name in texts else None

        return cls(result.state, summary, read)


def cause_of(error: BaseException) -> str:
    """An error in a line, without passwords."""
    text = redact(" ".join(str(error).split()) or type(error).__name__)
    return text if len(text) <= _MAX_CAUSE else f"{text[:_MAX_CAUSE]}..."


def _read(folder: Storage, name: str) -> bytes | None:
    try:
        return folder.read(name)
    except OSError:
        return None


class Tracker(ABC):
    """Is told of a search, in one thread, which is not the search's.

    Every method may raise, when what it writes to is away: it is then called again later, with the same, and must write
    nothing twice.

    Attributes:
        name: As in a study file.
        needs_folder: Whether it writes to the run folder.
        n_written: Trials that it has written, which were not there before.
    """

    name: ClassVar[str]
    needs_folder: ClassVar[bool] = False
    n_written: int = 0

    @cached_property
    def left_out(self) -> list[int]:
        """Numbers of the trials that it cannot write at all."""
        return []

    def take(self, trial: Trial) -> None:
        """Write a trial that has ended, or leave it out with a warning: nothing else waits for what never fits."""
        try:
            self.write(trial)
        except ConfigError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            self.left_out.append(trial.number)
            logger.warning("tracking: %s cannot take trial %d: %s", self.place, trial.number, cause_of(error))

    @abstractmethod
    def check(self) -> None:
        """Find out before the search whether it can work; asks no server.

        Raises:
            MissingExtra: If its library is not installed.
            ConfigError: If what it needs to know is missing.
        """

    @abstractmethod
    def describe(self) -> str | dict[str, Any]:
        """Its entry in a study file."""

    @abstractmethod
    def open(self, facts: StudyFacts, folder: Storage | None, goes_on: bool) -> None:
        """Find what is written already.

        Args:
            facts: The search.
            folder: Its run folder; None where all is in memory.
            goes_on: Whether trials will run; else what is missing of a search is written.
        """

    @abstractmethod
    def write(self, trial: Trial) -> None:
        """Write a trial that has ended; harmless where that is done.

        Raises:
            ValueError: (or another of its kind) If it can never be written.
        """

    @abstractmethod
    def close(self, outcome: Outcome) -> None:
        """Write what is known at the end."""

    def forget(self, folder: Storage, trials: list[Trial]) -> None:
        """Remove from a run folder what is there of trials that another search left, in whose place this one begins."""
        return

    @property
    def place(self) -> str:
        """Where it writes to, for messages; without passwords."""
        return self.name
