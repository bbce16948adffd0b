"""Evolution for several objectives: NSGA-II and NSGA-III, asynchronous, steady-state, on DEAP's toolbox.

    start     a Latin hypercube
    each ask  population = the best of all that have ended, by fronts of trials that do not dominate one another, and in
                           the last front that fits by crowding (NSGA-II) or by reference points (NSGA-III)
              breed children of parents that win binary tournaments, until enough of them are new
              propose the one that is likeliest to be good, by two Parzen windows: over the best trials and the rest

Nothing waits, and a repeat is never proposed. With one objective the fronts are the order of the values.

References:
    Deb, Pratap, Agarwal and Meyarivan (2002), "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE
    Transactions on Evolutionary Computation 6, 182-197.
    Deb and Jain (2014), "An evolutionary many-objective optimization algorithm using reference-point-based nondominated
    sorting approach, part I", IEEE Transactions on Evolutionary Computation 18, 577-601: NSGA-III.
    Durillo, Nebro, Luna and Alba (2009), "On the effect of the steady-state selection scheme in multi-objective genetic
    algorithms", EMO.
    Ozaki, Tanigaki, Watanabe and Onishi (2020), "Multiobjective tree-structured Parzen estimator for computationally
    expensive optimization problems", GECCO: the two densities where there are several objectives.
"""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import ClassVar

import numpy as np
from deap import base, tools
from scipy.stats import qmc

from hpo_spark.searchers.base import Direction, Proposal, SequentialSearcher
from hpo_spark.searchers.breeding import Breeder, complete_toolbox
from hpo_spark.searchers.dominance import Contenders
from hpo_spark.searchers.genome import Genes, Genome, Individual, mutate_mixed
from hpo_spark.searchers.history import Known
from hpo_spark.searchers.options import check_shares, check_whole
from hpo_spark.searchers.parzen import MAX_GOOD, log_density, n_good
from hpo_spark.seeds import derive_seed, seeded
from hpo_spark.space import Params, SearchSpace

__all__ = ["Nsga2Searcher", "Nsga3Searcher"]

_STREAM = 0x25A2
# Litters to find new children in, before the neighbourhood counts as used up.
_MAX_LITTERS = 10
# What DEAP's tournament needs.
_MIN_FOR_TOURNAMENT = 4


class _Ended(Individual):
    """The genes of a trial that has ended, and the key of its configuration."""

    key = ""


