"""Asynchronous successive halving that stops instead of promoting: at each rung the best 1 / eta go on.

References:
    Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht and Talwalkar (2020), "A system for massively parallel
    hyperparameter tuning", MLSys; the stopping variant of section 3.3.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from hpo_spark.pruners.base import Curve, Pruner
from hpo_spark.searchers.options import check_whole
from hpo_spark.thresholds import Thresholds

__all__ = ["AshaPruner"]


class AshaPruner(Pruner):
    """Stops at the steps ``min``, ``min * eta``, ``min * eta ** 2`` and so on what is not among the best 1 / eta there.

    The first ``eta - 1`` trials that come to a rung go on.

    Args:
        min: The first of these steps; 1 or more.
        eta: How many trials compete for one that goes on; 2 or more.
    """

    name = "asha"

    def __init__(self, min: int = 1, eta: int = 3) -> None:
        check_whole(min=(min, 1), eta=(eta, 2))
        self._min, self._eta = min, eta

    def thresholds(self, curves: Collection[Curve], maximize: bool) -> Thresholds | None:
        """The worst value at each rung with which a trial goes on."""
        bounds: list[list[float]] = []
        rung, last = self._min, max((curve.steps[-1] for curve in curves), default=0)
        while rung <= last:
            reached = [curve for curve in curves if curve.steps[0] <= rung <= curve.steps[-1]]
            values = np.sort([float(curve.best_at(np.array([rung]))[0]) for curve in reached])
            n_through = len(values) // self._eta
            if n_through and np.isfinite(bound := values[-n_through]):
                bounds.append([rung, float(bound if maximize else -bound)])
            rung *= self._eta
        return Thresholds(maximize, bounds) if bounds else None
