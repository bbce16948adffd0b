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
# Looking for the libraries takes milliseconds; they are all loaded before the first ask.
_libraries: list[ThreadpoolController] = []


@contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy and scipy compute with one thread, in the whole process, and put it back when the last one is done."""
    global _n_inside, _limit
    with _lock:
        if _n_inside == 0:
            if not _libraries:
                _libraries.append(ThreadpoolController())
            _limit = _libraries[0].limit(limits=1, user_api="blas")
        _n_inside += 1
    try:
        yield
    finally:
        with _lock:
            _n_inside -= 1
            if _n_inside == 0:
                _limit.restore_original_limits()
