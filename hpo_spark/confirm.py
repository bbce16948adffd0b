"""Training the best configurations of a search again, with other seeds, and choosing the winner by mean.

The best of many noisy values is the best by luck in part, so the value that a search found for a configuration flatters
it, and does not count here: of each configuration only its repeats do. The model that goes into use is that of the
winner's repeat of median value, since picking its best repeat would be picking by luck again.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from hpo_spark.errors import ConfigError
from hpo_spark.results.result import best_first, rank
from hpo_spark.trial import CONFIRM, Trial, TrialState

__all__ = ["Confirm", "Confirmed", "check_confirm", "confirmed", "missing", "origin_of"]


@dataclass(frozen=True)
class Confirm:
    """What is trained again at the end of a search.

    Attributes:
        top_k: How many of the best configurations; 1 or more.
        repeats: How often each, with another seed every time; 1 or more, and best an odd number.
        in_budget: Whether the repeats are among the ``max_trials`` of the search, which then proposes fewer, instead of
            on top of them.
    """

    top_k: int = 5
    repeats: int = 3
    in_budget: bool = False

    @property
    def n_repeats(self) -> int:
        """How many trials they are in all."""
        return self.top_k * self.repeats

    @property
    def n_reserved(self) -> int:
        """How many of the search's trials are kept for repeats."""
        return self.n_repeats if self.in_budget else 0

    def check_budget(self, max_trials: int | None) -> None:
        """Find out whether a limit leaves something to search with.

        Raises:
            ConfigError: If it does not, or there is none to take the repeats from.
        """
        if self.in_budget and (max_trials is None or max_trials < 2 * self.n_reserved):
            raise ConfigError(
                f"confirm: in_budget takes {self.n_reserved} repeats (top_k={self.top_k}, repeats={self.repeats}) from "
                f"max_trials, which must be at least twice as many, got max_trials={max_trials}; search longer, repeat "
                "less, or have the repeats on top with in_budget: false."
            )

    def __post_init__(self) -> None:
        if not isinstance(self.in_budget, bool):
            raise ConfigError(f"confirm: in_budget must be true or false, got in_budget={self.in_budget!r}.")
        for name, value in (("top_k", self.top_k), ("repeats", self.repeats)):
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ConfigError(f"confirm: {name} must be a whole number of 1 or more, got {name}={value!r}.")


@dataclass(frozen=True)
class Confirmed:
    """A configuration and its repeats.

    Attributes:
        original: The search's trial.
        values: What its repeats came to, by their numbers; at least one.
        n_failed: Repeats that ended without a value.
        trial: The repeat of median value; of an even number the worse of the two in the middle.
    """

    original: Trial
    values: list[float]
    n_failed: int
    trial: Trial

    @property
    def n(self) -> int:
        """How many values there are."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Their standard deviation, that of a sample; None of one value."""
        return statistics.stdev(self.values) if self.n > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Its form in ``result.json``."""
        return {
            "trial": self.original.number,
            "params": self.original.params,
            "mean": self.mean,
            "std": self.std,
            "n": self.n,
            "failed": self.n_failed,
            "values": self.values,
            "median_trial": self.trial.number,
        }


def check_confirm(confirm: Confirm | Mapping[str, Any] | None, directions: Sequence[str]) -> Confirm | None:
    """What is to be confirmed; None for nothing.

    Raises:
        ConfigError: If a number or a key is wrong, or there are several objectives.
    """
    if isinstance(confirm, Mapping):
        if unknown := [key for key in confirm if key not in Confirm.__dataclass_fields__]:
            raise ConfigError(f"confirm takes the keys {list(Confirm.__dataclass_fields__)}, got {unknown[0]!r}.")
        confirm = Confirm(**confirm)
    if confirm is not None and not isinstance(confirm, Confirm):
        raise ConfigError(f"confirm must be a mapping such as {{'top_k': 5, 'repeats': 3}}, got {confirm!r}.")
    if confirm is not None and len(directions) > 1:
        raise ConfigError(
            f"confirm chooses one winner by its mean, and this study has {len(directions)} objectives; leave it out."
        )
    return confirm


def origin_of(original: Trial, repeat: int) -> dict[str, Any]:
    """The origin of a repeat, by which it is known."""
    return {"by": CONFIRM, "of": original.number, "repeat": repeat}


def missing(trials: Sequence[Trial], directions: Sequence[str], confirm: Confirm) -> list[tuple[Trial, int]]:
    """The repeats that have not ended, as pairs of the search's trial and a number from 1; first all of number 1.

    Args:
        trials: Those that have ended, in any order.
        directions: One an objective.
        confirm: What is to be trained again.
    """
    ended = {(trial.repeat_of, trial.repeat) for trial in trials}
    chosen = best_first(trials, directions)[: confirm.top_k]
    plan = [(original, repeat) for repeat in range(1, confirm.repeats + 1) for original in chosen]
    return [(original, repeat) for original, repeat in plan if (original.number, repeat) not in ended]


def confirmed(trials: Sequence[Trial], directions: Sequence[str], confirm: Confirm) -> list[Confirmed]:
    """The configurations with their repeats, the winner first: that of the best mean among those that never failed.

    Returns:
        An empty list while a repeat is missing, or where none has a value.
    """
    if missing(trials, directions, confirm):
        return []
    repeats: dict[int, list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.repeat is not None and trial.repeat <= confirm.repeats and trial.state is not TrialState.CANCELLED:
            repeats[trial.repeat_of or 0].append(trial)
    found = []
    for original in best_first(trials, directions)[: confirm.top_k]:
        own = sorted(repeats[original.number], key=lambda trial: trial.repeat or 0)
        ranked = sorted((trial for trial in own if trial.values), key=lambda trial: rank(trial, directions))
        if ranked:
            values = [trial.values[0] for trial in own if trial.values]
            found.append(Confirmed(original, values, len(own) - len(values), ranked[len(ranked) // 2]))
    sign = -1.0 if directions[0] == "maximize" else 1.0
    return sorted(found, key=lambda one: (one.n_failed, sign * one.mean, one.original.number))