class _NsgaSearcher(SequentialSearcher):
    """What both have in common; they differ in how they choose within a front.

    Args:
        space, directions, seed: As for every searcher.
        population: The best trials that may become parents; 4 or more.
        start: Points of the Latin hypercube, with those that are known already; 1 or more.
        children: New children of which one is proposed; 1 for no screen.
        cxpb: Probability that a child has two parents, in [0, 1].
        mutpb: Probability that a child is mutated, in [0, 1].
        indpb: Probability that one gene of a mutated child changes, in [0, 1]; None for 1 / genes.
        sigma: Standard deviation of a mutation's step, as a share of the gene's range; in [0, 1].
        toolbox: A DEAP `Toolbox` of your own: whichever of ``mate``, ``mutate`` and ``select`` it registers is used.
            ``select`` (individuals, k) chooses the population, as `tools.selNSGA2` and `tools.selSPEA2` do. Genes that
            an operator takes outside are put back to the edge, and discrete ones to their nearest level.

    A trial that ended without values is dominated by all that have some, and becomes no parent. DEAP draws from the
    global generators of ``random`` and numpy. They are seeded for each ask, by the study's seed and its number, and put
    back afterwards.
    """

    several_objectives: ClassVar[bool] = True

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[Direction] = ("maximize",),
        seed: int = 0,
        *,
        population: int = 10,
        start: int = 10,
        children: int = 24,
        cxpb: float = 0.5,
        mutpb: float = 0.9,
        indpb: float | None = None,
        sigma: float = 0.2,
        toolbox: base.Toolbox | None = None,
    ) -> None:
        super().__init__(space, directions, seed)
        check_whole(population=(population, _MIN_FOR_TOURNAMENT), start=(start, 1), children=(children, 1))
        indpb = 1 / len(space) if indpb is None else indpb
        check_shares(cxpb=cxpb, mutpb=mutpb, indpb=indpb, sigma=sigma)
        self._population, self._n_children = population, children
        self._genome = Genome(space)
        self._genes: dict[str, Genes] = {}
        self._contenders = Contenders(max(population, MAX_GOOD), len(directions))
        self._start = qmc.LatinHypercube(len(space), rng=np.random.default_rng([seed, _STREAM])).random(start)
        own = base.Toolbox()
        own.register("mate", tools.cxUniform, indpb=0.5)
        own.register("mutate", mutate_mixed, genome=self._genome, sigma=sigma, indpb=indpb)
        if len(directions) == 1:
            own.register("select", tools.selBest)
        else:
            self._register_select(own)
        self.toolbox = complete_toolbox(toolbox, own, ("mate", "mutate", "select"))
        self._breeder = Breeder(self.toolbox, cxpb, mutpb)

    @abstractmethod
    def _register_select(self, toolbox: base.Toolbox) -> None:
        """Register what chooses the population."""

    def _propose(self, rng: np.random.Generator) -> Proposal | None:
        n_known = self.history.n_seen
        if n_known < len(self._start):
            params = self.space.decode(self._start[n_known].tolist())
            if params not in self.history:
                return Proposal(params, origin={"by": "start"})
        with seeded(derive_seed(self.seed, _STREAM, self._n_asked)):
            child = self._best_child()
        if child is not None:
            return child
        drawn = self.history.draw_unseen(rng)
        return None if drawn is None else Proposal(drawn, origin={"by": "draw"})

    def _best_child(self) -> Proposal | None:
        """Of a batch of new children the likeliest to be good; None where none is new, or no trial has values."""
        contenders = [self._individual(known) for known in self._contenders.among(self.history.ranked)]
        if not contenders:
            return None
        population = self._selected(contenders, self._population)
        children = self._new_children(population)
        if not children:
            return None
        best = 0
        if len(children) > 1:
            best = int(np.argmax(self._promise(contenders, np.array([genes for genes, _, _ in children]))))
        _, params, parents = children[best]
        return Proposal(params, origin={"by": self.name, "parents": parents})

    def _new_children(self, population: list[_Ended]) -> list[tuple[Genes, Params, list[int]]]:
        """Children that differ and are not known: genes, configuration, parents; fewer where hardly any is left."""
        children: dict[str, tuple[Genes, Params, list[int]]] = {}
        for _ in range(_MAX_LITTERS):
            litter = self._breeder.litter(lambda: _parents(population), self._n_children)
            for genes, child in zip(self._genome.repair(np.array(litter)), litter, strict=True):
                params = self._genome.decode(genes)
                key = self.space.key(params)
                if not self.history.has_seen(key) and len(children) < self._n_children:
                    children.setdefault(key, (genes, params, child.parents))
            if len(children) == self._n_children:
                break
        return list(children.values())

    def _promise(self, contenders: list[_Ended], at: Genes) -> Genes:
        """How much likelier good trials are than others, at genes of shape (children, genes): its logarithm."""
        ranked = self.history.ranked
        good = {one.key for one in self._selected(contenders, n_good(len(ranked)))}
        is_good = np.array([known.key in good for known in ranked])
        genes = np.array([self._genes_of(known) for known in ranked])
        return log_density(self._genome, genes[is_good], at) - log_density(self._genome, genes[~is_good], at)

    def _selected(self, individuals: list[_Ended], k: int) -> list[_Ended]:
        with np.errstate(all="ignore"):  # of huge values
            chosen: list[_Ended] = self.toolbox.select(individuals, min(k, len(individuals)))
        return chosen

    def _individual(self, known: Known) -> _Ended:
        individual = _Ended(self._genes_of(known).tolist(), parents=[known.trial.number])
        individual.key = known.key
        individual.fitness = _fitness_class(len(self.directions))(known.losses)
        return individual

    def _genes_of(self, known: Known) -> Genes:
        if known.key not in self._genes:
            self._genes[known.key] = self._genome.encode(known.trial.params)
        return self._genes[known.key]


class Nsga2Searcher(_NsgaSearcher):
    """NSGA-II, for two objectives or three: within a front the trials in the emptiest places come first.

    Its arguments are those of `_NsgaSearcher`.
    """

    name = "nsga2"

    def _register_select(self, toolbox: base.Toolbox) -> None:
        toolbox.register("select", tools.selNSGA2, nd="log")


class Nsga3Searcher(_NsgaSearcher):
    """NSGA-III, for three objectives and more: within a front the trials spread over evenly placed directions.

    There are as many directions as the population can follow. Its arguments are those of `_NsgaSearcher`.
    """

    name = "nsga3"

    def _register_select(self, toolbox: base.Toolbox) -> None:
        points = _reference_points(len(self.directions), self._population)
        toolbox.register("select", tools.selNSGA3, ref_points=points, nd="log")


def _reference_points(n_objectives: int, population: int) -> np.ndarray:
    """As many evenly spread directions as the population can follow; those of the axes at least."""
    partitions = 1
    while math.comb(partitions + n_objectives, n_objectives - 1) <= population:
        partitions += 1
    points: np.ndarray = tools.uniform_reference_points(n_objectives, partitions)
    return points


def _parents(population: list[_Ended]) -> list[_Ended]:
    """Two parents, each the winner of a binary tournament by dominance, then crowding where there is such."""
    if len(population) < _MIN_FOR_TOURNAMENT:
        return random.choices(population, k=2)
    winners: list[_Ended] = tools.selTournamentDCD(population, 2)
    return winners[:2]


@cache
def _fitness_class(n_objectives: int) -> type[base.Fitness]:
    class Fitness(base.Fitness):  # type: ignore[misc]
        weights = (-1.0,) * n_objectives
        crowding_dist = 0.0  # all alike, unless the selection says otherwise

    return Fitness
