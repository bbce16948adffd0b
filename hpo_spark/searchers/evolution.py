"""Asynchronous steady-state elitist evolution on DEAP's toolbox, with a Parzen screen: the default.

    start     a Latin hypercube
    each ask  breed children of the best trials, by crossover and mutation, until enough of them are new;
              propose the one that is likeliest to be good: by two Parzen windows, over the best trials and the rest

Nothing waits: whatever has ended by now is the population. A repeat is never proposed.

References:
    Bergstra, Bardenet, Bengio and Kegl (2011), "Algorithms for hyper-parameter optimization", NIPS 24: the ratio of two
    densities that screens the children.
    McKay, Beckman and Conover (1979), Technometrics 21, 239-245: the start.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
from deap import base, tools
from scipy.stats import qmc

from hpo_spark.searchers.base import Direction, Proposal, SequentialSearcher
from hpo_spark.searchers.genome import Genes, Genome, Individual, mutate_mixed
from hpo_spark.searchers.history import Known
from hpo_spark.searchers.options import check_shares, check_toolbox, check_whole
from hpo_spark.searchers.parzen import log_density
from hpo_spark.seeds import derive_seed, seeded
from hpo_spark.space import Params, SearchSpace

__all__ = ["EvolutionSearcher"]

# Keeps these draws apart from those of trial n, which has a seed from the same study.
_STREAM = 0xE701
# Attempts to breed one new child, before the neighbourhood counts as used up.
_MAX_ATTEMPTS = 10
# With n trials an immigrant comes instead of a child with probability _IMMIGRANTS / (1 + n / 50).
_IMMIGRANTS, _IMMIGRANTS_FADE = 0.1, 50
# The share of trials that count as good, and how many at most.
_GOOD_SHARE, _MAX_GOOD = 0.15, 25


class EvolutionSearcher(SequentialSearcher):
    """Breeds from the best trials whenever it is asked, and screens the children by density.

    Args:
        space, directions, seed: As for every searcher.
        population: The best trials that may become parents; 2 or more.
        start: Points of the Latin hypercube, with those that are known already; 1 or more.
        children: New children of which one is proposed; 1 for no screen.
        cxpb: Probability that a child has two parents, in [0, 1].
        mutpb: Probability that a child is mutated, in [0, 1].
        indpb: Probability that one gene of a mutated child changes, in [0, 1]; None for 1 / genes.
        sigma: Standard deviation of a mutation's step, as a share of the gene's range; above 0.
        tournament_size: Trials of which the best becomes a parent.
        toolbox: A DEAP `Toolbox` of your own: whichever of ``mate``, ``mutate`` and ``select`` it registers is used.
            Individuals are lists of genes in [0, 1] with a fitness; genes that an operator takes outside are put back
            to the edge, and discrete ones to their nearest level.

    DEAP draws from the global generators of ``random`` and numpy. They are seeded for each ask, by the study's seed and
    its number, and put back afterwards.
    """

    name = "evolution"

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
        tournament_size: int = 3,
        toolbox: base.Toolbox | None = None,
    ) -> None:
        super().__init__(space, directions, seed)
        check_whole(population=(population, 2), start=(start, 1), children=(children, 1))
        check_whole(tournament_size=(tournament_size, 1))
        indpb = 1 / len(space) if indpb is None else indpb
        check_shares(cxpb=cxpb, mutpb=mutpb, indpb=indpb, sigma=sigma)
        self._n_parents, self._n_children = population, children
        self._cxpb, self._mutpb = cxpb, mutpb
        self._genome = Genome(space)
        self._genes: dict[str, Genes] = {}
        self._start = qmc.LatinHypercube(len(space), rng=np.random.default_rng([seed, _STREAM])).random(start)
        self.toolbox = base.Toolbox()
        self.toolbox.register("mate", tools.cxUniform, indpb=0.5)
        self.toolbox.register("mutate", mutate_mixed, genome=self._genome, sigma=sigma, indpb=indpb)
        self.toolbox.register("select", tools.selTournament, tournsize=tournament_size)
        check_toolbox(toolbox)
        for name in ("mate", "mutate", "select"):
            if toolbox is not None and hasattr(toolbox, name):
                setattr(self.toolbox, name, getattr(toolbox, name))

    def _propose(self, rng: np.random.Generator) -> Proposal | None:
        n_known = self.history.n_seen
        if n_known < len(self._start):
            params = self.space.decode(self._start[n_known].tolist())
            if params not in self.history:
                return Proposal(params, origin={"by": "start"})
        n_ended = len(self.history)
        if n_ended > 1 and rng.random() >= _IMMIGRANTS / (1 + n_ended / _IMMIGRANTS_FADE):
            with seeded(derive_seed(self.seed, _STREAM, self._n_asked)):
                child = self._best_child()
            if child is not None:
                return child
        drawn = self.history.draw_unseen(rng)
        return None if drawn is None else Proposal(drawn, origin={"by": "draw"})

    def _best_child(self) -> Proposal | None:
        """Of a batch of new children the likeliest to be good; None where none is new."""
        ranked = self.history.ranked
        parents = [self._individual(rank, known) for rank, known in enumerate(ranked[: self._n_parents])]
        children: dict[str, tuple[Individual, Params]] = {}
        for _ in range(_MAX_ATTEMPTS * self._n_children):
            child = self._bred(parents)
            params = self.space.decode(child)
            key = self.space.key(params)
            if not self.history.has_seen(key):
                children[key] = child, params
            if len(children) == self._n_children:
                break
        if not children:
            return None
        candidates = list(children.values())
        genes = np.array([self._genome.active(child, params) for child, params in candidates])
        child, params = candidates[int(np.argmax(self._promise(ranked, genes)))]
        return Proposal(params, origin={"by": "evolution", "parents": child.parents})

    def _promise(self, ranked: Sequence[Known], at: Genes) -> Genes:
        """How much likelier good trials are than others, at genes of shape (children, genes): its logarithm."""
        genes = np.array([self._genes_of(known) for known in ranked])
        n_good = min(_MAX_GOOD, max(2, math.ceil(_GOOD_SHARE * len(ranked))))
        return log_density(self._genome, genes[:n_good], at) - log_density(self._genome, genes[n_good:], at)

    def _bred(self, parents: list[Individual]) -> Individual:
        first, second = self.toolbox.select(parents, 2)
        child: Individual = first.with_all_genes()
        if random.random() < self._cxpb:
            self.toolbox.mate(child, second.with_all_genes())
            child.parents = [*first.parents, *second.parents]
        if random.random() < self._mutpb:
            (child,) = self.toolbox.mutate(child)
        self._genome.repair(child)
        return child

    def _individual(self, rank: int, known: Known) -> Individual:
        """A trial as a parent; its fitness is its rank, since the worst stand in for those without a value."""
        individual = Individual(self._genes_of(known).tolist(), parents=[known.trial.number])
        individual.fitness.values = (float(rank),)
        return individual

    def _genes_of(self, known: Known) -> Genes:
        if known.key not in self._genes:
            self._genes[known.key] = self._genome.encode(known.trial.params)
        return self._genes[known.key]
