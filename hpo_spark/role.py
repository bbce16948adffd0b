"""What this process is: the driver, or a worker that runs tasks for one, and its present task."""

from __future__ import annotations

__all__ = ["become_worker", "begin_attempt", "is_worker", "n_lost_attempts"]

_worker = False
_n_lost = 0


def become_worker() -> None:
    """Say that this process runs tasks whose results go back to a driver."""
    global _worker
    _worker = True


def is_worker() -> bool:
    """Whether this process runs tasks whose results go back to a driver."""
    return _worker


def begin_attempt(n_lost: int) -> None:
    """Say how often the task that begins here was begun before, on executors that were lost."""
    global _n_lost
    _n_lost = n_lost


def n_lost_attempts() -> int:
    """How often the present task was begun before, on executors that were lost."""
    return _n_lost
