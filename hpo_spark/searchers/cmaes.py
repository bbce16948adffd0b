"""CMA-ES with margin, for spaces of numbers: the covariance of good steps is learnt from batches of trials.

A batch is learnt from once all its trials have ended; meanwhile further points are drawn from the same distribution.

References:
    Hansen (2016), "The CMA evolution strategy: a tutorial", arXiv:1604.00772.
    Hamano, Saito, Nomura and Shirakawa (2022), "CMA-ES with margin: lower-bounding marginal probability for
    mixed-integer black-box optimization", GECCO.
    Auger and Hansen (2005), "A restart CMA evolution strategy with increasing population size", CEC.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpo_spark.errors import ConfigError, MissingExtra
from hpo_spark.searchers.base import Direction, Proposal, SequentialSearcher
from hpo_spark.searchers.genome import Genome
from hpo_spark.searchers.options import check_shares, check_whole
from hpo_spark.seeds import derive_seed
from hpo_spark.space import Params, SearchSpace
from hpo_spark.trial import Trial

__all__ = ["CmaEsSearcher"]

_STREAM = 0xC3A0
# Points in a row that are known already, before one is drawn evenly instead.
_MAX_REPEATS = 30
# To which points are rounded: sums differ in the last digits from one processor, and one copy in memory, to another.
_DIGITS = 10
# A restart has so many times the population.
_GROWTH = 2


class CmaEsSearcher(SequentialSearcher):
    """Draws from a normal distribution that moves, turns and stretches toward what is better.

    A choice among numbers is a gene like any other. When the distribution has collapsed, the search begins anew
    somewhere else, with twice the population.

    Args:
        space, directions, seed: As for every searcher; a space of choices without an order alone is refused.
        population: Trials in a batch, 2 or more; None for 4 + 3 ln(genes).
        sigma: Standard deviation to begin with, as a share of each range; in [0, 1].

    Raises:
        MissingExtra: If cmaes is not installed.
    """

    name = "cmaes"
    relearns = False  # a batch is learned from once

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[Direction] = ("maximize",),
        seed: int = 0,
        *,
        population: int | None = None,
        sigma: float = 1 / 6,
    ) -> None:
        super().__init__(space, directions, seed)
        if population is not None:
            check_whole(population=(population, 2))
        check_shares(sigma=sigma)
        self._genome = Genome(space)
        if all(self._genome.is_unordered):
            raise ConfigError(
                "every parameter is a choice without an order, in which there is no direction to learn. Choose "
                "'evolution', or give ordered: true where neighbouring values are alike."
            )
        self._sigma = sigma
        # The worst loss in the batches that were learnt from; None while there is none.
        self._worst: float | None = None
        self._run = -1
        # What each draw of each run was: its point, and the key of its configuration.
        self._draws: defaultdict[int, dict[int, tuple[list[float], str]]] = defaultdict(dict)
        self._begin_run(population)

    def tell(self, trial: Trial) -> None:
        """Learn how a trial ended, and from its batch if it was the last one there."""
        super().tell(trial)
        self._remember(trial.token, self.space.key(trial.params))
        self._learn()

    def expect(self, trial: Trial) -> None:
        """Learn that a trial runs which this searcher object was not asked for."""
        super().expect(trial)
        self._remember(trial.token, self.space.key(trial.params))

    def _propose(self, rng: np.random.Generator) -> Proposal | None:
        repeats: list[list[Any]] = []
        for _ in range(_MAX_REPEATS):
            draw, x, params = self._draw()
            if params not in self.history:
                return self._proposal(params, "cmaes", draw, x, repeats)
            repeats.append([self._run, draw, x, self.space.key(params)])
            self._draws[self._run][draw] = x, self.space.key(params)
            self._learn()
        drawn = self.history.draw_unseen(rng)
        if drawn is None:
            return None
        return self._proposal(drawn, "draw", self._next_draw, self.space.encode(drawn), repeats)

    def _proposal(self, params: Params, by: str, draw: int, x: list[float], repeats: list[list[Any]]) -> Proposal:
        token = {"run": self._run, "draw": draw, "x": x, "repeats": repeats}
        self._remember(token, self.space.key(params))
        return Proposal(params, token=token, origin={"by": by, "run": self._run})

    def _draw(self) -> tuple[int, list[float], Params]:
        """The next point of the distribution: its number, the point, and the configuration that it stands for."""
        draw = self._next_draw
        self._optimizer.reseed_rng(derive_seed(self.seed, _STREAM, self._run, draw))
        genes, x = (point.round(_DIGITS) for point in self._optimizer.ask())
        return draw, x.tolist(), self.space.decode(np.clip(genes, 0.0, 1.0).tolist())

    @property
    def _next_draw(self) -> int:
        return max(self._draws[self._run], default=-1) + 1

    def _remember(self, token: Any, key: str) -> None:
        """Know a draw and the repeats before it, also those of a restored search."""
        if isinstance(token, dict) and "draw" in token:
            for run, draw, x, known in [*token["repeats"], [token["run"], token["draw"], token["x"], key]]:
                self._draws[run][draw] = x, known

    def _learn(self) -> None:
        """Move the distribution by each batch of which all is known."""
        while (batch := self._next_batch()) is not None:
            known = [self.history.loss_of(key) for _, key in batch]
            # The worst so far stands for what has no value: of batches, since what else has ended is chance.
            finite = [loss for loss in (self._worst, *known) if loss is not None]
            self._worst = max(finite, default=None)
            losses = [(self._worst or 0.0) if loss is None else loss for loss in known]
            self._optimizer.tell([(np.array(x), loss) for (x, _), loss in zip(batch, losses, strict=True)])
            self._n_batches += 1
            if self._optimizer.should_stop():
                self._begin_run(_GROWTH * self._optimizer.population_size)

    def _next_batch(self) -> list[tuple[list[float], str]] | None:
        size = self._optimizer.population_size
        draws = self._draws[self._run]
        batch = [draws.get(draw) for draw in range(self._n_batches * size, (self._n_batches + 1) * size)]
        complete = [drawn for drawn in batch if drawn is not None and self.history.has_ended(drawn[1])]
        return complete if len(complete) == size else None

    def _begin_run(self, population: int | None) -> None:
        try:
            from cmaes import CMAwM
        except ImportError as error:
            raise MissingExtra("The searcher 'cmaes'", "cmaes", "cmaes") from error
        self._run += 1
        self._n_batches = 0
        n_genes = len(self._genome)
        # Levels at equal distances have a margin; others are rounded when they are decoded.
        steps = np.array([_distance(levels) for levels in self._genome.levels])
        rng = np.random.default_rng([self.seed, _STREAM, self._run])
        self._optimizer: Any = CMAwM(
            mean=np.full(n_genes, 0.5) if self._run == 0 else rng.random(n_genes),
            sigma=self._sigma,
            bounds=np.column_stack([steps / 2, 1 - steps / 2]),
            steps=steps,
            population_size=population,
            seed=0,  # each draw has its own
        )


def _distance(levels: np.ndarray | None) -> float:
    """The distance between levels that lie as those of a choice do; 0 for others."""
    if levels is None or len(levels) < 2:
        return 0.0
    even = (np.arange(len(levels)) + 0.5) / len(levels)
    return 1 / len(levels) if np.allclose(levels, even) else 0.0
