"""Children of trials, bred by the operators of a DEAP toolbox."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from deap import base

from hpo_spark.searchers.genome import Individual
from hpo_spark.searchers.options import check_toolbox

__all__ = ["Breeder", "complete_toolbox"]


class Breeder:
    """Breeds by ``mate`` and ``mutate`` of a toolbox; draws from the global generators, which the caller seeds.

    Args:
        toolbox: Has ``mate`` and ``mutate``, which may take genes outside [0, 1].
        cxpb: Probability that a child has two parents, in [0, 1].
        mutpb: Probability that a child is mutated, in [0, 1].
    """

    def __init__(self, toolbox: base.Toolbox, cxpb: float, mutpb: float) -> None:
        self._toolbox = toolbox
        self._cxpb, self._mutpb = cxpb, mutpb

    def litter(self, draw_parents: Callable[[], Iterable[Individual]], n: int) -> list[Individual]:
        """As many children, some of which may be alike.

        Args:
            draw_parents: Gives the two parents of a child.
            n: How many.
        """
        return [self._child(*draw_parents()) for _ in range(n)]

    def _child(self, first: Individual, second: Individual) -> Individual:
        child = first.with_all_genes()
        if random.random() < self._cxpb:
            self._toolbox.mate(child, second.with_all_genes())
            child.parents = sorted({*first.parents, *second.parents})
        if random.random() < self._mutpb:
            (child,) = self._toolbox.mutate(child)
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
