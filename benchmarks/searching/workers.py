"""Workers simulated: evaluations take as long as the tables say, and nothing else takes any time.

A worker that is free asks at once. A searcher with a barrier has nothing for it before its generation has ended; an
asynchronous one always has.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import numpy as np

from benchmarks.searching.problem import Asked, Outcome, Problem
from benchmarks.searching.runs import ended, generator, rounded
from hpo_spark import Trial
from hpo_spark.searchers import Proposal

__all__ = ["Barrier", "Simulated", "first_time", "mean_curve", "simulate"]

Simulated = list[list[float]]


class Barrier:
    """Any searcher in batches: it is asked for the next when the last has ended.

    Args:
        searcher: Whose proposals they are.
        size: How many make a batch.
    """

    def __init__(self, searcher: Asked, size: int) -> None:
        self._searcher, self._size = searcher, size
        self._batch: list[Proposal] = []
        self._n_pending = 0

    def ask(self, n: int) -> list[Proposal]:
        """What is left of the batch."""
        if not self._batch and not self._n_pending:
            self._batch = self._searcher.ask(self._size)
            self._n_pending = len(self._batch)
        asked, self._batch = self._batch[:n], self._batch[n:]
        return asked

    def tell(self, trial: Trial) -> None:
        """How one of the batch ended."""
        self._n_pending -= 1
        self._searcher.tell(trial)


def simulate(searcher: Asked, problem: Problem, seed: int, n_workers: int, counts: Sequence[int]) -> Simulated:
    """Run a search on workers side by side.

    Args:
        searcher: What proposes.
        problem: What says how good configurations are, and how long they take.
        seed: Of the observations.
        n_workers: Evaluations that run at once.
        counts: Numbers of evaluations; the run ends with the end of the largest, whatever still runs then.

    Returns:
        First for each of ``counts`` the seconds after which so many evaluations had ended, whichever; then those after
        which the first so many that began had ended, stragglers too; then a pair for each change of the incumbent: the
        seconds, and its regret. A search that ends before has the seconds of its end.
    """
    rng = generator(seed)
    running: list[tuple[float, int, Trial, Outcome]] = []
    now, best, number, n_ended = 0.0, math.inf, 0, 0
    ended_after = dict.fromkeys(counts, math.nan)
    all_after = dict.fromkeys(counts, 0.0)
    changes: Simulated = []
    while n_ended < max(counts):
        for proposal in searcher.ask(n_workers - len(running)):
            outcome = problem.evaluate(proposal.params, rng)
            trial = Trial(number, proposal.params, 0, token=proposal.token, origin=proposal.origin)
            end = now + outcome.seconds
            heapq.heappush(running, (end, number, trial, outcome))
            number += 1
            all_after |= {count: max(after, end) for count, after in all_after.items() if number <= count}
        if not running:
            break
        now, _, trial, outcome = heapq.heappop(running)
        n_ended += 1
        searcher.tell(ended(trial, outcome.loss, outcome.seconds))
        if outcome.loss < best:
            best = outcome.loss
            changes.append([rounded(now), rounded(outcome.regret)])
        ended_after |= {count: now for count in counts if n_ended <= count}
    figures = [[rounded(seconds) for seconds in after.values()] for after in (ended_after, all_after)]
    return [*figures, *changes]


def first_time(changes: Simulated, regret: float) -> float:
    """When an incumbent of ``changes`` first was as good as that; infinity where none was."""
    return next((seconds for seconds, found in changes if found <= regret), math.inf)


def mean_curve(runs: Sequence[Simulated], times: np.ndarray) -> np.ndarray:
    """The mean regret of several runs' incumbents, each a list of changes, at some times; NaN until all have one."""
    curves = []
    for changes in runs:
        places = np.searchsorted([seconds for seconds, _ in changes], times, side="right") - 1
        regrets = np.array([regret for _, regret in changes])
        curves.append(np.where(places >= 0, regrets[places], np.nan))
    found: np.ndarray = np.mean(curves, axis=0)
    return found
