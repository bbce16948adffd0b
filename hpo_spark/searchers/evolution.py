"""Asynchronous steady-state elitist evolution on DEAP's toolbox, its children screened by two surrogates: the default.

    start     a Latin hypercube
    each ask  breed children of the best trials, by crossover and mutation, and add all neighbours of the very best;
              propose, by turns, the new one that
              - is expected to improve most, by a Gaussian process over the trials' ranks, or
              - has most in common with good trials rather than others, by two Parzen windows

Nothing waits: whatever has ended by now is the population. A repeat is never proposed. The process refines what is best
so far and may stay in its valley; the windows, which rest on more good trials than one, do not follow it there.

References:
    Jin (2011), "Surrogate-assisted evolutionary computation: recent advances and future challenges", Swarm and
    Evolutionary Computation 1, 61-70: the screen, there called pre-selection.
    Hoffman, Brochu and de Freitas (2011), "Portfolio allocation for Bayesian optimization", UAI: several criteria are
    more robust than any one of them.
    McKay, Beckman and Conover (1979), Technometrics 21, 239-245: the start.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from deap import base, tools
from scipy.stats import qmc

from hpo_spark.searchers.base import Direction, Proposal, SequentialSearcher
from hpo_spark.searchers.breeding import Breeder, complete_toolbox
from hpo_spark.searchers.genome import Genes, Genome, Individual, mutate_mixed
from hpo_spark.searchers.history import Known
from hpo_spark.searchers.options import check_shares, check_whole
from hpo_spark.searchers.parzen import log_density, n_good
from hpo_spark.searchers.surrogate import expected_improvement, rank_scores
from hpo_spark.searchers.threads import one_thread
from hpo_spark.seeds import derive_seed, seeded
from hpo_spark.space import SearchSpace
from hpo_spark.trial import Trial

__all__ = ["EvolutionSearcher"]

# Keeps these draws apart from those of trial n, which has a seed from the same study.
_STREAM = 0xE701
# Batches without a new child, before the neighbourhood counts as used up.
_MAX_ATTEMPTS = 10
# Trials that the surrogates see: half of them the best, the others spread evenly over the rest.
_MAX_POINTS = 100
# Running trials that they see.
_MAX_PENDING = 32
# To which a child's promise is rounded: sums differ in the last digits from one processor to another.
_DIGITS = 9


class EvolutionSearcher(SequentialSearcher):
    """Breeds from the best trials whenever it is asked, and screens their children.

    Args:
        space, directions, seed: As for every searcher.
        population: The best trials that may become parents; 2 or more.
        start: Points of the Latin hypercube, with those that are known already; 1 or more.
        children: Children bred for an ask; one is proposed.
        neighbours: The best trials of which everything that differs in one gene joins the children; 1 child and 0
            neighbours leave nothing to choose from.
        cxpb: Probability that a child has two parents, in [0, 1].
        mutpb: Probability that a child is mutated, in [0, 1].
        indpb: Probability that one gene of a mutated child changes, in [0, 1]; None for 1 / genes.
        sigma: Standard deviation of a mutation's step, as a share of the gene's range; in [0, 1].
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
        neighbours: int = 3,
        cxpb: float = 0.5,
        mutpb: float = 0.9,
        indpb: float | None = None,
        sigma: float = 0.2,
        tournament_size: int = 3,
        toolbox: base.Toolbox | None = None,
    ) -> None:
        super().__init__(space, directions, seed)
        check_whole(population=(population, 2), start=(start, 1), children=(children, 1), neighbours=(neighbours, 0))
        check_whole(tournament_size=(tournament_size, 1))
        indpb = 1 / len(space) if indpb is None else indpb
        check_shares(cxpb=cxpb, mutpb=mutpb, indpb=indpb, sigma=sigma)
        self._n_parents, self._n_children, self._n_neighbours = population, children, neighbours
        self._sigma = sigma
        self._genome = Genome(space)
        # The genes of each configuration that has ended, by its key, and what they are as bytes.
        self._genes: dict[str, Genes] = {}
        self._ended: set[bytes] = set()
        self._start = qmc.LatinHypercube(len(space), rng=np.random.default_rng([seed, _STREAM])).random(start)
        own = base.Toolbox()
        own.register("mate", tools.cxUniform, indpb=0.5)
        own.register("mutate", mutate_mixed, genome=self._genome, sigma=sigma, indpb=indpb)
        own.register("select", tools.selTournament, tournsize=tournament_size)
        self.toolbox = complete_toolbox(toolbox, own, ("mate", "mutate", "select"))
        self._breeder = Breeder(self.toolbox, cxpb, mutpb)

    def tell(self, trial: Trial) -> None:
        """Learn how a trial ended; in any order, also of trials that were never asked for."""
        super().tell(trial)
        key = self.space.key(trial.params)
        if key not in self._genes:
            self._genes[key] = genes = self._genome.encode(trial.params)
            self._ended.add(genes.tobytes())

    def _propose(self, rng: np.random.Generator) -> Proposal | None:
        n_known = self.history.n_seen
        if n_known < len(self._start):
            params = self.space.decode(self._start[n_known].tolist())
            if params not in self.history:
                return Proposal(params, origin={"by": "start"})
        if len(self.history) > 1:
            with seeded(derive_seed(self.seed, _STREAM, self._n_asked)), one_thread():
                for _ in range(_MAX_ATTEMPTS):
                    if (child := self._best_child()) is not None:
                        return child
        drawn = self.history.draw_unseen(rng)
        return None if drawn is None else Proposal(drawn, origin={"by": "draw"})

    def _best_child(self) -> Proposal | None:
        """Of a batch of children the most promising that is new; None where none is."""
        best = self.history.ranked[: max(self._n_parents, self._n_neighbours)]
        parents = [self._individual(rank, known) for rank, known in enumerate(best)]
        children = self._breeder.litter(lambda: self.toolbox.select(parents[: self._n_parents], 2), self._n_children)
        parents_of = [child.parents for child in children]
        family: list[list[float]] = [*children]
        for parent in parents[: self._n_neighbours]:
            around = self._genome.neighbours(parent.with_all_genes(), self._sigma)
            family += around
            parents_of += [parent.parents] * len(around)
        genes = self._genome.repair(np.array(family))
        new = [index for index, row in enumerate(genes) if row.tobytes() not in self._ended]
        if not new:
            return None
        genes = genes[new]
        for index in np.argsort(-np.round(self._promise(genes), _DIGITS), kind="stable"):
            params = self._genome.decode(genes[index])
            if params not in self.history:
                return Proposal(params, origin={"by": "evolution", "parents": parents_of[new[index]]})
        return None

    def _promise(self, at: Genes) -> Genes:
        """What is expected of children, shape (children, genes), by the screen whose turn it is."""
        ranked = self.history.ranked
        n_best = min(len(ranked), _MAX_POINTS // 2)
        rest = np.linspace(n_best, len(ranked) - 1, min(len(ranked) - n_best, _MAX_POINTS - n_best)).astype(int)
        places = np.concatenate([np.arange(n_best), rest])
        chosen = [ranked[place] for place in places]
        genes = np.array([self._genes[known.key] for known in chosen])
        running = self.history.pending[:_MAX_PENDING]
        pending = np.array([self._genome.encode(params) for params in running]).reshape(-1, len(self.space))
        if self._n_asked % 2 == 0:
            good, others = np.split(genes, [n_good(len(ranked))])
            bad = np.concatenate([others, pending])
            return log_density(self._genome, good, at) - log_density(self._genome, bad, at)
        worst = self.history.worst_loss
        losses = np.array([worst if (loss := known.loss) is None else loss for known in chosen])
        scores = rank_scores(places, losses, len(ranked))
        return expected_improvement(self._genome, genes, scores, pending, at)

    def _individual(self, rank: int, known: Known) -> Individual:
        """A trial as a parent; its fitness is its rank, since the worst stand in for those without a value."""
        individual = Individual(self._genes[known.key].tolist(), parents=[known.trial.number])
        individual.fitness.values = (float(rank),)
        return individual
