"""Signals that end a search: answered on the main thread only, where Python allows it, and given back afterwards."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["interrupt_own_jobs_only", "terminate_as_interrupt"]


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, which Airflow and YARN send, end a search like Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling(signal.SIGTERM, interrupt):
        yield


@contextmanager
def interrupt_own_jobs_only() -> Iterator[None]:
    """Let Ctrl-C raise `KeyboardInterrupt` and do nothing else: pyspark's handler cancels everybody's jobs first."""
    if str(getattr(signal.getsignal(signal.SIGINT), "__module__", "")).startswith("pyspark"):
        with _handling(signal.SIGINT, signal.default_int_handler):
            yield
    else:
        yield


@contextmanager
def _handling(number: signal.Signals, handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
