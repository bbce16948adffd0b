"""What is measured, and on what: a searcher, and a space with what each configuration of it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hpo_spark import SearchSpace, Trial
from hpo_spark.searchers import Proposal
from hpo_spark.space import Params

__all__ = ["Asked", "Outcome", "Problem"]


class Asked(Protocol):
    """What can be asked and told: our searchers can, and so can the peers here."""

    def ask(self, n: int) -> list[Proposal]:
        """Up to ``n`` configurations; none for "later", or for the end where nothing is pending."""

    def tell(self, trial: Trial) -> None:
        """How one of them ended."""


@dataclass(frozen=True)
class Outcome:
    """What one evaluation gives.

    Attributes:
        loss: What is observed, and told to the searcher; smaller is better.
        regret: How far the configuration really is from the best: 0 is the best, 1 as good as the median one.
        seconds: How long it trained; 0 where nothing does.
    """

    loss: float
    regret: float
    seconds: float = 0.0


class Problem(Protocol):
    """A function of a configuration, to be minimised.

    Attributes:
        name: What it is called in the results.
        space: What may be tried.
    """

    name: str
    space: SearchSpace

    def evaluate(self, params: Params, rng: np.random.Generator) -> Outcome:
        """Evaluate a configuration; the generator draws which of several noisy results is observed."""
