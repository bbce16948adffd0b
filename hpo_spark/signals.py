"""Signals that end a search: answered on the main thread only, where Python allows it, and given back afterwards.

Also the signal of a parent that has ended, which the kernel sends where it was asked to.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

__all__ = ["end_with_parent", "interrupts_answered_by", "signal_when_parent_ends", "signals_end_program"]

_PR_SET_PDEATHSIG = 1


class _Program:
    """A program of ours that signals end: the first in order, a second one at once."""

    def __init__(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._n_signals = 0
        self.ends_with_parent = False

    def count(self, number: int) -> bool:
        """A signal has come; does not return from the second.

        Nothing needs to be put in order: a record is written with one call, trial processes die with their parent, and
        so does the JVM.

        Returns:
            Whether it is to be answered. SIGTERM from the kernel is not where another signal is answered already: it
            comes when whoever sent that one has ended the parent too, and once for each of the parent's threads that
            this program is handed to on the way.
        """
        if self._n_signals and self.ends_with_parent and number == signal.SIGTERM:
            return False
        self._n_signals += 1
        if self._n_signals > 1:
            os._exit(self._exit_code)
        return True


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


def signal_when_parent_ends(number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent ends, however it ends; on Linux only.

    The parent is the thread that started this process, and this process may have outlived it by now.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)


def end_with_parent(parent: int) -> None:
    """End this program as SIGTERM does when its parent ends; on Linux only.

    Args:
        parent: Process id of the parent, to notice one that ended before this process could ask for its signal.
    """
    if _program is not None:
        _program.ends_with_parent = True
    signal_when_parent_ends(signal.SIGTERM)
    if os.getppid() != parent:
        signal.raise_signal(signal.SIGTERM)


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
        if _program is not None and not _program.count(number):
            return
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
    if _program is None or _program.count(number):
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
