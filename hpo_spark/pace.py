"""How long a search will still take, judged by how long its trials have taken."""

from __future__ import annotations

__all__ = ["time_left"]


def time_left(n_left: int, n_ended: int, gone_s: float, mean_s: float | None, slots: int) -> float | None:
    """Seconds until all trials have ended that are still to end.

    Once each slot has ended a trial, by the pace at which trials have ended, so that what lies between them counts too.
    Before that, as at the beginning and after a resume, by the seconds of a trial: the first end comes late.

    Args:
        n_left: Trials that run or are still to come.
        n_ended: Trials that have ended since this part of the search began.
        gone_s: Seconds since then.
        mean_s: Seconds of a trial, on average, those of earlier parts of the search too; None where none has ended.
        slots: Trials that can run at once.

    Returns:
        None where nobody can know.
    """
    if n_left <= 0:
        return 0.0
    if n_ended >= max(1, slots):
        return gone_s / n_ended * n_left
    return None if mean_s is None else mean_s * n_left / max(1, min(slots, n_left))
