"""What a task prints, native code included: a trial process writes to a file, which explains a failure."""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["begin", "bound", "end_of", "flush", "printed", "text_of"]

_TAIL_CHARACTERS = 4000
# What a task prints beyond this is dropped from the beginning, so that none fills a disk.
_MAX_BYTES = 16 << 20
_DROPPED = b"[The first part of this output was dropped: it had grown beyond 16 MiB.]\n"

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


def printed() -> str:
    """What this process has printed in its present task; empty where output is not captured."""
    if not _captured:
        return ""
    flush()
    try:
        return text_of(1)
    except OSError:  # closed or redirected by user code
        return ""


def text_of(descriptor: int) -> str:
    """The content of a file that is open for reading; the end of it where it is very long."""
    size = os.fstat(descriptor).st_size
    content = os.pread(descriptor, _MAX_BYTES, max(0, size - _MAX_BYTES))
    return content.decode(errors="replace").strip()


def end_of(text: str) -> str:
    """The end of a text, for a message."""
    return text[-_TAIL_CHARACTERS:].strip()


def bound(descriptor: int) -> None:
    """Empty a file that has grown too long; whoever appends to it goes on."""
    if os.fstat(descriptor).st_size > _MAX_BYTES:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, _DROPPED)
