"""When a study ends: rules that combine, whichever comes first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real

from hpo_spark.errors import ConfigError
from hpo_spark.trial import Trial, TrialState

__all__ = ["LimitWatch", "Limits"]

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


class LimitWatch:
    """Watches trials end, and says when a limit is reached; ``max_trials`` is not among those that it watches.

    Args:
        limits: The limits.
        maximize: Whether the first objective is better when larger.
        full_fidelity: Epochs of a full training, where trials have fidelities: ``target`` and ``patience`` look at
            nothing less.
    """

    def __init__(self, limits: Limits, maximize: bool, full_fidelity: int | None = None) -> None:
        self._limits = limits
        self._sign = 1.0 if maximize else -1.0
        self._full_fidelity = full_fidelity
        self._n_failed = self._n_epochs = self._n_since_best = 0
        self._counts_epochs = True
        self._best: float | None = None
        # The first trials that were not cancelled: their state and reason; None for one that has a value.
        self._first: list[tuple[str, str] | None] = []

    def add(self, trial: Trial) -> None:
        """A trial has ended."""
        if trial.state.is_failure:
            self._n_failed += 1
        if trial.state is not TrialState.CANCELLED and len(self._first) < (self._limits.give_up_after or 0):
            # The numbers in a message are those of the configuration.
            reason = re.sub(_NUMBERS, "#", trial.reason or "")
            self._first.append((str(trial.state), reason) if trial.state.is_failure else None)
        self._n_epochs += len(trial.curve) if trial.state is not TrialState.COMPLETED else count_epochs([trial])
        if trial.value is None:
            return
        if trial.seconds is not None and "epochs" not in trial.metrics:
            self._counts_epochs = False
        if self._full_fidelity is not None and trial.fidelity is not None and trial.fidelity < self._full_fidelity:
            return
        value = self._sign * trial.value
        if self._best is None or value > self._best:
            self._best, self._n_since_best = value, 0
        else:
            self._n_since_best += 1

    @property
    def epochs_left(self) -> int | None:
        """Epochs that are not trained yet; None for no limit."""
        return None if self._limits.max_epochs is None else self._limits.max_epochs - self._n_epochs

    def reached(self, seconds: float) -> str | None:
        """The rule that ends the study, in words; None to go on.

        Args:
            seconds: For how long the study has run.
        """
        limits = self._limits
        if limits.timeout_s is not None and seconds >= limits.timeout_s:
            return f"timeout_s={limits.timeout_s:g} has passed"
        if limits.max_epochs is not None:
            if self._n_epochs >= limits.max_epochs:
                return f"max_epochs={limits.max_epochs} are trained"
            if not self._counts_epochs:
                return f"max_epochs={limits.max_epochs} cannot be counted: the objective reports no metric 'epochs'"
        if limits.max_failures is not None and self._n_failed >= limits.max_failures:
            return f"max_failures={limits.max_failures} is reached"
        if limits.give_up_after is not None and self._failed_alike(limits.give_up_after):
            return (
                f"give_up_after={limits.give_up_after}: the first so many trials all failed with the same error; to go "
                "on all the same, resume with --set study.give_up_after=null"
            )
        if self._best is None:
            return None
        if limits.target is not None and self._best >= self._sign * limits.target:
            return f"target={limits.target:g} is reached"
        if limits.patience is not None and self._n_since_best >= limits.patience:
            return f"patience={limits.patience}: as many trials without improvement"
        return None

    def _failed_alike(self, n_first: int) -> bool:
        return len(self._first) >= n_first and None not in self._first and len(set(self._first)) == 1


def count_epochs(trials: Sequence[Trial]) -> int:
    """Epochs trained, over all trials; 0 where the objective does not count them.

    A trial that did not come to its end has trained those that it reported.
    """
    ended = [epochs for trial in trials if isinstance(epochs := trial.metrics.get("epochs"), int)]
    cut_short = [len(trial.curve) for trial in trials if trial.state is not TrialState.COMPLETED]
    return sum(ended) + (sum(cut_short) if ended else 0)
