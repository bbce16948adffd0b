"""Children of trials, bred by a DEAP toolbox until enough of them are new."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from deap import base

from hpo_spark.searchers.genome import Genome, Individual
from hpo_spark.searchers.history import History
from hpo_spark.searchers.options import check_toolbox
from hpo_spark.space import Params, SearchSpace

__all__ = ["Breeder", "complete_toolbox"]

# Attempts to breed one new child, before the neighbourhood counts as used up.
_MAX_ATTEMPTS = 10


class Breeder:
    """Breeds by ``mate`` and ``mutate`` of a toolbox; draws from the global generators, which the caller seeds.

    Args:
        space: Of what configurations.
        genome: The genes of the space.
        toolbox: Has ``mate`` and ``mutate``. Genes that they take outside are put back to the edge, and discrete ones
            to their nearest level.
        cxpb: Probability that a child has two parents, in [0, 1].
        mutpb: Probability that a child is mutated, in [0, 1].
    """

    def __init__(self, space: SearchSpace, genome: Genome, toolbox: base.Toolbox, cxpb: float, mutpb: float) -> None:
        self._space, self._genome, self._toolbox = space, genome, toolbox
        self._cxpb, self._mutpb = cxpb, mutpb

    def new_children(
        self, draw_parents: Callable[[], Iterable[Individual]], history: History, n: int
    ) -> list[tuple[Individual, Params]]:
        """Up to ``n`` children that differ, and that the history does not know; fewer where hardly any is left.

        Args:
            draw_parents: Gives the two parents of a child.
            history: What is known.
            n: How many; 1 or more.

        Returns:
            Each child and the configuration that it stands for.
        """
        children: dict[str, tuple[Individual, Params]] = {}
        for _ in range(_MAX_ATTEMPTS * n):
            child = self._child(*draw_parents())
            params = self._space.decode(child)
            key = self._space.key(params)
            if not history.has_seen(key):
                children[key] = child, params
            if len(children) == n:
                break
        return list(children.values())

    def _child(self, first: Individual, second: Individual) -> Individual:
        child = first.with_all_genes()
        if random.random() < self._cxpb:
            self._toolbox.mate(child, second.with_all_genes())
            child.parents = sorted({*first.parents, *second.parents})
        if random.random() < self._mutpb:
            (child,) = self._toolbox.mutate(child)
        self._genome.repair(child)
        return child


def complete_toolbox(given: base.Toolbox | None, own: base.Toolbox, names: Iterable[str]) -> base.Toolbox:
    """Our toolbox with the user's operators of these names, as far as theirs has them.

    Raises:
        ConfigError: If theirs is no DEAP `Toolbox`.
    """
    check_toolbox(given)
    for name in names:
        if given is not None and hasattr(given, name):
            setattr(own, name, getattr(given, name))
    return own
