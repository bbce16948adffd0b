"""The trials that no other beats, kept up to date trial by trial."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from typing import Any

from hpo_spark.results.result import rank
from hpo_spark.trial import Trial

__all__ = ["Leaders"]


class Leaders:
    """The Pareto front of the trials that were added; for one objective the best, of equal ones the earliest.

    Args:
        directions: One an objective.

    Attributes:
        trials: The leaders, best first.
    """

    def __init__(self, directions: Sequence[str]) -> None:
        self.trials: list[Trial] = []
        self._directions = directions
        self._ranks: list[tuple[Any, ...]] = []

    @property
    def best(self) -> Trial | None:
        """The first of them; None while there is none."""
        return self.trials[0] if self.trials else None

    @property
    def values(self) -> list[list[float]]:
        """Their values."""
        return [trial.values or [] for trial in self.trials]

    def values_for(self, trial: Trial) -> list[list[float]]:
        """Their values, as far as a trial that is about to run must beat them: at a higher fidelity it need not."""
        reached = self.trials[0].fidelity if self.trials else None
        is_higher = reached is not None and (trial.fidelity is None or trial.fidelity > reached)
        return [] if is_higher else self.values

    def accept(self, trial: Trial) -> bool:
        """Whether a trial would be among them; one that would not now never will."""
        if not trial.values:
            return False
        own = rank(trial, self._directions)
        return not any(self._beats(other, own) for other in self._ranks)

    def add(self, trial: Trial) -> bool:
        """Take a trial in, if it leads, and drop those that it beats.

        Returns:
            Whether it is the best now.
        """
        if not self.accept(trial):
            return False
        own = rank(trial, self._directions)
        left = [place for place, other in enumerate(self._ranks) if not self._beats(own, other)]
        self.trials = [self.trials[place] for place in left]
        self._ranks = [self._ranks[place] for place in left]
        place = bisect(self._ranks, own)
        self.trials.insert(place, trial)
        self._ranks.insert(place, own)
        return place == 0

    def _beats(self, one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
        """Whether one rank, losses and then the number, beats another."""
        if len(self._directions) == 1:
            return one < other
        *losses, _ = one
        *others, _ = other
        return losses != others and all(own <= its for own, its in zip(losses, others, strict=True))
