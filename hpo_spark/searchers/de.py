"""Differential evolution, DE/rand/1/bin, with asynchronous replacement: nothing waits for a generation.

    start     one Latin hypercube point for each place of the population
    each ask  the next place's individual, crossed with a + f (b - c) of three others
    each tell the place keeps the better of the two

References:
    Storn and Price (1997), "Differential evolution: a simple and efficient heuristic for global optimization over
    continuous spaces", Journal of Global Optimization 11, 341-359.
    Awad, Mallik and Hutter (2021), "DEHB: evolutionary hyperband for scalable, robust and efficient hyperparameter
    optimization", IJCAI: discrete parameters as continuous genes that are decoded.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
from deap import base
from scipy.stats import qmc

from hpo_spark.searchers.base import Direction, Proposal, SequentialSearcher
from hpo_spark.searchers.genome import Individual
from hpo_spark.searchers.history import losses_of
from hpo_spark.searchers.options import check_shares, check_toolbox, check_whole
from hpo_spark.seeds import derive_seed, seeded
from hpo_spark.space import SearchSpace
from hpo_spark.trial import Trial

__all__ = ["N_DONORS", "DifferentialEvolutionSearcher", "draw", "move", "rank"]

_STREAM = 0xDE00
_MAX_ATTEMPTS = 30
N_DONORS = 3


class DifferentialEvolutionSearcher(SequentialSearcher):
    """Moves each individual along the difference of two others, and keeps what is better.

    Args:
        space, directions, seed: As for every searcher.
        population: Individuals; 4 or more.
        f: Weight of the difference, in [0, 1].
        cr: Probability that a gene comes from the moved point, in [0, 1]; one always does.
        toolbox: A DEAP `Toolbox` of your own, whose ``select`` (individuals, k) is used for the three that move a
            fourth.
    """

    name = "de"
    relearns = False  # a place keeps the better, and values of two fidelities do not compare

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[Direction] = ("maximize",),
        seed: int = 0,
        *,
        population: int = 10,
        f: float = 0.5,
        cr: float = 0.5,
        toolbox: base.Toolbox | None = None,
    ) -> None:
        super().__init__(space, directions, seed)
        check_whole(population=(population, N_DONORS + 1))
        check_shares(f=f, cr=cr)
        check_toolbox(toolbox)
        self._f, self._cr = f, cr
        self._start = qmc.LatinHypercube(len(space), rng=np.random.default_rng([seed, _STREAM])).random(population)
        # The best that was proposed for each place; and by key, those that nobody here proposed.
        self._own: list[Individual | None] = [None] * population
        self._foreign: dict[str, Individual] = {}
        self.toolbox = base.Toolbox()
        self.toolbox.register("select", draw)
        if toolbox is not None and hasattr(toolbox, "select"):
            self.toolbox.select = toolbox.select

    def tell(self, trial: Trial) -> None:
        """Put a trial into its place if it is better than what is there."""
        super().tell(trial)
        if (losses := losses_of(trial, self.directions)) is None:
            return
        token = trial.token if isinstance(trial.token, dict) else {}
        individual = Individual(token.get("genes") or self.space.encode(trial.params), parents=[trial.number])
        individual.fitness.values = losses
        if not 0 <= token.get("place", -1) < len(self._own):
            self._foreign[self.space.key(trial.params)] = individual
            return
        resident = self._own[token["place"]]
        if resident is None or rank(individual) < rank(resident):
            self._own[token["place"]] = individual

    def _population(self) -> list[Individual | None]:
        """The individual in each place; the best of those from elsewhere take the places of the worst."""
        population = list(self._own)
        for newcomer in sorted(self._foreign.values(), key=rank)[: len(population)]:
            worst = max(range(len(population)), key=lambda place: rank(population[place]))
            if rank(population[worst]) < rank(newcomer):
                break
            population[worst] = newcomer
        return population

    def _propose(self, rng: np.random.Generator) -> Proposal | None:
        population = self._population()
        place = self._n_asked % len(population)
        if self._n_asked < len(population):
            genes = self._start[self._n_asked].tolist()
            params = self.space.decode(genes)
            if params not in self.history:
                return Proposal(params, token={"place": place, "genes": genes}, origin={"by": "start"})
        others = [one for index, one in enumerate(population) if one is not None and index != place]
        target = population[place]
        if target is not None and len(others) >= N_DONORS:
            with seeded(derive_seed(self.seed, _STREAM, self._n_asked)):
                for _ in range(_MAX_ATTEMPTS):
                    moved, parents = move(target, self.toolbox.select(others, N_DONORS), self._f, self._cr)
                    params = self.space.decode(moved)
                    if params not in self.history:
                        origin = {"by": "de", "parents": parents}
                        return Proposal(params, token={"place": place, "genes": moved}, origin=origin)
        drawn = self.history.draw_unseen(rng)
        return None if drawn is None else Proposal(drawn, token={"place": place}, origin={"by": "draw"})


def move(target: Individual, donors: Sequence[Individual], f: float, cr: float) -> tuple[list[float], list[int]]:
    """A child of an individual, DE/rand/1/bin; draws from the global generator, which the caller seeds.

    Args:
        target: The individual.
        donors: The three that move it.
        f: Weight of the difference, in [0, 1].
        cr: Probability that a gene comes from the moved point, in [0, 1]; one always does.

    Returns:
        Its genes, reflected at the edges, and the numbers of the trials that it comes from.
    """
    a, b, c = donors
    certain = random.randrange(len(target))
    genes = [
        _reflected(a[index] + f * (b[index] - c[index])) if index == certain or random.random() < cr else gene
        for index, gene in enumerate(target)
    ]
    return genes, [number for one in (target, a, b, c) for number in one.parents]


def rank(individual: Individual | None) -> tuple[float, int]:
    """Sorts individuals from best to worst; no individual at all is the worst."""
    return (math.inf, 0) if individual is None else (individual.fitness.values[0], individual.parents[0])


def _reflected(gene: float) -> float:
    """The gene, reflected at the edge that it has crossed; f of 1 or less crosses one at most."""
    return -gene if gene < 0 else 2 - gene if gene > 1 else gene


def draw(individuals: list[Individual], k: int) -> list[Individual]:
    """As many different individuals, drawn evenly from the global generator."""
    return random.sample(individuals, k)
