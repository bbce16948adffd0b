"""The generational genetic algorithm of the field's tutorials, on DEAP.

    population = random individuals; evaluate
    for each generation:
        parents    = select(population, size - elite)
        offspring  = vary(clones of parents)        # mate with cxpb, mutate with mutpb
        mutate again what repeats a known configuration
        evaluate what changed
        population = hall of fame + offspring

References:
    Deb and Agrawal (1995), "Simulated binary crossover for continuous search space", Complex Systems 9, 115-148.
    Deb and Goyal (1996), "A combined genetic adaptive search (GeneAS) for engineering design" (polynomial mutation).
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from deap import algorithms, base, tools

from hpo_spark.errors import ConfigError
from hpo_spark.searchers.base import Direction, Proposal, Searcher
from hpo_spark.searchers.options import check_choice, check_positive, check_shares, check_toolbox, check_whole
from hpo_spark.seeds import derive_seed, seeded
from hpo_spark.space import SearchSpace
from hpo_spark.trial import Trial, TrialState

__all__ = ["GeneticSearcher", "Individual"]

logger = logging.getLogger(__name__)

# Generations in a row without one new configuration before the search counts as converged.
_MAX_STALE_GENERATIONS = 50
# Mutations of one child before a repeat is accepted: the neighbourhood is used up, or the space is.
_MAX_RENEWALS = 30
# Keeps the draws of generation n apart from those of trial n, which has a seed from the same study.
_STREAM = 0x6E6E


_STATISTICS = {"max": np.max, "avg": np.mean, "std": np.std, "min": np.min}


class _Maximum(base.Fitness):  # type: ignore[misc]
    weights = (1.0,)


class _Minimum(base.Fitness):  # type: ignore[misc]
    weights = (-1.0,)


class Individual(list[float]):
    """Genes in [0, 1], with a DEAP fitness.

    Attributes:
        failed: Whether its trial ended without a value; its fitness then stands for the worst one seen.
    """

    def __init__(self, genes: Sequence[float], fitness: base.Fitness) -> None:
        super().__init__(genes)
        self.fitness = fitness
        self.failed = False


class GeneticSearcher(Searcher):
    """Generations of float-list individuals; each generation waits for all trials of the last.

    Args:
        space, directions, seed: As for every searcher.
        population: Individuals in a generation; 2 or more.
        generations: Generations after the first; None to go on until the study's budget is spent.
        cxpb: Probability that two neighbours are mated, in [0, 1].
        mutpb: Probability that an individual is mutated, in [0, 1].
        eta: Crowding degree of crossover and mutation, above 0: the larger, the closer children are to their parents.
        indpb: Probability that one gene of a mutated individual changes; None for 1 / genes.
        select: ``"tournament"`` (`selTournament`) or ``"best"`` (`selBest` of half the generation).
        tournament_size: Individuals in a tournament.
        hall_of_fame: How many of the best ever are kept and join each generation unchanged; 0 for no elitism.
        distinct: Whether offspring that repeat a known configuration are mutated again, which a small population needs
            to go on finding anything; False is the textbook's loop.
        toolbox: A DEAP `Toolbox` of your own: whichever of ``individual``, ``mate``, ``mutate``, ``select`` and
            ``clone`` it registers is used; ``individual`` gives the genes to start from. Genes that an operator takes
            out of [0, 1] are put back to the edge.

    Attributes:
        logbook: DEAP's `Logbook`: gen, nevals, max, avg, std, min of each finished generation.
        hall_of_fame: DEAP's `HallOfFame` of the best individuals.

    DEAP draws from the global generators of ``random`` and numpy. They are seeded for each generation, by the study's
    seed and its number, and put back afterwards.
    """

    name = "genetic"

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[Direction] = ("maximize",),
        seed: int = 0,
        *,
        population: int = 20,
        generations: int | None = None,
        cxpb: float = 0.8,
        mutpb: float = 0.2,
        eta: float = 10.0,
        indpb: float | None = None,
        select: Literal["tournament", "best"] = "tournament",
        tournament_size: int = 3,
        hall_of_fame: int = 1,
        distinct: bool = True,
        toolbox: base.Toolbox | None = None,
    ) -> None:
        super().__init__(space, directions, seed)
        check_whole(population=(population, 2), tournament_size=(tournament_size, 1), hall_of_fame=(hall_of_fame, 0))
        if generations is not None:
            check_whole(generations=(generations, 0))
        check_shares(cxpb=cxpb, mutpb=mutpb, indpb=1 / len(space) if indpb is None else indpb)
        check_positive(eta=eta)
        check_choice(("tournament", "best"), select=select)
        check_toolbox(toolbox)
        if hall_of_fame >= population:
            raise ConfigError(
                f"hall_of_fame must be below population, got hall_of_fame={hall_of_fame}, population={population}."
            )
        self._size = population
        self._generations = generations
        self._cxpb, self._mutpb = cxpb, mutpb
        self._distinct = distinct
        if not isinstance(distinct, bool):
            raise ConfigError(f"distinct must be true or false, got distinct={distinct!r}.")
        self._fitness = _Maximum if directions[0] == "maximize" else _Minimum
        self.toolbox = self._complete(toolbox, eta, indpb, select, tournament_size)
        self.hall_of_fame = tools.HallOfFame(hall_of_fame)
        self.logbook = tools.Logbook()
        self.logbook.header = ["gen", "nevals", *_STATISTICS]
        self._generation = -1
        self._individuals: list[Individual] = []
        self._to_ask: list[int] = []
        self._to_tell: set[int] = set()
        self._n_evaluated = 0
        self._worst: float | None = None
        self._seen: set[str] = set()
        self._n_stale = 0

    @property
    def ends(self) -> bool:
        """Whether the number of generations is given."""
        return self._generations is not None

    def ask(self, n: int) -> list[Proposal]:
        """Up to ``n`` individuals of this generation that are not evaluated; none until it is complete."""
        while not self._to_ask and not self._to_tell:
            if self._is_over():
                return []
            self._breed()
        asked, self._to_ask = self._to_ask[:n], self._to_ask[n:]
        return [
            Proposal(
                self.space.decode(self._individuals[index]),
                token={"generation": self._generation, "index": index},
                origin={"generation": self._generation},
            )
            for index in asked
        ]

    def tell(self, trial: Trial) -> None:
        """Give an individual its fitness; of a trial that was not asked for only the worst value is remembered."""
        value = trial.value if trial.state is TrialState.COMPLETED else None
        if value is not None:
            self._worst = value if self._worst is None else self._worse(self._worst, value)
        token = trial.token if isinstance(trial.token, dict) else {}
        index = token.get("index")
        if token.get("generation") != self._generation or index not in self._to_tell:
            return
        individual = self._individuals[index]
        individual.failed = value is None
        if value is not None:
            individual.fitness.values = (value,)
        self._to_tell.remove(index)
        if not self._to_tell:
            self._finish()

    def expect(self, trial: Trial) -> None:
        """Learn nothing: a generation waits for its own trials only."""

    def restore(self, history: Iterable[Trial]) -> None:
        """Breed the generations again, which takes no trial, and give their individuals what became of them."""
        by_place: dict[tuple[int, int], Trial] = {}
        by_key: dict[str, Trial] = {}
        for trial in history:
            if isinstance(trial.token, dict) and "generation" in trial.token:
                by_place[trial.token["generation"], trial.token["index"]] = trial
            else:
                self.tell(trial)
            by_key.setdefault(self.space.key(trial.params), trial)
        last = max((generation for generation, _ in by_place), default=-1)
        while self._generation < last and not self._to_ask and not self._to_tell and not self._is_over():
            self._breed()
            for index in list(self._to_ask):
                place = self._generation, index
                trial_of_it = by_place.get(place) or by_key.get(self._key(self._individuals[index]))
                if trial_of_it is None:
                    continue
                self._to_ask.remove(index)
                if trial_of_it.state is not TrialState.RUNNING:
                    self.tell(replace(trial_of_it, token={"generation": self._generation, "index": index}))

    def _complete(
        self, toolbox: base.Toolbox | None, eta: float, indpb: float | None, select: str, tournament_size: int
    ) -> base.Toolbox:
        """The user's toolbox, with our operators where it has none."""
        complete = base.Toolbox()
        bounds = {"eta": eta, "low": 0.0, "up": 1.0}
        complete.register("mate", tools.cxSimulatedBinaryBounded, **bounds)
        complete.register("mutate", tools.mutPolynomialBounded, **bounds, indpb=indpb or 1 / len(self.space))
        if select == "best":
            complete.register("select", _select_best_half)
        else:
            complete.register("select", tools.selTournament, tournsize=tournament_size)
        complete.register("individual", _random_genes, len(self.space))
        for name in ("individual", "mate", "mutate", "select", "clone"):
            if toolbox is not None and hasattr(toolbox, name):
                setattr(complete, name, getattr(toolbox, name))
        return complete

    def _is_over(self) -> bool:
        if self._generations is not None and self._generation >= self._generations:
            return True
        if self._n_stale >= _MAX_STALE_GENERATIONS:
            logger.info("genetic: converged: no new configuration in %d generations", self._n_stale)
            return True
        return False

    def _breed(self) -> None:
        """Make the next generation and say which of its individuals need a trial."""
        self._generation += 1
        with seeded(derive_seed(self.seed, _STREAM, self._generation)):
            if self._generation == 0:
                genes = [self.toolbox.individual() for _ in range(self._size)]
                self._individuals = [self._repaired(Individual(each, self._fitness())) for each in genes]
            else:
                n_offspring = self._size - len(self.hall_of_fame)
                parents = self.toolbox.select(self._individuals, n_offspring)
                if len(parents) < n_offspring:  # a selection by truncation: each has several children
                    parents = [parents[index % len(parents)] for index in range(n_offspring)]
                offspring = algorithms.varAnd(parents, self.toolbox, self._cxpb, self._mutpb)
                elite = [self.toolbox.clone(individual) for individual in self.hall_of_fame]
                self._individuals = elite + self._renewed([self._repaired(individual) for individual in offspring])
        self._to_ask = [index for index, one in enumerate(self._individuals) if not one.fitness.valid]
        self._to_tell = set(self._to_ask)
        self._n_evaluated = len(self._to_ask)
        keys = {self._key(self._individuals[index]) for index in self._to_ask}
        self._n_stale = 0 if keys - self._seen else self._n_stale + 1
        self._seen |= keys
        if not self._to_ask:
            self._finish()

    def _key(self, individual: Individual) -> str:
        return self.space.key(self.space.decode(individual))

    def _renewed(self, offspring: list[Individual]) -> list[Individual]:
        """Mutate again those that were varied and yet repeat a known configuration, or one another."""
        taken = set(self._seen)
        for index, individual in enumerate(offspring):
            if individual.fitness.valid:
                continue
            for _ in range(_MAX_RENEWALS if self._distinct else 0):
                if self._key(individual) not in taken:
                    break
                (individual,) = self.toolbox.mutate(individual)
                offspring[index] = self._repaired(individual)
            taken.add(self._key(offspring[index]))
        return offspring

    def _repaired(self, individual: Individual) -> Individual:
        """Put genes that an operator took outside back to the edge."""
        for index, gene in enumerate(individual):
            if not 0.0 <= gene <= 1.0:
                individual[index] = random.random() if math.isnan(gene) else min(1.0, max(0.0, gene))
        return individual

    def _finish(self) -> None:
        """Close a generation whose trials have all been told."""
        for individual in self._individuals:
            if individual.failed:  # the worst value seen may have become worse since
                individual.fitness.values = (0.0 if self._worst is None else self._worst,)
        succeeded = [individual for individual in self._individuals if not individual.failed]
        if self.hall_of_fame.maxsize:  # DEAP cannot update one of size 0
            self.hall_of_fame.update(succeeded)
        values = [individual.fitness.values[0] for individual in succeeded]
        statistics = tools.Statistics()
        for name, function in _STATISTICS.items():
            statistics.register(name, lambda data, function=function: float(function(data)) if data else None)
        self.logbook.record(gen=self._generation, nevals=self._n_evaluated, **statistics.compile(values))
        entry = self.logbook[-1]
        self.notes.append(dict(entry))
        described = " ".join(
            f"{name}={'-' if entry[name] is None else format(entry[name], '.6g')}" for name in _STATISTICS
        )
        logger.info("genetic: gen=%d nevals=%d %s", self._generation, self._n_evaluated, described)

    def _worse(self, a: float, b: float) -> float:
        return min(a, b) if self.directions[0] == "maximize" else max(a, b)


def _random_genes(n: int) -> list[float]:
    return [random.random() for _ in range(n)]


def _select_best_half(individuals: list[Individual], k: int) -> list[Individual]:
    best: list[Individual] = tools.selBest(individuals, max(2, k // 2))
    return best
