"""What a search's trials come to in numbers, wherever it is told: result, report, comparison, trackers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hpo_spark.trial import Trial

__all__ = ["counts_of", "machine_seconds", "slot_use"]


def counts_of(trials: Iterable[Trial]) -> dict[str, int]:
    """Number of trials in each state that occurs."""
    return dict(Counter(str(trial.state) for trial in trials))


def machine_seconds(trials: Iterable[Trial]) -> float:
    """Seconds that trials ran, all slots together."""
    return sum(trial.seconds or 0.0 for trial in trials)


def slot_use(trials: Iterable[Trial], slot_seconds: float) -> float | None:
    """Share of the slots' time in which they ran trials, in [0, 1].

    Args:
        trials: Those that have ended.
        slot_seconds: The slots' time: for each part of the search the slots that it had, times its seconds.

    Returns:
        None where no time has passed.
    """
    return min(1.0, machine_seconds(trials) / slot_seconds) if slot_seconds > 0 else None
