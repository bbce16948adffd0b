"""Configurations as a regression model sees them: the flat view of a space, as rows of numbers.

A number is one column, its gene; a choice without an order is one column a value, 1 where it is chosen. A parameter
that is not active stands at the middle of its range.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hpo_spark.searchers.genome import Genes, Genome
from hpo_spark.space import SearchSpace

__all__ = ["Features"]

_NEUTRAL = 0.5
# The standard deviation of a numeric step is drawn between these, evenly on its logarithm.
_STEPS = (0.003, 0.3)


class Features:
    """The genes of a space in bulk, rows of shape (configurations, genes), and the columns made from them.

    Args:
        space: Whose configurations.

    Attributes:
        gene_of: For each column the gene that it comes from.
        smooth: Indices of the genes that may be moved freely: continuous, and no condition hangs on them.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        genome = Genome(space)
        self._levels = genome.levels
        self._midpoints = [None if levels is None else (levels[1:] + levels[:-1]) / 2 for levels in genome.levels]
        self._one_hot = [
            unordered and levels is not None
            for unordered, levels in zip(genome.is_unordered, genome.levels, strict=True)
        ]
        self.gene_of = np.concatenate(
            [
                np.full(_width(levels, one_hot), i)
                for i, (levels, one_hot) in enumerate(zip(genome.levels, self._one_hot, strict=True))
            ]
        )
        parents = {parent for name in space for parent in space[name].when or ()}
        self.smooth = np.array(
            [i for i, name in enumerate(space) if genome.levels[i] is None and name not in parents], dtype=int
        )
        self._conditional = [name for name in space.parents_first if space[name].when]

    def draw(self, rng: np.random.Generator, n: int) -> Genes:
        """The genes of random configurations."""
        return self.settle(rng.random((n, len(self._levels))))

    def vary(self, rng: np.random.Generator, bases: Genes, n: int) -> Genes:
        """The genes of neighbours: of each a few are changed, a number by a step, a choice to another value.

        Args:
            rng: Source of the draws.
            bases: Genes of the configurations whose neighbours they are, one of them at random each.
            n: How many.
        """
        genes = bases[rng.integers(len(bases), size=n)]
        n_genes = genes.shape[1]
        moves = rng.random(genes.shape) < 1 / n_genes
        moves[np.arange(n), rng.integers(n_genes, size=n)] = True
        low, high = np.log(_STEPS)
        steps = rng.normal(size=genes.shape) * np.exp(rng.uniform(low, high, size=(n, 1)))
        others = rng.random(genes.shape)
        for i, levels in enumerate(self._levels):
            if levels is None:
                moved = _reflected(genes[:, i] + steps[:, i])
            elif self._one_hot[i]:
                # Any level but its own, evenly.
                shift = 1 + (others[:, i] * max(1, len(levels) - 1)).astype(int)
                moved = levels[(self._level(i, genes[:, i]) + shift) % len(levels)]
            else:
                at = self._level(i, genes[:, i])
                to = self._level(i, _reflected(genes[:, i] + steps[:, i]))
                one = np.abs(at + np.where(steps[:, i] < 0, -1, 1))
                one = np.where(one >= len(levels), max(0, len(levels) - 2), one)
                moved = levels[np.where(to == at, one, to)]
            genes[:, i] = np.where(moves[:, i], moved, genes[:, i])
        return self.settle(genes)

    def settle(self, genes: Genes) -> Genes:
        """The genes of what they decode to: levels where they lie, and inactive parameters in the middle."""
        settled = genes.copy()
        for i, levels in enumerate(self._levels):
            if levels is not None:
                settled[:, i] = levels[self._level(i, genes[:, i])]
        index = {name: i for i, name in enumerate(self._space)}
        active = np.ones(genes.shape, dtype=bool)
        for name in self._conditional:
            for parent, wanted in (self._space[name].when or {}).items():
                i = index[parent]
                active[:, index[name]] &= active[:, i] & self._is_one_of(parent, settled[:, i], wanted)
        settled[~active] = _NEUTRAL
        return settled

    def columns(self, genes: Genes) -> Genes:
        """Rows of shape (configurations, columns) from settled genes."""
        blocks = []
        for i, (levels, one_hot) in enumerate(zip(self._levels, self._one_hot, strict=True)):
            column = genes[:, i]
            blocks.append(
                np.eye(len(levels))[self._level(i, column)] if one_hot and levels is not None else column[:, None]
            )
        return np.concatenate(blocks, axis=1)

    def encode(self, params: Mapping[str, Any]) -> Genes:
        """The genes of a configuration, one row, as `settle` leaves them."""
        genes: Genes = self.settle(np.array([self._space.encode(params)]))[0]
        return genes

    def _level(self, i: int, column: Genes) -> npt.NDArray[np.intp]:
        midpoints = self._midpoints[i]
        assert midpoints is not None
        levels: npt.NDArray[np.intp] = midpoints.searchsorted(column)
        return levels

    def _is_one_of(self, name: str, column: Genes, wanted: Any) -> npt.NDArray[np.bool_]:
        parameter = self._space[name]
        values = [parameter.coerce(value) for value in (wanted if isinstance(wanted, list | tuple) else [wanted])]
        if self._levels[list(self._space).index(name)] is not None:
            met: npt.NDArray[np.bool_] = np.isin(column, [parameter.encode(value) for value in values])
            return met
        return np.array([parameter.decode(gene) in values for gene in column.tolist()])


def _width(levels: Genes | None, one_hot: bool) -> int:
    return len(levels) if one_hot and levels is not None else 1


def _reflected(column: Genes) -> Genes:
    """Genes, reflected at the edges that they have crossed, and cut where a step was as long as the range."""
    inside: Genes = np.clip(np.where(column < 0, -column, np.where(column > 1, 2 - column, column)), 0.0, 1.0)
    return inside
