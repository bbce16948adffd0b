"""A trial: one configuration and its outcome, in plain values that pickle, journal and compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from hpo_spark.plain import restore_float

__all__ = ["CONFIRM", "INTERRUPTED", "Trial", "TrialState"]

# What the origin of a repeat is by.
CONFIRM = "confirm"

# The error of a trial that only the end of its search has ended.
INTERRUPTED = "Interrupted: the search ended before this trial did. It runs again when the search is resumed."


class TrialState(StrEnum):
    """Where a trial stands, or how it ended."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    """The objective raised, or returned what is no finite number."""
    PRUNED = "PRUNED"
    """It was stopped early, since others were better at the same step."""
    TIMED_OUT = "TIMED_OUT"
    CRASHED = "CRASHED"
    """Its process died."""
    CANCELLED = "CANCELLED"

    @property
    def is_failure(self) -> bool:
        """Whether it speaks against the configuration: neither success, nor stopped on purpose."""
        return self in (TrialState.FAILED, TrialState.TIMED_OUT, TrialState.CRASHED)


@dataclass(frozen=True)
class Trial:
    """One configuration and its outcome.

    Attributes:
        number: Counts from 0, in the order of asking.
        params: The configuration; active parameters only.
        seed: Seed of all that is random in this trial, from the study's seed and the number.
        fidelity: Epochs to train in all; None where the objective decides.
        parent: Number of the trial whose checkpoint it continues; None for none.
        state: How it ended.
        values: One number an objective; None unless completed.
        metrics: Everything that the objective measured, by name.
        thresholds: What stops it early, as `hpo_spark.pruners.Thresholds` has it; None for nothing. It travels with the
            trial, and is recorded when that is asked for.
        group: Where several trials are one task: the number of the first of them, and how many they are; None for a
            trial that is evaluated alone.
        curve: What it reported on its way: ``[step, value]`` pairs; what it was stopped at too.
        started: When the evaluation began on its worker, seconds since the epoch; None if it never did.
        seconds: How long it took there; of several tasks, such as the folds of a cross-validation, all together.
        host: Name of the worker's host; of several tasks that of the first.
        spans: Where it was several tasks: ``[host, started, seconds]`` of each; empty where it was one.
        attempt: 1, or more where a process died and the trial was run again.
        error: What went wrong: the exception in the first line, then the worker's traceback.
        origin: Where the searcher took the configuration from; of a repeat, which trial of the search it repeats.
        token: What the searcher must know again when it is told; JSON.
    """

    number: int
    params: dict[str, Any]
    seed: int
    fidelity: int | None = None
    parent: int | None = None
    state: TrialState = TrialState.RUNNING
    values: list[float] | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    curve: list[list[float]] = field(default_factory=list)
    started: float | None = None
    seconds: float | None = None
    host: str | None = None
    spans: list[list[Any]] = field(default_factory=list)
    attempt: int = 1
    error: str | None = None
    origin: dict[str, Any] | None = None
    token: Any = None
    thresholds: dict[str, Any] | None = None
    group: list[int] | None = None

    @property
    def value(self) -> float | None:
        """The value of the (first) objective; None unless completed."""
        return self.values[0] if self.values else None

    @property
    def repeat(self) -> int | None:
        """Which repeat of its configuration it is, from 1; None for a trial of the search."""
        return self._confirms.get("repeat")

    @property
    def repeat_of(self) -> int | None:
        """Number of the search's trial that it repeats with another seed; None for a trial of the search."""
        return self._confirms.get("of")

    @property
    def _confirms(self) -> dict[str, Any]:
        origin = self.origin or {}
        return origin if origin.get("by") == CONFIRM else {}

    @property
    def tasks(self) -> list[tuple[str, float, float]]:
        """Host, start in seconds since the epoch, and seconds of each task that ran for it; empty where none did."""
        if self.spans:
            return [(host, started, seconds) for host, started, seconds in self.spans]
        ran = self.started is not None and self.seconds is not None
        return [(self.host or "", self.started or 0.0, self.seconds or 0.0)] if ran else []

    @property
    def ended(self) -> float | None:
        """When its last task ended, seconds since the epoch; None where it never ran."""
        return max((started + seconds for _, started, seconds in self.tasks), default=None)

    @property
    def tells_nothing(self) -> bool:
        """Whether its end says nothing of its configuration: it was cancelled, or its executor was lost."""
        is_lost = self.state is TrialState.CRASHED and (self.error or "").startswith("ExecutorLost:")
        return is_lost or self.state is TrialState.CANCELLED

    @property
    def is_unfinished(self) -> bool:
        """Whether only the end of its search has ended it: a search that is resumed runs it again."""
        return self.state is TrialState.RUNNING or self.error == INTERRUPTED

    @property
    def reason(self) -> str | None:
        """The first line of the error."""
        return self.error.strip().splitlines()[0] if self.error and self.error.strip() else None

    def as_asked(self) -> Trial:
        """The trial as it was when it was asked for."""
        kept = ("number", "params", "seed", "fidelity", "parent", "origin", "token", "thresholds", "group")
        return Trial(**{name: getattr(self, name) for name in kept})

    def to_record(self) -> dict[str, Any]:
        """All fields as a dict of plain values."""
        return {**asdict(self), "state": str(self.state)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Trial:
        """The trial of a record read from a journal, which becomes the trial's."""
        known = {name: record[name] for name in _NAMES if name in record}
        known["state"] = _STATES[known.get("state", "RUNNING")]
        if known.get("values") is not None:
            known["values"] = [restore_float(value) for value in known["values"]]
        # The record is nobody else's, and large: what needs no change is left where it is.
        for name, value in (metrics := known.get("metrics", {})).items():
            if type(value) is str:
                metrics[name] = restore_float(value)
        for pair in known.get("curve", ()):
            if type(pair[1]) is str:
                pair[1] = restore_float(pair[1])
        return cls(**known)


_NAMES = [field.name for field in fields(Trial)]
_STATES = {str(state): state for state in TrialState}
