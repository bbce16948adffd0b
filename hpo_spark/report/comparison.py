"""Several searches side by side: how good each became, and what it took to become that good."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hpo_spark.errors import ConfigError
from hpo_spark.losses import as_losses
from hpo_spark.report.grouping import grouped, labels_of, method_differences, problem_differences
from hpo_spark.report.run import Run
from hpo_spark.report.view import is_comparable
from hpo_spark.results.front import hypervolume

__all__ = ["Band", "Comparison", "Group", "Progress"]

# A curve is drawn through at most so many points.
_N_POINTS = 400


@dataclass(frozen=True)
class Progress:
    """The best value of a search so far, each time that a trial ended.

    Attributes:
        evaluations: Trials that had ended, failed ones too.
        seconds: What all trials that had ended took, slots together: the machine time.
        best: The best value of the first objective; NaN before the first.
    """

    evaluations: np.ndarray
    seconds: np.ndarray
    best: np.ndarray

    @classmethod
    def of(cls, run: Run) -> Progress:
        """Of a search, in the order in which its trials ended."""
        maximize = run.directions[0] == "maximize"
        ended = [trial for trial in run.record.ended if str(trial.state) != "CANCELLED"]
        top = max((trial.fidelity for trial in ended if trial.values and trial.fidelity is not None), default=None)
        values = np.array(
            [trial.values[0] if trial.values and is_comparable(trial, top) else np.nan for trial in ended], dtype=float
        )
        best = (np.fmax if maximize else np.fmin).accumulate(values) if len(values) else values
        seconds = np.cumsum([trial.seconds or 0.0 for trial in ended])
        return cls(np.arange(1, len(ended) + 1), seconds, best)

    def reach(self, value: float, maximize: bool) -> tuple[int, float] | None:
        """Evaluations and machine seconds until a value was reached; None where it never was."""
        reached = np.flatnonzero(self.best >= value if maximize else self.best <= value)
        return (int(self.evaluations[reached[0]]), float(self.seconds[reached[0]])) if len(reached) else None


@dataclass(frozen=True)
class Band:
    """How the best value of several searches went.

    Attributes:
        x: Evaluations or seconds.
        low, median, high: Quartiles over the searches that have a value by then; a search that has ended keeps its own.
    """

    x: np.ndarray
    low: np.ndarray
    median: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Group:
    """Searches that differ by their seed alone, or by their limits.

    Attributes:
        label: What it is called.
        runs: The searches.
    """

    label: str
    runs: list[Run]

    @cached_property
    def progress(self) -> list[Progress]:
        """One a search."""
        return [Progress.of(run) for run in self.runs]

    def band(self, over: str) -> Band | None:
        """Quartiles of the best value over ``evaluations`` or ``seconds``; None where no search has a value."""
        steps = [(getattr(one, over), one.best) for one in self.progress if np.isfinite(one.best).any()]
        if not steps:
            return None
        x = np.unique(np.concatenate([places for places, _ in steps]))
        if len(x) > _N_POINTS:
            x = x[np.linspace(0, len(x) - 1, _N_POINTS).round().astype(int)]
        rows = []
        for places, best in steps:
            at = np.searchsorted(places, x, side="right") - 1
            rows.append(np.where(at >= 0, best[np.maximum(at, 0)], np.nan))
        values = np.array(rows)
        known = np.isfinite(values).all(axis=0)  # before all have a value, a quartile is of other searches
        low, median, high = np.quantile(values[:, known], (0.25, 0.5, 0.75), axis=0)
        return Band(x[known], low, median, high)


class Comparison:
    """Several searches.

    Args:
        runs: Two or more, of the same directions.
        values: Of the first objective, to be reached; None for what all searches have reached, what half of them
            have, and the best of all.

    Raises:
        ConfigError: If there are fewer, or the directions differ.

    Attributes:
        runs: The searches.
        groups: Those of one problem and one method together, in the order in which they come.
        problems: Those of one problem together; the values of others do not compare.
        names: What each search is called, its folder where names are equal; in the order of `runs`.
        values: Of the first objective, to be reached.
    """

    def __init__(self, runs: Sequence[Run], values: Sequence[float] | None = None) -> None:
        if len(runs) < 2:
            raise ConfigError(f"A comparison needs two run folders or more, got {len(runs)}.")
        for run in runs[1:]:
            if run.directions != runs[0].directions:
                raise ConfigError(
                    f"Searches of the same directions can be compared, and {runs[0].place} has {runs[0].directions}, "
                    f"but {run.place} {run.directions}."
                )
        self.runs = list(runs)
        self.names = _names(runs)
        self.problems = grouped(runs, problem_differences)
        groups = grouped(runs, lambda one, other: [*problem_differences(one, other), *method_differences(one, other)])
        self.groups = [Group(label, own) for label, own in zip(labels_of(groups), groups, strict=True)]
        self.values = list(values) if values else self._reached()

    @property
    def maximize(self) -> bool:
        """Whether the first objective is better when larger."""
        return self.runs[0].directions[0] == "maximize"

    @property
    def n_objectives(self) -> int:
        """How many objectives there are."""
        return len(self.runs[0].directions)

    @cached_property
    def reference_point(self) -> list[float] | None:
        """What hypervolumes are measured from: the point of the studies that have one, if that is one and the same.

        Else the worst value of each objective in all; None where there is no value.
        """
        given = [list(point) for run in self.runs if (point := run.settings.get("reference_point")) is not None]
        if given and all(point == given[0] for point in given):
            return given[0]
        told = [trial.values for run in self.runs for trial in run.ranked if trial.values]
        ways = self.runs[0].directions
        return (
            [
                max(own) if way == "minimize" else min(own)
                for own, way in zip(zip(*told, strict=True), ways, strict=True)
            ]
            if told
            else None
        )

    @cached_property
    def hypervolumes(self) -> list[float | None]:
        """Of each search's front, measured from `reference_point`; None without a value."""
        directions, point = self.runs[0].directions, self.reference_point
        fronts = [[as_losses(trial.values or [], directions) for trial in run.view().front] for run in self.runs]
        if point is None:
            return [None] * len(self.runs)
        return [hypervolume(front, as_losses(point, directions)) if front else None for front in fronts]

    def problem_of(self, run: Run) -> str:
        """The letter of a run's problem."""
        place = next(place for place, own in enumerate(self.problems) if run in own)
        return chr(ord("A") + place) if place < 26 else f"Z{place - 25}"

    def _reached(self) -> list[float]:
        bests = sorted((run.ranked[0].values[0] for run in self.runs if run.ranked), reverse=not self.maximize)  # type: ignore[index]
        if not bests:
            return []
        return list(dict.fromkeys([bests[0], bests[len(bests) // 2], bests[-1]]))


def _names(runs: Sequence[Run]) -> list[str]:
    places = [run.place for run in runs]
    candidates = [run.name for run in runs], [os.path.basename(place.rstrip("/")) for place in places]
    return next((names for names in candidates if len(set(names)) == len(names)), places)
