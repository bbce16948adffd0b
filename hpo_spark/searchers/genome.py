"""The genes of a space as evolution varies them: snapped to levels, NaN where a parameter is inactive."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from deap import base

from hpo_spark.parameters import Choice, Parameter
from hpo_spark.space import Params, SearchSpace

__all__ = ["Genes", "Genome", "Individual", "mutate_mixed"]

Genes = npt.NDArray[np.float64]

# With more levels than this a parameter is as good as continuous, and only rounds when it is decoded.
_MAX_LEVELS = 64
# What stands for a gene that is none: the middle, nearest to all.
_NEUTRAL = 0.5
# Sets of active genes to remember.
_MAX_PATTERNS = 10_000
# A neighbour's step along a continuous gene, as shares of a mutation's: the last ones refine.
_STEPS = (1.0, 1.0, 0.3, 0.3, 0.1, 0.1)
# Of more levels than this so many are drawn for neighbours.
_MAX_STEPS = 12


class Genome:
    """What each gene of a space can be.

    Args:
        space: Whose genes.

    Attributes:
        levels: For each gene the places of its levels in [0, 1]; None for a continuous gene.
        is_unordered: For each gene whether its levels have no order.
        resolution: For each gene 1 / levels; 0 for a continuous one.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.levels = [_levels_of(space[name]) for name in space]
        self.is_unordered = [_is_unordered(space[name]) for name in space]
        self.resolution = np.array([0.0 if levels is None else 1 / len(levels) for levels in self.levels])
        parents = {parent for name in space for parent in space[name].when or {}}
        self._switches = [index for index, name in enumerate(space) if name in parents]
        self._patterns: dict[tuple[float, ...], npt.NDArray[np.bool_]] = {}
        # Levels are sorted, so that the nearest lies between the same midpoints.
        self._midpoints: list[list[float]] = [
            [] if levels is None else ((levels[1:] + levels[:-1]) / 2).tolist() for levels in self.levels
        ]

    def __len__(self) -> int:
        return len(self.levels)

    def level_of(self, index: int, gene: float) -> int:
        """The level nearest to a gene that has levels."""
        return bisect_left(self._midpoints[index], gene)

    def repair(self, genes: Genes) -> Genes:
        """Genes of the space: those that lie outside put back to the edge, discrete ones to their nearest level.

        Args:
            genes: Shape (individuals, genes).

        Returns:
            The same shape, NaN for genes of parameters that are not active.
        """
        repaired = np.clip(np.nan_to_num(genes, nan=_NEUTRAL), 0.0, 1.0)
        for index, levels in enumerate(self.levels):
            if levels is not None:
                repaired[:, index] = levels[np.array(self._midpoints[index]).searchsorted(repaired[:, index])]
        if self._switches:
            patterns = [self._pattern(row) for row in repaired]
            repaired[~np.array(patterns)] = np.nan
        return repaired

    def neighbours(self, genes: Sequence[float], sigma: float) -> list[list[float]]:
        """All that differ in one gene: each other level, and for a continuous gene normal steps, wide and narrow.

        Of a gene with many levels some are drawn.

        Args:
            genes: None of them NaN.
            sigma: Standard deviation of the widest steps.
        """
        found = []
        for index, (gene, levels) in enumerate(zip(genes, self.levels, strict=True)):
            if levels is None:
                places = [_reflected(random.gauss(gene, sigma * share)) for share in _STEPS]
            else:
                places = random.sample(levels.tolist(), min(len(levels), _MAX_STEPS))
            found += [[*genes[:index], float(place), *genes[index + 1 :]] for place in places if place != gene]
        return found

    def encode(self, params: Mapping[str, Any]) -> Genes:
        """The genes of a configuration, NaN for parameters that are not active in it."""
        genes = self._space.encode(params)
        return np.array([gene if name in params else np.nan for name, gene in zip(self._space, genes, strict=True)])

    def decode(self, genes: Genes) -> Params:
        """The configuration of genes that may be NaN where not active."""
        return self._space.decode(np.nan_to_num(genes, nan=_NEUTRAL).tolist())

    def _pattern(self, genes: Genes) -> npt.NDArray[np.bool_]:
        """Which genes are active; only those that others depend on matter."""
        switches = tuple(genes[self._switches].tolist())
        if switches not in self._patterns:
            if len(self._patterns) >= _MAX_PATTERNS:
                self._patterns.clear()
            params = self._space.decode(genes.tolist())
            self._patterns[switches] = np.array([name in params for name in self._space])
        return self._patterns[switches]


def _levels_of(parameter: Parameter) -> Genes | None:
    if parameter.levels is None or parameter.levels > _MAX_LEVELS:
        return None
    return np.array([parameter.encode(value) for value in parameter.all_values()])


def _is_unordered(parameter: Parameter) -> bool:
    return isinstance(parameter, Choice) and not parameter.ordered


class _Fitness(base.Fitness):  # type: ignore[misc]
    weights = (-1.0,)


class Individual(list[float]):
    """Genes, with a DEAP fitness that is better when smaller.

    Args:
        genes: One a parameter, NaN where it is not active.
        parents: Numbers of the trials that it comes from.
    """

    def __init__(self, genes: Sequence[float], parents: Sequence[int] = ()) -> None:
        super().__init__(genes)
        self.fitness = _Fitness()
        self.parents = list(parents)

    def with_all_genes(self) -> Individual:
        """A copy without a fitness, in which genes of parameters that are not active are drawn."""
        return Individual([random.random() if math.isnan(gene) else gene for gene in self], self.parents)


def mutate_mixed(individual: Individual, genome: Genome, sigma: float, indpb: float) -> tuple[Individual]:
    """Mutate genes of every kind, in place.

    A number takes a normal step, reflected at the edges of its range; where it has levels, to another one at least. A
    choice without an order takes any other value.

    Args:
        individual: Genes in [0, 1].
        genome: What they are.
        sigma: Standard deviation of a step; at least one level for a gene that has some.
        indpb: Probability that a gene changes.
    """
    for index, (gene, levels) in enumerate(zip(individual, genome.levels, strict=True)):
        if random.random() >= indpb or (levels is not None and len(levels) == 1):
            continue
        if levels is None:
            individual[index] = _reflected(random.gauss(gene, sigma))
            continue
        level = genome.level_of(index, gene)
        if genome.is_unordered[index]:
            other = random.randrange(len(levels) - 1)
            moved = other + (other >= level)
        else:
            step = max(sigma, float(genome.resolution[index]))
            moved = genome.level_of(index, _reflected(random.gauss(gene, step)))
            if moved == level:
                moved = _neighbour(level, len(levels))
        individual[index] = float(levels[moved])
    return (individual,)


def _neighbour(level: int, n_levels: int) -> int:
    moved = level + random.choice((-1, 1))
    return moved if 0 <= moved < n_levels else 2 * level - moved


def _reflected(gene: float) -> float:
    while not 0.0 <= gene <= 1.0:
        gene = -gene if gene < 0 else 2 - gene
    return gene
