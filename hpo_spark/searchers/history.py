"""What a searcher knows: the configurations that were tried or are being tried, and what became of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpo_spark.space import Params, SearchSpace, SupportsRandom
from hpo_spark.trial import Trial, TrialState

__all__ = ["History", "Known"]

# Draws that all hit known configurations before a space counts as exhausted: one that is 99 % known is missed once in
# 10^9 times.
_MAX_REPEATS = 2000


@dataclass(frozen=True)
class Known:
    """A trial that has ended.

    Attributes:
        number: The trial's number.
        key: Its configuration, as `SearchSpace.key` has it.
        params: Its configuration.
        value: Its value; None where it ended without one.
    """

    number: int
    key: str
    params: Params
    value: float | None


class History:
    """Configurations and values, whatever the order in which they come.

    Args:
        space: What they are configurations of.
        maximize: Whether larger values are better.
    """

    def __init__(self, space: SearchSpace, maximize: bool) -> None:
        self._space = space
        self._sign = -1.0 if maximize else 1.0
        self._known: dict[str, Known] = {}
        self._seen: set[str] = set()
        self._ended: set[str] = set()
        self._ranked: list[Known] | None = None

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, params: Params) -> bool:
        return self._space.key(params) in self._seen

    def has_seen(self, key: str) -> bool:
        """Whether the configuration of this key was proposed or told."""
        return key in self._seen

    @property
    def n_seen(self) -> int:
        """Configurations that were proposed or told."""
        return len(self._seen)

    @property
    def is_exhausted(self) -> bool:
        """Whether each configuration of a finite space is known."""
        cardinality = self._space.cardinality
        return cardinality is not None and len(self._seen) >= cardinality

    def expect(self, params: Params) -> None:
        """A configuration is proposed."""
        self._seen.add(self._space.key(params))

    def tell(self, trial: Trial) -> None:
        """A trial has ended; one that was cancelled says nothing of its configuration."""
        key = self._space.key(trial.params)
        self._seen.add(key)
        self._ended.add(key)
        if trial.state is TrialState.CANCELLED:
            return
        value = trial.value if trial.state is TrialState.COMPLETED else None
        if value is not None and not math.isfinite(value):
            value = None
        self._known[key] = Known(trial.number, key, trial.params, value)
        self._ranked = None

    @property
    def ranked(self) -> list[Known]:
        """All that have ended, the best first, those without a value last."""
        if self._ranked is None:
            self._ranked = sorted(self._known.values(), key=self._rank)
        return self._ranked

    def _rank(self, known: Known) -> tuple[bool, float, int, str]:
        loss = self.loss_of(known.key)
        return loss is None, 0.0 if loss is None else loss, known.number, known.key

    def has_ended(self, key: str) -> bool:
        """Whether a trial of this configuration has ended, in whatever state."""
        return key in self._ended

    def loss_of(self, key: str) -> float | None:
        """The value of a configuration, smaller being better; None where no trial of it had one."""
        known = self._known.get(key)
        return None if known is None or known.value is None else self._sign * known.value

    @property
    def worst_loss(self) -> float:
        """The worst loss so far, which stands for that of a trial without a value; 0 while there is none."""
        return max((self._sign * known.value for known in self._known.values() if known.value is not None), default=0.0)

    def draw_unseen(self, rng: SupportsRandom) -> Params | None:
        """A random configuration that is not known yet; None where hardly any is left."""
        for _ in range(0 if self.is_exhausted else _MAX_REPEATS):
            params = self._space.sample(rng)
            if params not in self:
                return params
        return None
