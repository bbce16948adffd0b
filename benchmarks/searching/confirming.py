"""The main searcher with its last evaluations spent on repeats of its best: ``confirm`` with ``in_budget``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.searching.problem import Asked, Problem
from benchmarks.searching.runs import ended, generator, rounded
from hpo_spark import SearchSpace, Trial
from hpo_spark.confirm import Confirm, confirmed, missing, origin_of
from hpo_spark.searchers.evolution import EvolutionSearcher

__all__ = ["MODULES", "make", "regrets"]

MODULES = (__name__, EvolutionSearcher.__module__)

_CONFIRM = Confirm(top_k=5, repeats=2, in_budget=True)
# A search that is shorter than so many times its repeats has none.
_MIN_SHARE = 5
_DIRECTIONS = ("minimize",)


def make(space: SearchSpace, seed: int) -> EvolutionSearcher:
    """The searcher."""
    return EvolutionSearcher(space, _DIRECTIONS, seed)


def regrets(searcher: Asked, problem: Problem, seed: int, checkpoints: Sequence[int]) -> list[float]:
    """The regret of the winner after so many evaluations, its repeats and the others' among them."""
    rng = generator(seed)
    trials: list[Trial] = []
    found: list[float] = []
    true_regret: dict[int, float] = {}
    for number in range(max(checkpoints)):
        for proposal in searcher.ask(1):
            outcome = problem.evaluate(proposal.params, rng)
            asked = Trial(number, proposal.params, 0, token=proposal.token, origin=proposal.origin)
            trials.append(ended(asked, outcome.loss, outcome.seconds))
            searcher.tell(trials[-1])
            true_regret[number] = outcome.regret
        if (budget := number + 1) in checkpoints:
            found.append(rounded(true_regret[_winner(trials, problem, seed, budget)]))
    return found


def _winner(trials: Sequence[Trial], problem: Problem, seed: int, budget: int) -> int:
    """Number of the configuration that a search of this budget ends with."""
    if budget < _MIN_SHARE * _CONFIRM.n_reserved:
        return min(trials, key=lambda trial: trial.values[0] if trial.values else np.inf).number
    rng = np.random.default_rng([seed, budget])
    searched = list(trials[: budget - _CONFIRM.n_reserved])
    repeats = [
        ended(
            replace(original, number=budget + place, origin=origin_of(original, repeat)),
            problem.evaluate(original.params, rng).loss,
        )
        for place, (original, repeat) in enumerate(missing(searched, _DIRECTIONS, _CONFIRM))
    ]
    return confirmed([*searched, *repeats], _DIRECTIONS, _CONFIRM)[0].original.number
