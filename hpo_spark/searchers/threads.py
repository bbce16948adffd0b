"""One thread for the linear algebra of a searcher.

Its matrices are so small that a second thread spends ten times the CPU time waiting, which trials on the same machine
could use; and with one thread a sum is the same on a machine with more cores.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_thread"]

_lock = threading.Lock()
_n_inside = 0
_limit: Any = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy and scipy compute with one thread, in the whole process, and put it back when the last one is done."""
    global _n_inside, _limit
    with _lock:
        if _n_inside == 0:
            _limit = _controller().limit(limits=1)
        _n_inside += 1
    try:
        yield
    finally:
        with _lock:
            _n_inside -= 1
            if _n_inside == 0:
                _limit.restore_original_limits()


_known: list[Any] = []


def _controller() -> Any:
    # Looking for the libraries takes milliseconds; they are all loaded before the first ask.
    if not _known:
        _known.append(ThreadpoolController())
    return _known[0]
