"""Random search: the baseline that every other method has to beat.

References:
    Bergstra and Bengio (2012), "Random search for hyper-parameter optimization", JMLR 13, 281-305.
"""

from __future__ import annotations

import numpy as np

from hpo_spark.searchers.base import Proposal, SequentialSearcher

__all__ = ["RandomSearcher"]


class RandomSearcher(SequentialSearcher):
    """Draws each configuration on its own, never the same twice; ends when a finite space is used up."""

    name = "random"
    learns = False
    several_objectives = True

    def _propose(self, rng: np.random.Generator) -> Proposal | None:
        params = self.history.draw_unseen(rng)
        return None if params is None else Proposal(params)
