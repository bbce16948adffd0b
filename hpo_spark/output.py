"""What a task prints, native code included: a trial process writes to a file, and the end of it explains a failure."""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["begin", "tail", "tail_of"]

TAIL_BYTES = 4000

_captured = False


def begin() -> None:
    """Say that standard output of this process is a file that can be read back."""
    global _captured
    _captured = True


def flush() -> None:
    """Write out what Python still holds."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed or replaced by user code
            stream.flush()


def tail() -> str:
    """The end of what this process has printed in its present task; empty where output is not captured."""
    if not _captured:
        return ""
    flush()
    try:
        return tail_of(1)
    except OSError:  # closed or redirected by user code
        return ""


def tail_of(descriptor: int) -> str:
    """The end of a file that is open for reading."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - TAIL_BYTES)
    return os.pread(descriptor, TAIL_BYTES, start).decode(errors="replace").strip()
