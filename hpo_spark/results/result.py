"""What a study found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hpo_spark.errors import EvaluationError
from hpo_spark.stopping import count_epochs
from hpo_spark.trial import Trial, TrialState

__all__ = ["Result", "best_first", "rank"]


@dataclass(frozen=True)
class Result:
    """The outcome of a study.

    Attributes:
        name: The study's name.
        directions: ``"minimize"`` or ``"maximize"``, one an objective.
        trials: All that ended, by number.
        state: ``"finished"``, ``"interrupted"``, or ``"failed"`` where no trial succeeded.
        seconds: Wall time of the search.
        slots: Trials that could run at once.
        reason: The rule that ended the search, in words.
        test: Metrics of the best trial's model on the test part; empty where there is none.
        test_error: Why the test part was not evaluated; None where it was, or there is none.
        best_model: The best trial's trained model: content of a ``.keras`` file, or of a ``.weights.h5`` file where
            Keras cannot save it as a whole; None where there is none.
        versions: Of Python and the libraries that matter.
    """

    name: str
    directions: tuple[str, ...]
    trials: list[Trial]
    state: str
    seconds: float
    slots: int
    reason: str
    test: dict[str, float] = field(default_factory=dict)
    test_error: str | None = None
    best_model: bytes | None = field(default=None, repr=False)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def best_trial(self) -> Trial:
        """The trial of the best value; of several objectives the best in the first, and of equal ones the earliest.

        Raises:
            EvaluationError: If no trial succeeded; tells the first cause.
        """
        if not (ranked := best_first(self.trials, self.directions)):
            raise EvaluationError(self.first_cause() or f"The study has no trial: {self.reason}.")
        return ranked[0]

    @property
    def best_trials(self) -> list[Trial]:
        """The trials that no other beats: the Pareto front, or for one objective those of the best value."""
        completed = best_first(self.trials, self.directions)
        losses = [_losses(trial, self.directions) for trial in completed]
        return [
            trial
            for trial, own in zip(completed, losses, strict=True)
            if not any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in losses)
        ]

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials in each state that occurs."""
        return dict(Counter(str(trial.state) for trial in self.trials))

    @property
    def epochs(self) -> int:
        """Epochs trained, over all trials."""
        return count_epochs(self.trials)

    @property
    def slot_use(self) -> float:
        """Share of the slots' time that trials spent running, in [0, 1]."""
        busy = sum(trial.seconds or 0.0 for trial in self.trials)
        return min(1.0, busy / (self.slots * self.seconds)) if self.seconds > 0 else 0.0

    def first_cause(self) -> str | None:
        """Why the first trial without a value has none; None where all have one."""
        for trial in self.trials:
            if trial.state not in (TrialState.COMPLETED, TrialState.CANCELLED):
                others = sum(other.reason == trial.reason for other in self.trials)
                n_failed = sum(other.state not in (TrialState.COMPLETED, TrialState.CANCELLED) for other in self.trials)
                return (
                    f"{n_failed} of {len(self.trials)} trials failed, {others} of them alike. "
                    f"Trial {trial.number}, {trial.params}, {trial.state}: {trial.error}\n"
                    "Run this configuration with SerialExecutor to debug it."
                )
        return (
            f"All {len(self.trials)} trials were cancelled."
            if self.trials and not self.counts.get("COMPLETED")
            else None
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of ``result.json``."""
        ranked = best_first(self.trials, self.directions)
        return {
            "study": self.name,
            "state": self.state,
            "reason": self.reason,
            "directions": list(self.directions),
            "best_trial": _summary(ranked[0]) if ranked else None,
            "best_trials": [_summary(trial) for trial in self.best_trials],
            "counts": self.counts,
            "trials": len(self.trials),
            "epochs": self.epochs,
            "seconds": self.seconds,
            "slots": self.slots,
            "slot_use": self.slot_use,
            "test": self.test,
            "test_error": self.test_error,
            "first_cause": None if ranked else self.first_cause(),
            "versions": self.versions,
        }


def rank(trial: Trial, directions: Sequence[str]) -> tuple[Any, ...]:
    """A key that sorts completed trials from best to worst: objective after objective, then by number."""
    return (*_losses(trial, directions), trial.number)


def best_first(trials: Sequence[Trial], directions: Sequence[str]) -> list[Trial]:
    """The completed trials, best first."""
    completed = [trial for trial in trials if trial.values]
    return sorted(completed, key=lambda trial: rank(trial, directions))


def _losses(trial: Trial, directions: Sequence[str]) -> tuple[float, ...]:
    values = trial.values or []
    return tuple(-value if way == "maximize" else value for value, way in zip(values, directions, strict=True))


def _summary(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "params": trial.params,
        "value": trial.value,
        "values": trial.values,
        "metrics": trial.metrics,
        "seed": trial.seed,
    }
