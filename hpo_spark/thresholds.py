"""What a trial must reach at which step: plain numbers, which travel with it and are looked up at each report."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Thresholds"]


@dataclass(frozen=True)
class Thresholds:
    """Stops a trial whose best value so far is worse than the bound of the last step that it has passed.

    Attributes:
        maximize: Whether larger values are better.
        bounds: ``[step, value]`` pairs, steps growing; a bound holds until the next.
        patience: Stop only a trial whose last so many reports have brought no improvement; None for any.
        min_delta: By how much a value must be better to be an improvement.
    """

    maximize: bool
    bounds: Sequence[Sequence[float]]
    patience: int | None = None
    min_delta: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The thresholds as plain data."""
        return {
            "maximize": self.maximize,
            "bounds": [list(bound) for bound in self.bounds],
            "patience": self.patience,
            "min_delta": self.min_delta,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Thresholds:
        """What `to_dict` wrote."""
        return cls(**plain)

    def reason_to_stop(self, curve: Sequence[Sequence[float]]) -> str | None:
        """Why a trial that has reported a curve is to stop, in words; None to go on.

        Args:
            curve: ``[step, value]`` pairs, as reported.
        """
        if not curve:
            return None
        passed = bisect_right(self.bounds, curve[-1][0], key=lambda bound: bound[0])
        if not passed:
            return None
        best, bound = self._best(curve), self.bounds[passed - 1][1]
        if best >= self._signed(bound) or self._improves(curve):
            return None
        said = "nothing but not a number" if best == -math.inf else f"at best {self._signed(best):.6g}"
        return f"at step {curve[-1][0]:g} it had come to {said}, which is worse than the threshold {bound:.6g}"

    def _best(self, curve: Sequence[Sequence[float]]) -> float:
        """The best value of a curve as a number of which larger ones are better."""
        values = [self._signed(value) for _, value in curve if not math.isnan(value)]
        return max(values, default=-math.inf)

    def _improves(self, curve: Sequence[Sequence[float]]) -> bool:
        if self.patience is None:
            return False
        if len(curve) <= self.patience:
            return True
        before, lately = curve[: -self.patience], curve[-self.patience :]
        return self._best(lately) > self._best(before) + self.min_delta

    def _signed(self, value: float) -> float:
        return value if self.maximize else -value
