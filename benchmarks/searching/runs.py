"""One search on one problem, one evaluation after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.searching.problem import Asked, Problem
from hpo_spark import Trial, TrialState

__all__ = ["ended", "generator", "regrets", "rounded"]

# Keeps the draws of the observations apart from those of searchers with the same seed.
_STREAM = 99


def generator(seed: int) -> np.random.Generator:
    """Where a run's observations come from: equal for all methods of a seed."""
    return np.random.default_rng([seed, _STREAM])


def regrets(searcher: Asked, problem: Problem, seed: int, checkpoints: Sequence[int]) -> list[float]:
    """The regret of the incumbent, the configuration with the best observation, after so many evaluations.

    A searcher that ends before keeps what it has.
    """
    rng = generator(seed)
    best, regret = np.inf, np.nan
    found: list[float] = []
    for number in range(max(checkpoints)):
        proposals = searcher.ask(1)
        if proposals:
            (proposal,) = proposals
            outcome = problem.evaluate(proposal.params, rng)
            trial = Trial(number, proposal.params, 0, token=proposal.token, origin=proposal.origin)
            searcher.tell(ended(trial, outcome.loss, outcome.seconds))
            if outcome.loss < best:
                best, regret = outcome.loss, outcome.regret
        if number + 1 in checkpoints:
            found.append(rounded(regret))
    return found


def ended(trial: Trial, loss: float, seconds: float | None = None) -> Trial:
    """The trial with its outcome."""
    return replace(trial, state=TrialState.COMPLETED, values=[loss], seconds=seconds)


def rounded(figure: float) -> float:
    """A figure as it is kept."""
    return float(f"{figure:.5g}")
