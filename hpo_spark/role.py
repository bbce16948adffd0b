"""What this process is: the driver, or a worker that runs tasks for one."""

from __future__ import annotations

__all__ = ["become_worker", "is_worker"]

_worker = False


def become_worker() -> None:
    """Say that this process runs tasks whose results go back to a driver."""
    global _worker
    _worker = True


def is_worker() -> bool:
    """Whether this process runs tasks whose results go back to a driver."""
    return _worker
