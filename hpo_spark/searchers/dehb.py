"""DEHB: the brackets of Hyperband, filled by differential evolution with a population at each fidelity.

    bracket 0   as Hyperband has it: new configurations, of which the best of each rung climb
    later       a child for each place that a bracket has on a rung:
                    the target is the next individual of that rung's population
                    it is crossed with a + f (b - c) of three others: of the same population on a bracket's lowest rung,
                    above it of the best of the population one rung below
    each tell   the place in the population keeps the better of the two

Nothing waits but a rung for the one below it, and then the next bracket has begun. A child that was trained before, at
a lower fidelity, continues from there.

References:
    Awad, Mallik and Hutter (2021), "DEHB: evolutionary hyperband for scalable, robust and efficient hyperparameter
    optimization", IJCAI: F = 0.5, CR = 0.5, eta = 3.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from deap import base

from hpo_spark.searchers.base import Direction, Proposal
from hpo_spark.searchers.de import N_DONORS, draw, move, rank
from hpo_spark.searchers.genome import Individual
from hpo_spark.searchers.history import losses_of
from hpo_spark.searchers.hyperband import HyperbandSearcher
from hpo_spark.searchers.ladder import Bracket
from hpo_spark.searchers.options import check_shares, check_toolbox
from hpo_spark.searchers.rungs import Climber
from hpo_spark.seeds import derive_seed, seeded
from hpo_spark.space import Params, SearchSpace
from hpo_spark.trial import Trial

__all__ = ["DehbSearcher"]

_STREAM = 0xDE4B
# Children that are known already before a configuration is drawn instead.
_MAX_ATTEMPTS = 30


class DehbSearcher(HyperbandSearcher):
    """Differential evolution, whose individuals compete at few epochs and evolve up to many.

    Args:
        space, directions, seed: As for every searcher.
        min: Fewest epochs.
        max: Epochs of a full training.
        eta: How many configurations compete for one place on the next rung.
        f: Weight of the difference, in [0, 1].
        cr: Probability that a gene comes from the moved point, in [0, 1]; one always does.
        toolbox: A DEAP `Toolbox` of your own, whose ``select`` (individuals, k) is used for the three that move a
            fourth.
    """

    name = "dehb"

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[Direction] = ("maximize",),
        seed: int = 0,
        *,
        min: int = 1,
        max: int | None = None,
        eta: int = 3,
        f: float = 0.5,
        cr: float = 0.5,
        toolbox: base.Toolbox | None = None,
    ) -> None:
        super().__init__(space, directions, seed, searcher="random", min=min, max=max, eta=eta)
        check_shares(f=f, cr=cr)
        check_toolbox(toolbox)
        self._f, self._cr = f, cr
        self._sizes = self._population_sizes()
        # By rung: the best that was tried for each place, and by key those that nobody here proposed.
        self._own: defaultdict[int, dict[int, Individual]] = defaultdict(dict)
        self._foreign: defaultdict[int, dict[str, Individual]] = defaultdict(dict)
        # By rung: how many were proposed there; and all that are known there, with their trials' numbers.
        self._turns: defaultdict[int, int] = defaultdict(int)
        self._tried: defaultdict[int, dict[str, int | None]] = defaultdict(dict)
        # Nobody climbs in later brackets. A child may still come to equal one of a population, and go on from there.
        self._unclimbing: list[Climber] = []
        self._n_asked = 0
        self.toolbox = base.Toolbox()
        self.toolbox.register("select", draw)
        if toolbox is not None and hasattr(toolbox, "select"):
            self.toolbox.select = toolbox.select

    def _population_sizes(self) -> list[int]:
        """Individuals of the population on each rung: as many as the largest bracket has there."""
        sizes = [0] * len(self._fidelities)
        for number in range(len(sizes)):
            bracket = self.ladder.bracket(number)
            for rung, size in enumerate(bracket.sizes, start=bracket.first):
                sizes[rung] = max(sizes[rung], size)
        return sizes

    def _begin(self, number: int, bracket: Bracket) -> Proposal | None:
        rung = bracket.first
        if number == 0:
            return self._newcomer(number, rung)
        return self._child(number, rung, self._population(rung))

    def _climb(self, number: int, bracket: Bracket, step: int) -> Proposal | None:
        rung = bracket.first + step
        if number == 0:
            return super()._climb(number, bracket, step)
        size = self._size(number, bracket, step + 1)
        if len(self._on(number, rung + 1)) >= size or not self._is_complete(number, bracket, step):
            return None
        return self._child(number, rung + 1, sorted(self._population(rung), key=rank)[:size])

    def _child(self, number: int, rung: int, pool: list[Individual]) -> Proposal | None:
        """A configuration that was not tried on a rung yet, by differential evolution as long as that finds one."""
        target = self._own[rung].get(self._turns[rung] % self._sizes[rung])
        with seeded(derive_seed(self.seed, _STREAM, self._n_asked)):
            donors = [one for one in pool if one is not target]
            if len(donors) < N_DONORS:
                others = [one for one in self._everyone() if one is not target and one not in donors]
                donors += random.sample(others, min(N_DONORS - len(donors), len(others)))
            if len(donors) >= N_DONORS:
                for _ in range(_MAX_ATTEMPTS):
                    chosen = self.toolbox.select(donors, N_DONORS)
                    genes, parents = move(target or random.choice(donors), chosen, self._f, self._cr)
                    params = self.space.decode(genes)
                    if self.space.key(params) not in self._tried[rung]:
                        return self._born(number, rung, params, parents, genes)
        if (newcomer := self._newcomer(number, rung)) is not None:
            return newcomer
        return self._late_comer(number, rung)

    def _late_comer(self, number: int, rung: int) -> Proposal | None:
        """The best of the rungs below that was not tried here: what is left where a space has nothing new."""
        for one in sorted((one for lower in range(rung) for one in self._population(lower)), key=rank):
            params = self.space.decode(one)
            if self.space.key(params) not in self._tried[rung]:
                return self._born(number, rung, params, one.parents, list(one))
        return None

    def _born(self, number: int, rung: int, params: Params, parents: list[int], genes: list[float]) -> Proposal:
        """The proposal of a child; one that was trained for fewer epochs goes on from there."""
        key = self.space.key(params)
        # The searcher of newcomers learns what it must not draw.
        self.searcher.expect(Trial(-1, params, 0))
        origin = {"by": self.name, "parents": parents}
        child = self._proposed(number, rung, Climber(key, params), origin, genes=genes)
        below = (self._tried[lower].get(key) for lower in reversed(range(rung)))
        return self._going_on(child, next((number for number in below if number is not None), None))

    def _proposed(
        self, bracket: int, rung: int, climber: Climber, origin: dict[str, Any] | None, **token: Any
    ) -> Proposal:
        self._tried[rung].setdefault(climber.key, None)
        token |= {"ask": self._n_asked, "turn": self._turns[rung]}
        self._n_asked += 1
        self._turns[rung] += 1
        return super()._proposed(bracket, rung, climber, origin, **token)

    def _place(self, trial: Trial) -> None:
        """Put a trial on its rung, and into its place in the population there if it is better than what is there."""
        super()._place(trial)
        token = trial.token if isinstance(trial.token, dict) else {}
        if "turn" in token:
            self._n_asked = max(self._n_asked, token["ask"] + 1)
        rung = self._rung_of(trial)
        if rung is None:
            return
        key = self.space.key(trial.params)
        self._tried[rung].setdefault(key, None)
        if "turn" in token:
            self._turns[rung] = max(self._turns[rung], token["turn"] + 1)
        if (losses := losses_of(trial, self.directions)) is None:
            return
        if token.get("bracket"):
            self._unclimbing.append(self._on(token["bracket"], rung)[key])
        self._tried[rung][key] = trial.number
        individual = Individual(token.get("genes") or self.space.encode(trial.params), parents=[trial.number])
        individual.fitness.values = losses
        if "turn" not in token:
            self._foreign[rung][key] = individual
            return
        place = token["turn"] % self._sizes[rung]
        if rank(individual) < rank(self._own[rung].get(place)):
            self._own[rung][place] = individual

    def _let_go(self) -> None:
        super()._let_go()
        kept = {one.parents[0] for one in self._everyone()}
        self._unclimbing, unclimbing = [], self._unclimbing
        for climber in unclimbing:
            if climber.number in kept:
                self._unclimbing.append(climber)
            else:
                self._say_outdated([climber])

    def _settle(self, number: int, bracket: Bracket) -> None:
        if number == 0:
            super()._settle(number, bracket)

    def _population(self, rung: int) -> list[Individual]:
        """The individuals on a rung; the best of those from elsewhere take the places of the worst."""
        everyone = [*self._own[rung].values(), *self._foreign[rung].values()]
        return sorted(everyone, key=rank)[: self._sizes[rung]]

    def _everyone(self) -> list[Individual]:
        return [one for rung in range(len(self._fidelities)) for one in self._population(rung)]
