"""The median rule: stop what is worse than half of the others at the same step.

References:
    Golovin, Solnik, Moitra, Kochanski, Karro and Sculley (2017), "Google Vizier: a service for black-box
    optimization", KDD, section 3.2.2; by best values instead of running averages, and with the trials that still run.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from hpo_spark.pruners.base import Curve, Pruner
from hpo_spark.searchers.options import check_whole
from hpo_spark.thresholds import Thresholds

__all__ = ["MedianPruner"]

# Bounds that travel with a trial; between steps that have none the one before holds.
_MAX_BOUNDS = 500


class MedianPruner(Pruner):
    """Stops a trial whose best value is below the median of the best values that others had at that step.

    Args:
        start: So many trials must have come to a step before it has a threshold; 1 or more.
        warmup: No trial is stopped before this step; 0 or more.
    """

    name = "median"

    def __init__(self, start: int = 5, warmup: int = 0) -> None:
        check_whole(start=(start, 1), warmup=(warmup, 0))
        self._start, self._warmup = start, warmup

    def thresholds(self, curves: Collection[Curve], maximize: bool) -> Thresholds | None:
        """The median at each step that enough trials have come to."""
        if len(curves) < self._start:
            return None
        steps = np.unique(np.concatenate([curve.steps for curve in curves]))
        steps = steps[steps >= self._warmup]
        values = np.array([curve.best_at(steps) for curve in curves])
        is_known = (~np.isnan(values)).sum(axis=0) >= self._start
        steps, values = steps[is_known], values[:, is_known]
        if not len(steps):
            return None
        places = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), _MAX_BOUNDS)).astype(int))
        medians = np.nanmedian(values[:, places], axis=0)
        sign = 1.0 if maximize else -1.0
        bounds = [[int(s), sign * float(m)] for s, m in zip(steps[places], medians, strict=True) if np.isfinite(m)]
        return Thresholds(maximize, bounds) if bounds else None
