"""Designs that spread over the space more evenly than random draws.

References:
    Sobol' (1967), "On the distribution of points in a cube and the approximate evaluation of integrals", USSR
    Computational Mathematics and Mathematical Physics 7, 86-112.
    McKay, Beckman and Conover (1979), "A comparison of three methods for selecting values of input variables in the
    analysis of output from a computer code", Technometrics 21, 239-245.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from scipy.stats import qmc

from hpo_spark.searchers.base import Direction, Proposal, SequentialSearcher
from hpo_spark.searchers.options import check_whole
from hpo_spark.space import SearchSpace
from hpo_spark.trial import Trial

__all__ = ["LatinHypercubeSearcher", "SobolSearcher"]

# Points in a row that all stand for known configurations before a discrete space counts as used up.
_MAX_REPEATS = 2000
# Tells the generators of designs from those of asks.
_STREAM = 0xDE51


class _DesignSearcher(SequentialSearcher):
    """Takes the points of an endless design one after the other, and leaves out what is known already."""

    several_objectives = True

    def __init__(self, space: SearchSpace, directions: Sequence[Direction] = ("maximize",), seed: int = 0) -> None:
        super().__init__(space, directions, seed)
        self._next_point = 0

    def _propose(self, rng: np.random.Generator) -> Proposal | None:
        for _ in range(_MAX_REPEATS):
            number, self._next_point = self._next_point, self._next_point + 1
            params = self.space.decode(self._point(number))
            if params not in self.history:
                return Proposal(params, token={"point": number})
        return None

    def _resume(self, trial: Trial) -> None:
        self._next_point = trial.token.get("point", self._next_point - 1) + 1

    @abstractmethod
    def _point(self, number: int) -> Sequence[float]:
        """The genes of a point."""


class SobolSearcher(_DesignSearcher):
    """Takes the points of a scrambled Sobol' sequence, which stay even however many are taken."""

    name = "sobol"
    learns = False

    def __init__(self, space: SearchSpace, directions: Sequence[Direction] = ("maximize",), seed: int = 0) -> None:
        super().__init__(space, directions, seed)
        self._sequence = qmc.Sobol(len(space), rng=np.random.default_rng([seed, _STREAM]))

    def _point(self, number: int) -> Sequence[float]:
        if number != self._sequence.num_generated:
            self._sequence.reset()
            self._sequence.fast_forward(number)
        return _genes(self._sequence.random(1)[0])


class LatinHypercubeSearcher(_DesignSearcher):
    """Takes Latin hypercubes, one after the other: each has one point in each part of each parameter's range.

    Args:
        space, directions, seed: As for every searcher.
        points: Points of a hypercube, 1 or more; as many as there will be trials is best.
    """

    name = "lhs"
    learns = False

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[Direction] = ("maximize",),
        seed: int = 0,
        *,
        points: int = 60,
    ) -> None:
        super().__init__(space, directions, seed)
        check_whole(points=(points, 1))
        self._n_points = points
        self._cube: tuple[int, np.ndarray] | None = None

    def _point(self, number: int) -> Sequence[float]:
        cube, row = divmod(number, self._n_points)
        if self._cube is None or self._cube[0] != cube:
            design = qmc.LatinHypercube(len(self.space), rng=np.random.default_rng([self.seed, _STREAM, cube]))
            self._cube = cube, design.random(self._n_points)
        return _genes(self._cube[1][row])


def _genes(point: np.ndarray) -> list[float]:
    genes: list[float] = np.clip(point, 0.0, 1.0).tolist()
    return genes
