"""How much memory a process tree holds that nobody else shares: what a limit on memory is about.

Mapped files (a dataset that all trials of a host share) do not count, as they do in the resident set.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import psutil

from hpo_spark.executors.tree import descendants

__all__ = ["anonymous_mb", "tree_anonymous_mb", "trim_heap"]

_PROC = Path("/proc")


def anonymous_mb(pid: int) -> float:
    """Anonymous resident memory of a process in MB; 0 where it is gone.

    On Linux ``RssAnon`` of ``/proc/PID/status``; elsewhere the memory that is unique to the process.
    """
    if sys.platform != "linux":
        try:
            return float(psutil.Process(pid).memory_full_info().uss) / 1e6
        except psutil.Error:
            return 0.0
    try:
        for line in (_PROC / str(pid) / "status").read_bytes().splitlines():
            if line.startswith(b"RssAnon:"):
                return int(line.split()[1]) * 1024 / 1e6
    except (OSError, ValueError):
        pass
    return 0.0


def tree_anonymous_mb(pid: int) -> float:
    """The same of a process and all its descendants."""
    return sum(map(anonymous_mb, [pid, *descendants(pid)]))


def trim_heap() -> None:
    """Give memory that this process has freed back to the system, where its C library can."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
