"""The fidelities of a search: from few epochs to all of them, each ``eta`` times the last.

References:
    Jamieson and Talwalkar (2016), "Non-stochastic best arm identification and hyperparameter optimization", AISTATS:
    successive halving.
    Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar (2018), "Hyperband: a novel bandit-based approach to
    hyperparameter optimization", JMLR 18, 1-52: the sizes of brackets, algorithm 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpo_spark.errors import ConfigError
from hpo_spark.searchers.options import check_whole

__all__ = ["Ladder"]


@dataclass(frozen=True)
class Ladder:
    """The rungs between two fidelities.

    Args:
        low: Fewest epochs that a configuration is tried with; 1 or more. The first rung is the smallest of ``high``,
            ``high / eta``, ``high / eta ** 2`` and so on, rounded, that is not below it.
        high: Epochs of a full training; above ``low``.
        eta: How many configurations compete for one place on the next rung; 2 or more.

    Raises:
        ConfigError: If one of them is impossible.
    """

    low: int
    high: int
    eta: int

    def __post_init__(self) -> None:
        check_whole(min=(self.low, 1), max=(self.high, 2), eta=(self.eta, 2))
        if self.low >= self.high:
            raise ConfigError(f"min must be below max, got min={self.low}, max={self.high}.")

    @property
    def rungs(self) -> list[int]:
        """Epochs in all, from few to many."""
        epochs = [self.high]
        while (lower := math.floor(self.high / self.eta ** len(epochs) + 0.5)) >= self.low and lower < epochs[-1]:
            epochs.append(lower)
        return epochs[::-1]

    def bracket(self, number: int) -> Bracket:
        """Hyperband's bracket of a number that counts from 0: the one with most rungs first, and round again."""
        n_rungs = len(self.rungs)
        s = n_rungs - 1 - number % n_rungs
        n_first = math.ceil(n_rungs / (s + 1) * self.eta**s)
        return Bracket(n_rungs - 1 - s, [max(1, n_first // self.eta**i) for i in range(s + 1)])


@dataclass(frozen=True)
class Bracket:
    """One round of successive halving.

    Attributes:
        first: The rung of the ladder that it begins on.
        sizes: Configurations on each of its rungs.
    """

    first: int
    sizes: list[int]
