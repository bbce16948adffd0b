"""Ends a trial process with all that it started, wherever that has gone."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

__all__ = ["MARK", "descendants", "has_living_descendants", "kill_marked", "kill_tree", "pidfd_of"]

# Environment variable that a trial process has a value of its own for. Its descendants inherit it, also those that
# left its session and lost their parents.
MARK = "HPO_SPARK_TRIAL_PROCESS"

_PATIENCE_S = 5.0
_PROC = Path("/proc")


def kill_tree(pid: int, mark: str) -> None:
    """Kill a process and its descendants, also those that a killed one was just starting, and see that they are gone.

    Args:
        pid: The process; its parent must still reap it.
        mark: Its value of `MARK`.
    """
    family: set[psutil.Process] = set()
    try:
        root = psutil.Process(pid)
        while members := set(root.children(recursive=True)) - family:
            family |= members
            for member in members:
                _kill(member)
        _kill(root)
    except psutil.Error:
        pass
    # The process leads a session of its own.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    _wait_until_gone(family)
    kill_marked(mark)


def descendants(pid: int) -> Iterator[int]:
    """Process ids of all that a process has started and that still have it as an ancestor."""
    try:
        tasks = list((_PROC / str(pid) / "task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_bytes().split()]
    except OSError:  # the process is gone, or this kernel does not tell
        try:
            children = [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return
    for child in children:
        yield child
        yield from descendants(child)


def has_living_descendants(pid: int) -> bool:
    """Whether one of these has not ended."""
    for child in descendants(pid):
        with contextlib.suppress(psutil.Error):
            if _is_alive(psutil.Process(child)):
                return True
    return False


def pidfd_of(pid: int) -> int | None:
    """A descriptor that is ready when a process has ended; None where the system has none, or it is gone."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def kill_marked(mark: str) -> None:
    """Kill all processes that carry a mark, but this one."""
    while members := list(_marked(mark)):
        for member in members:
            _kill(member)
        if not _wait_until_gone(members):  # they are in the kernel's hands
            return


def _wait_until_gone(processes: Iterable[psutil.Process]) -> bool:
    """Wait until all have ended; whether they did. One that only waits for its parent to look has ended."""
    deadline = time.monotonic() + _PATIENCE_S
    while any(map(_is_alive, processes)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                yield process


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):  # it is gone, or somebody else's
        process.kill()
