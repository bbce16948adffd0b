"""The Pareto front, and how much of the space of values it dominates.

References:
    Zitzler and Thiele (1998), "Multiobjective optimization using evolutionary algorithms: a comparative case study",
    PPSN V: the hypervolume.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from deap import base

__all__ = ["front_of", "hypervolume"]

Losses = Sequence[tuple[float, ...]]


def front_of(losses: Losses) -> list[int]:
    """Which points no other dominates: no worse in all objectives and better in one; of equal ones each.

    Args:
        losses: Points in ascending order, smaller numbers being better.

    Returns:
        Their places, ascending.
    """
    points = np.array(losses, dtype=float)
    front: list[int] = []
    for place, point in enumerate(points):  # none is dominated by one that comes after it
        before = points[front]
        if not ((before <= point).all(axis=1) & (before != point).any(axis=1)).any():
            front.append(place)
    return front


def hypervolume(losses: Losses, reference: Sequence[float]) -> float:
    """The volume of all that some point dominates and that is better than the reference point.

    Args:
        losses: Points, smaller numbers being better; those that are not better than the reference count for nothing.
        reference: One number an objective.

    Returns:
        A number of 0 or more, in the product of the objectives' units. The time it takes grows exponentially with the
        objectives: with six, 1,000 points of a front take about 2 s.
    """
    from deap.benchmarks import tools  # it imports much of scipy

    inside = [point for point in losses if all(own < worst for own, worst in zip(point, reference, strict=True))]
    if not inside:
        return 0.0
    return float(tools.hypervolume([_Point(point) for point in inside], np.array(reference, dtype=float)))


class _Point:
    """What DEAP takes for an individual."""

    def __init__(self, losses: tuple[float, ...]) -> None:
        self.fitness = _fitness_class(len(losses))(losses)


@cache
def _fitness_class(n_objectives: int) -> type[base.Fitness]:
    return type("Fitness", (base.Fitness,), {"weights": (-1.0,) * n_objectives})
