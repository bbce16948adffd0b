"""Random search: the baseline that every other method has to beat.

References:
    Bergstra and Bengio (2012), "Random search for hyper-parameter optimization", JMLR 13, 281-305.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpo_spark.searchers.base import Direction, Proposal, Searcher
from hpo_spark.space import SearchSpace
from hpo_spark.trial import Trial

__all__ = ["RandomSearcher"]

# Draws that all hit known configurations before a space counts as exhausted: one that is 99 % known is missed once in
# 10^9 times.
_MAX_REPEATS = 2000


class RandomSearcher(Searcher):
    """Draws each configuration on its own, never the same twice; ends when a finite space is used up.

    Ask number i draws from a generator seeded by the study's seed and i.
    """

    name = "random"
    several_objectives = True

    def __init__(self, space: SearchSpace, directions: Sequence[Direction] = ("maximize",), seed: int = 0) -> None:
        super().__init__(space, directions, seed)
        self._n_asked = 0
        self._seen: set[str] = set()
        self._exhausted = False

    def ask(self, n: int) -> list[Proposal]:
        """Draw up to ``n`` configurations; fewer when hardly any is left."""
        proposals: list[Proposal] = []
        while len(proposals) < n:
            proposal = self._draw()
            if proposal is None:
                break
            proposals.append(proposal)
        return proposals

    def _draw(self) -> Proposal | None:
        cardinality = self.space.cardinality
        if self._exhausted or (cardinality is not None and len(self._seen) >= cardinality):
            return None
        rng = np.random.default_rng([self.seed, self._n_asked])
        for _ in range(_MAX_REPEATS):
            params = self.space.sample(rng)
            key = self.space.key(params)
            if key not in self._seen:
                self._seen.add(key)
                self._n_asked += 1
                return Proposal(params)
        self._exhausted = True
        return None

    def tell(self, trial: Trial) -> None:
        """Learn nothing: the draws then do not depend on when trials end."""
