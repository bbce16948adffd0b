"""The interface of every pruner: what others have reported makes thresholds for one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from hpo_spark.thresholds import Thresholds

__all__ = ["Curve", "Pruner"]

_Numbers = npt.NDArray[np.float64]


class Curve:
    """What a trial has reported, of which larger values are better.

    Args:
        pairs: ``[step, value]`` pairs, in the order of the steps; one or more.
        sign: 1, or -1 where smaller values are better.
    """

    def __init__(self, pairs: Sequence[Sequence[float]], sign: float) -> None:
        self._pairs = pairs
        self._sign = sign

    @cached_property
    def steps(self) -> _Numbers:
        """The steps, growing."""
        return np.array([step for step, _ in self._pairs], float)

    @cached_property
    def best(self) -> _Numbers:
        """The best value up to each step."""
        values = self._sign * np.array([value for _, value in self._pairs], float)
        best: _Numbers = np.maximum.accumulate(np.where(np.isnan(values), -np.inf, values))
        return best

    def best_at(self, steps: _Numbers) -> _Numbers:
        """The best value up to each of some steps, NaN where the trial has not come so far, or began later."""
        places = np.searchsorted(self.steps, steps, side="right") - 1
        return np.where((places >= 0) & (steps <= self.steps[-1]), self.best[np.maximum(places, 0)], np.nan)


class Pruner(ABC):
    """Makes thresholds from what trials have reported.

    Attributes:
        name: The word that chooses it in a study file.
    """

    name: ClassVar[str]

    @abstractmethod
    def thresholds(self, curves: Collection[Curve], maximize: bool) -> Thresholds | None:
        """What a trial must reach; None for nothing yet.

        Args:
            curves: Of all trials that have reported anything, also of those that run.
            maximize: Whether larger values are better.
        """
