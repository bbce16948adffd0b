"""Signals that end a search: answered on the main thread only, where Python allows it, and given back afterwards."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

__all__ = ["interrupts_answered_by", "signals_end_program"]


class _Program:
    """A program of ours that signals end: the first in order, a second one at once."""

    def __init__(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._n_signals = 0

    def count(self) -> None:
        """A signal has come; does not return from the second.

        Nothing needs to be put in order: a record is written with one call, trial processes die with their parent, and
        so does the JVM.
        """
        self._n_signals += 1
        if self._n_signals > 1:
            os._exit(self._exit_code)


_program: _Program | None = None


@contextmanager
def signals_end_program(exit_code: int) -> Iterator[None]:
    """Let SIGTERM, which Airflow and YARN send, end a program like Ctrl-C, and a second signal end it at once.

    Args:
        exit_code: Of the process, where a second signal ends it.
    """
    global _program
    _program = _Program(exit_code)
    try:
        with _handling(signal.SIGTERM, _raise), _handling(signal.SIGINT, _raise):
            yield
    finally:
        _program = None


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
        if _program is not None:
            _program.count()
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
    if _program is not None:
        _program.count()
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
