"""What a searcher knows: the configurations that were tried or are being tried, and what became of them."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from hpo_spark.losses import as_losses
from hpo_spark.space import Params, SearchSpace, SupportsRandom
from hpo_spark.trial import Trial, TrialState

__all__ = ["History", "Known", "losses_of"]

# Draws that all hit known configurations before a space counts as exhausted: one that is 99 % known is missed once in
# 10^9 times.
_MAX_REPEATS = 2000


@dataclass(frozen=True)
class Known:
    """A trial that has ended.

    Attributes:
        key: Its configuration, as `SearchSpace.key` has it.
        trial: The trial.
        losses: Its values, smaller being better, one an objective; None where it ended without finite ones.
    """

    key: str
    trial: Trial
    losses: tuple[float, ...] | None

    @property
    def loss(self) -> float | None:
        """The loss of the (first) objective."""
        return None if self.losses is None else self.losses[0]

    @cached_property
    def rank(self) -> tuple[bool, float, int, str]:
        """Sorts trials from best to worst, those without a value last."""
        return self.losses is None, self.losses[0] if self.losses else 0.0, self.trial.number, self.key


class History:
    """Configurations and values, whatever the order in which they come.

    Args:
        space: What they are configurations of.
        directions: ``"minimize"`` or ``"maximize"``, one an objective.
    """

    def __init__(self, space: SearchSpace, directions: Sequence[str]) -> None:
        self._space = space
        self._directions = tuple(directions)
        self._known: dict[str, Known] = {}
        self._seen: set[str] = set()
        self._ended: set[str] = set()
        self._pending: dict[str, Params] = {}
        self._ranked: list[Known] = []

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, params: Params) -> bool:
        return self.has_seen(self._space.key(params))

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
        key = self._space.key(params)
        self._seen.add(key)
        if key not in self._ended:
            self._pending[key] = params

    def tell(self, trial: Trial) -> None:
        """A trial has ended; one that was cancelled or lost says nothing of its configuration."""
        key = self._space.key(trial.params)
        self._seen.add(key)
        self._ended.add(key)
        self._pending.pop(key, None)
        if trial.tells_nothing:
            return
        if (former := self._known.pop(key, None)) is not None:
            del self._ranked[bisect_left(self._ranked, former.rank, key=_rank)]
        self._known[key] = known = Known(key, trial, losses_of(trial, self._directions))
        insort(self._ranked, known, key=_rank)

    @property
    def ranked(self) -> Sequence[Known]:
        """All that have ended, the best (in the first objective) first, those without a value last."""
        return self._ranked

    @property
    def pending(self) -> list[Params]:
        """The configurations that were proposed and have not ended, in an order of their own."""
        return [params for _, params in sorted(self._pending.items())]

    def has_ended(self, key: str) -> bool:
        """Whether a trial of this configuration has ended, in whatever state."""
        return key in self._ended

    def loss_of(self, key: str) -> float | None:
        """The loss of a configuration; None where no trial of it had a value."""
        known = self._known.get(key)
        return None if known is None else known.loss

    @property
    def worst_loss(self) -> float:
        """The worst loss so far, which stands for that of a trial without a value; 0 while there is none."""
        n_with_value = bisect_left(self._ranked, True, key=lambda known: known.losses is None)
        worst = self._ranked[n_with_value - 1].loss if n_with_value else None
        return 0.0 if worst is None else worst

    def draw_unseen(self, rng: SupportsRandom) -> Params | None:
        """A random configuration that is not known yet; None where hardly any is left."""
        for _ in range(0 if self.is_exhausted else _MAX_REPEATS):
            params = self._space.sample(rng)
            if params not in self:
                return params
        return None


def losses_of(trial: Trial, directions: Sequence[str]) -> tuple[float, ...] | None:
    """A trial's values with signs such that smaller is better; None unless it has completed with finite ones."""
    values = trial.values if trial.state is TrialState.COMPLETED else None
    if not values or len(values) != len(directions) or not all(map(math.isfinite, values)):
        return None
    return as_losses(values, directions)


def _rank(known: Known) -> tuple[bool, float, int, str]:
    return known.rank
