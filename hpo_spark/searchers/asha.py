"""Asynchronous successive halving: who is among the best of its rung so far climbs, and nothing waits.

    each ask  from the highest rung down: the best that has not climbed yet and is among the best 1 / eta of its rung;
              else a new configuration, on the lowest rung

References:
    Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht and Talwalkar (2020), "A system for massively parallel
    hyperparameter tuning", MLSys: algorithm 2.
"""

from __future__ import annotations

import math

from hpo_spark.searchers.base import Proposal
from hpo_spark.searchers.rungs import Climber, RungsSearcher, best_first

__all__ = ["AshaSearcher"]

_BRACKET = 0
# A rung may grow so many times before a climber needs the checkpoint that it was denied.
_GROWTH = 2


class AshaSearcher(RungsSearcher):
    """Promotes whenever it can, and begins something new whenever it cannot.

    A configuration keeps its checkpoint until it has climbed, or until its rung would have to double before it could.

    Args:
        space, directions, seed: As for every searcher.
        searcher: Where configurations come from.
        min: Fewest epochs.
        max: Epochs of a full training.
        eta: How many configurations compete for one place on the next rung.
    """

    name = "asha"

    def _propose(self) -> Proposal | None:
        for rung in reversed(range(len(self._fidelities) - 1)):
            if (climber := self._promotable(rung)) is not None:
                return self._promoted(_BRACKET, rung, climber)
        return self._newcomer(_BRACKET, 0)

    def _promotable(self, rung: int) -> Climber | None:
        ranked = best_first(self._on(_BRACKET, rung))
        return next(
            (one for one in ranked[: len(ranked) // self.ladder.eta] if not one.is_promoted and one.loss is not None),
            None,
        )

    def _let_go(self) -> None:
        for rung in range(len(self._fidelities) - 1):
            ranked = best_first(self._on(_BRACKET, rung))
            n_within_reach = math.ceil(_GROWTH * len(ranked) / self.ladder.eta)
            self._say_outdated(ranked[n_within_reach:])
