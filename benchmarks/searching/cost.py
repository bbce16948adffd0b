"""What a proposal costs: the CPU time of an ask, and of a tell, when many trials are known."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.searching.methods import Method
from benchmarks.searching.problem import Outcome
from benchmarks.searching.runs import ended, generator, rounded
from hpo_spark import Choice, Float, Int, SearchSpace, Trial
from hpo_spark.space import Params

__all__ = ["SPACES", "Bowl", "cpu_ms"]

_LEVELS = [2**power for power in range(3, 10)]

SPACES = {
    "mixed": SearchSpace(
        rate=Float(1e-5, 1e-1, log=True),
        momentum=Float(0.0, 0.99),
        dropout=Float(0.0, 0.6),
        layers=Int(1, 5),
        units=Int(5, 512),
        batch=Choice(_LEVELS, ordered=True),
        width=Choice(_LEVELS, ordered=True),
        depth=Choice([1, 2, 3], ordered=True),
        activation=Choice(["relu", "tanh", "elu"]),
        optimizer=Choice(["sgd", "adam", "rmsprop", "nadam"]),
    ),
    "floats": SearchSpace(**{f"x{index}": Float(0.0, 1.0) for index in range(10)}),
}


class Bowl:
    """The squared distance from a point, in genes.

    Args:
        name: Of one of `SPACES`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.space = SPACES[name]
        self._centre = np.random.default_rng(0).random(len(self.space))

    def evaluate(self, params: Params, rng: np.random.Generator) -> Outcome:
        """The distance, and the same as regret."""
        distance = float(np.sum((np.array(self.space.encode(params)) - self._centre) ** 2))
        return Outcome(distance, distance)


def cpu_ms(method: Method, problem: Bowl, seed: int, n_known: int, n_asks: int) -> list[list[float]]:
    """Milliseconds of CPU of some asks, each told before the next, and of the tells, after ``n_known`` trials.

    The trials are the searcher's own, for its best are alike as those of a long search are. A method that takes
    fewer seeds elsewhere gets random ones, all told at once where it can.
    """
    searcher = method.make(problem.space, seed)
    rng = generator(seed)
    if method.is_slow:
        trials = [Trial(number, problem.space.sample(rng), 0) for number in range(n_known)]
        told = [ended(trial, problem.evaluate(trial.params, rng).loss) for trial in trials]
        tell_all = getattr(searcher, "tell_all", None)
        if tell_all is not None:
            tell_all(told)
        else:
            for trial in told:
                searcher.tell(trial)
    asks: list[float] = []
    tells: list[float] = []
    for number in range(n_known if method.is_slow else 0, n_known + n_asks):
        begin = time.process_time()
        (proposal,) = searcher.ask(1)
        asked = time.process_time()
        trial = Trial(number, proposal.params, 0, token=proposal.token, origin=proposal.origin)
        done = ended(trial, problem.evaluate(proposal.params, rng).loss, 1.0)
        evaluated = time.process_time()
        searcher.tell(done)
        tells.append(rounded(1000 * (time.process_time() - evaluated)))
        asks.append(rounded(1000 * (asked - begin)))
    return [asks[-n_asks:], tells[-n_asks:]]
