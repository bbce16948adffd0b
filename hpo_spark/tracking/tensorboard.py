"""TensorBoard: an event file for each trial, and what its HParams plug-in shows them by.

    tensorboard/events.out.tfevents.0000000000.hpo_spark                              what is searched and measured
    tensorboard/trial-7,learning_rate=0.01,units=64/events.out.tfevents.START.hpo_spark    a trial

A file is written when its trial has ended, as a whole and under a name of its own: written once more it takes its own
place. So it lies in a run folder of any kind, and TensorBoard reads it there where it knows the file system.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, ClassVar

from hpo_spark.errors import MissingExtra
from hpo_spark.parameters import Parameter
from hpo_spark.results.columns import value_columns
from hpo_spark.storage import Storage
from hpo_spark.tracking.base import Outcome, StudyFacts, Tracker
from hpo_spark.tracking.names import folder_of
from hpo_spark.tracking.series import series_of
from hpo_spark.trial import Trial

__all__ = ["TensorBoardTracker"]

_FOLDER = "tensorboard"


class TensorBoardTracker(Tracker):
    """Writes ``tensorboard/`` in the run folder."""

    name: ClassVar[str] = "tensorboard"
    needs_folder: ClassVar[bool] = True

    def __init__(self) -> None:
        self._facts: StudyFacts | None = None
        self._folder: Storage | None = None
        self._space: dict[str, Parameter] = {}
        self._metrics: dict[str, None] = {}
        self._n_declared = 0

    def check(self) -> None:
        """Raise unless tensorboard is installed."""
        if find_spec("tensorboard") is None:
            raise MissingExtra("tracking: tensorboard", "tensorboard", "tensorboard")

    def describe(self) -> str | dict[str, Any]:
        """Its entry in a study file."""
        return self.name

    def open(self, facts: StudyFacts, folder: Storage | None, goes_on: bool) -> None:
        """Write what is searched."""
        assert folder is not None
        self._facts, self._folder = facts, folder
        self._space = {name: facts.space[name] for name in facts.space}
        self._metrics |= dict.fromkeys(value_columns(len(facts.directions)))
        self._declare()

    def write(self, trial: Trial) -> None:
        """Write a trial's file, where there is none."""
        from hpo_spark.tracking.events import trial_file

        assert self._facts is not None and self._folder is not None
        series = series_of(trial, self._facts)
        self._metrics |= dict.fromkeys(series)
        name = _file_of(trial)
        if not self._folder.exists(name):
            self._folder.write(name, trial_file(trial, self._space, series, self._facts.began))
            self.n_written += 1
        if len(self._metrics) >= 2 * self._n_declared:  # and not each time that a new one comes
            self._declare()

    def close(self, outcome: Outcome) -> None:
        """Have all that was measured be a column."""
        if len(self._metrics) > self._n_declared:
            self._declare()

    def forget(self, folder: Storage, trials: list[Trial]) -> None:
        """Remove the files of trials."""
        for trial in trials:
            folder.remove(_file_of(trial))

    @property
    def place(self) -> str:
        """The folder."""
        return f"{self._folder}/{_FOLDER}"

    def _declare(self) -> None:
        from hpo_spark.tracking.events import experiment_file

        assert self._facts is not None and self._folder is not None
        metrics = list(self._metrics)
        content = experiment_file(self._space, metrics, self._facts.name, self._facts.began)
        self._folder.write(f"{_FOLDER}/{_event_file(0.0)}", content)
        self._n_declared = len(metrics)


def _file_of(trial: Trial) -> str:
    return f"{_FOLDER}/{folder_of(trial)}/{_event_file(trial.started or 0.0)}"


def _event_file(at: float) -> str:
    return f"events.out.tfevents.{int(at):010d}.hpo_spark"
