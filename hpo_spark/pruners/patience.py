"""Patience: stop what no longer improves and is behind."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from hpo_spark.pruners.base import Curve, Pruner
from hpo_spark.searchers.options import check_not_negative, check_whole
from hpo_spark.thresholds import Thresholds

__all__ = ["PatiencePruner"]


class PatiencePruner(Pruner):
    """Stops a trial that has not improved for some steps, unless it leads: a trial that is stopped is never the best.

    Args:
        steps: Reports in a row that bring no improvement; 1 or more.
        min_delta: By how much a value must be better to be an improvement; 0 or more.
    """

    name = "patience"

    def __init__(self, steps: int = 5, min_delta: float = 0.0) -> None:
        check_whole(steps=(steps, 1))
        check_not_negative(min_delta=min_delta)
        self._steps, self._min_delta = steps, float(min_delta)

    def thresholds(self, curves: Collection[Curve], maximize: bool) -> Thresholds | None:
        """The best value that any trial has reported."""
        best = max((float(curve.best[-1]) for curve in curves), default=-np.inf)
        if not np.isfinite(best):
            return None
        return Thresholds(maximize, [[0, best if maximize else -best]], self._steps, self._min_delta)
