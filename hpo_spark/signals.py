"""Signals that end a search: answered on the main thread only, where Python allows it, and given back afterwards."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

__all__ = ["interrupts_answered_by", "terminate_as_interrupt"]


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, which Airflow and YARN send, end a program like Ctrl-C."""
    with _handling(signal.SIGTERM, _raise):
        yield


@contextmanager
def interrupts_answered_by(answer: Callable[[], bool]) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM answered by a function, so that they cut nothing in the middle.

    A program's own handlers stay. Pyspark's is replaced, for it cancels everybody's jobs. A SIGTERM that would have
    ended the process does so afterwards.

    Args:
        answer: Called in the signal handler; where it returns False, `KeyboardInterrupt` is raised.
    """
    terminated = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal terminated
        terminated = terminated or number == signal.SIGTERM
        if not answer():
            raise KeyboardInterrupt

    ends_the_process = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    try:
        with ExitStack() as stack:
            for number in (signal.SIGINT, signal.SIGTERM):
                if _is_nobodys(signal.getsignal(number)):
                    stack.enter_context(_handling(number, handle))
            yield
    finally:
        if terminated and ends_the_process:
            signal.raise_signal(signal.SIGTERM)


def _raise(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _is_nobodys(handler: Any) -> bool:
    """Whether a handler is Python's, ours or pyspark's, and not the program's own."""
    known = handler in (signal.SIG_DFL, signal.default_int_handler, _raise)
    return known or str(getattr(handler, "__module__", "")).startswith("pyspark")


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
