"""When a study ends: rules that combine, whichever comes first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import islice
from numbers import Integral, Real

from hpo_spark.errors import ConfigError
from hpo_spark.trial import Trial, TrialState

__all__ = ["Limits"]

_NUMBERS = r"0x[0-9a-f]+|[-+]?\d[\d.e+-]*"


@dataclass(frozen=True)
class Limits:
    """What a study may spend; None is no limit.

    Attributes:
        max_trials: Trials to submit.
        max_epochs: Epochs to train, over all trials.
        timeout_s: Seconds after which no trial is submitted any more.
        target: Value of the first objective that is good enough.
        patience: Completed trials in a row that do not improve the best value of the first objective.
        max_failures: Trials that end without a value.
        give_up_after: The first so many trials all failed with the same error.
    """

    max_trials: int | None = None
    max_epochs: int | None = None
    timeout_s: float | None = None
    target: float | None = None
    patience: int | None = None
    max_failures: int | None = None
    give_up_after: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            whole = "int" in str(field.type)
            if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
                raise ConfigError(f"{field.name} must be a {'whole ' if whole else ''}number, got {value!r}.")
            if field.name != "target" and value <= 0:
                raise ConfigError(f"{field.name} must be above 0, or null for no limit, got {field.name}={value!r}.")

    @property
    def any_given(self) -> bool:
        """Whether there is any limit that is sure to come."""
        return any(limit is not None for limit in (self.max_trials, self.max_epochs, self.timeout_s))

    def reached(self, trials: Sequence[Trial], maximize: bool, seconds: float) -> str | None:
        """The rule that ends the study, in words; None to go on. ``max_trials`` is not among them.

        Args:
            trials: Those that have ended, in the order of their ends.
            maximize: Whether the first objective is better when larger.
            seconds: Since the study began.
        """
        if self.timeout_s is not None and seconds >= self.timeout_s:
            return f"timeout_s={self.timeout_s:g} has passed"
        if self.max_epochs is not None:
            if count_epochs(trials) >= self.max_epochs:
                return f"max_epochs={self.max_epochs} are trained"
            evaluated = (trial for trial in trials if trial.values and trial.seconds is not None)
            if any("epochs" not in trial.metrics for trial in evaluated):
                return f"max_epochs={self.max_epochs} cannot be counted: the objective reports no metric 'epochs'"
        n_failed = sum(trial.state not in (TrialState.COMPLETED, TrialState.CANCELLED) for trial in trials)
        if self.max_failures is not None and n_failed >= self.max_failures:
            return f"max_failures={self.max_failures} is reached"
        if self.give_up_after is not None and _failed_alike(trials, self.give_up_after):
            return f"give_up_after={self.give_up_after}: the first so many trials all failed with the same error"
        values = [trial.value if maximize else -trial.value for trial in trials if trial.value is not None]
        if not values:
            return None
        best = max(values)
        if self.target is not None and best >= (self.target if maximize else -self.target):
            return f"target={self.target:g} is reached"
        if self.patience is not None and len(values) - 1 - values.index(best) >= self.patience:
            return f"patience={self.patience}: as many trials without improvement"
        return None


def _failed_alike(trials: Sequence[Trial], n_first: int) -> bool:
    first = list(islice((trial for trial in trials if trial.state is not TrialState.CANCELLED), n_first))
    if len(first) < n_first or any(trial.values for trial in first):
        return False
    # The numbers in a message are those of the configuration.
    return len({(trial.state, re.sub(_NUMBERS, "#", trial.reason or "")) for trial in first}) == 1


def count_epochs(trials: Sequence[Trial]) -> int:
    """Epochs trained, over all trials that tell."""
    return sum(epochs for trial in trials if isinstance(epochs := trial.metrics.get("epochs"), int))
