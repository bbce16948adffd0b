"""Hyperband: successive halving in brackets, from many configurations of few epochs to few of many.

    each ask  the first bracket that has something to offer:
                  a new configuration, until its lowest rung is full
                  one of a complete rung's best 1 / eta, on the next rung
              else a new bracket

A rung waits for all of its trials, and the next bracket begins meanwhile.

References:
    Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar (2018), "Hyperband: a novel bandit-based approach to
    hyperparameter optimization", JMLR 18, 1-52: algorithm 1.
"""

from __future__ import annotations

from hpo_spark.searchers.base import Proposal
from hpo_spark.searchers.ladder import Bracket
from hpo_spark.searchers.rungs import RungsSearcher, best_first
from hpo_spark.space import Params

__all__ = ["HyperbandSearcher"]


class HyperbandSearcher(RungsSearcher):
    """Goes through the brackets, and begins again with the first after the last.

    Args:
        space, directions, seed: As for every searcher.
        searcher: Where configurations come from.
        min: Fewest epochs.
        max: Epochs of a full training.
        eta: How many configurations compete for one place on the next rung.
    """

    name = "hyperband"

    # Brackets before this one have nothing more to offer.
    _first_open = 0

    def adopt(self, params: Params) -> Proposal:
        """A configuration that a user wants tried, in the newest bracket."""
        number = self._newest
        return Proposal(params, self._fidelities[self.ladder.bracket(number).first], token={"bracket": number})

    def _propose(self) -> Proposal | None:
        number = self._first_open
        while True:
            bracket = self.ladder.bracket(number)
            if (proposal := self._offer(number, bracket)) is not None:
                return proposal
            if not self._on(number, bracket.first):
                return None  # it could not even begin
            if number == self._first_open and self._is_over(number, bracket):
                self._settle(number, bracket)
                self._first_open += 1
            number += 1

    def _offer(self, number: int, bracket: Bracket) -> Proposal | None:
        """A proposal of a bracket; None where it has none now."""
        lowest = self._on(number, bracket.first)
        if len(lowest) < bracket.sizes[0] and (proposal := self._begin(number, bracket)) is not None:
            return proposal
        for step in range(len(bracket.sizes) - 1):
            if (proposal := self._climb(number, bracket, step)) is not None:
                return proposal
        return None

    def _begin(self, number: int, bracket: Bracket) -> Proposal | None:
        """A configuration for the lowest rung of a bracket."""
        return self._newcomer(number, bracket.first)

    def _climb(self, number: int, bracket: Bracket, step: int) -> Proposal | None:
        """A configuration for the rung above a step of a bracket."""
        rung = bracket.first + step
        if not self._is_complete(number, bracket, step):
            return None
        best = best_first(self._on(number, rung))[: bracket.sizes[step + 1]]
        climber = next((one for one in best if not one.is_promoted and one.loss is not None), None)
        return None if climber is None else self._promoted(number, rung, climber)

    def _is_complete(self, number: int, bracket: Bracket, step: int) -> bool:
        """Whether all that will ever be on a rung of a bracket has ended."""
        here = self._on(number, bracket.first + step)
        if not here or not all(one.has_ended for one in here.values()):
            return False
        if step == 0:  # where the space has no more, a bracket begins with fewer
            return len(here) >= bracket.sizes[0] or not self._is_busy
        return len(here) >= self._size(number, bracket, step)

    def _size(self, number: int, bracket: Bracket, step: int) -> int:
        """Configurations that climb to a step of a bracket, at most: fewer where not so many have a value below."""
        below = self._on(number, bracket.first + step - 1)
        return min(bracket.sizes[step], sum(one.loss is not None for one in below.values()))

    def _is_over(self, number: int, bracket: Bracket) -> bool:
        """Whether nothing of a bracket is to come."""
        return self._is_complete(number, bracket, 0) and all(
            self._is_complete(number, bracket, step) or not self._size(number, bracket, step)
            for step in range(1, len(bracket.sizes))
        )

    @property
    def _is_busy(self) -> bool:
        """Whether any trial has not ended, so that a searcher without a proposal may have one later."""
        return any(not one.has_ended for rung in self._rungs.values() for one in rung.values())

    def _let_go(self) -> None:
        for number in range(self._first_open, self._newest + 1):
            self._settle(number, self.ladder.bracket(number))

    def _settle(self, number: int, bracket: Bracket) -> None:
        """Let go of those on complete rungs of a bracket that do not climb."""
        for step, size in enumerate(bracket.sizes[1:]):
            if self._is_complete(number, bracket, step):
                self._say_outdated(best_first(self._on(number, bracket.first + step))[size:])

    @property
    def _newest(self) -> int:
        """Number of the newest bracket."""
        return max((number for number, _ in list(self._rungs)), default=0)
