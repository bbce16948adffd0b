"""Keeps collections of garbage short in a process with large libraries."""

from __future__ import annotations

import gc
import sys

__all__ = ["freeze_new_modules"]

# So many modules more, and what they brought is worth freezing.
_MANY_MODULES = 50
_n_frozen = 0


def freeze_new_modules() -> None:
    """Exempt what was imported since the last time from garbage collection, if it is much.

    PySpark collects garbage after every task, a trial process after every trial, and Keras when its session is cleared,
    which looks at each object of each module: 20 ms of CPU with this package alone, 0.2 s with TensorFlow, of which 0.1
    ms is left. What else there is at that moment is exempt too, so that it should be called where little is.
    """
    global _n_frozen
    if len(sys.modules) > _n_frozen + _MANY_MODULES:
        gc.collect()
        gc.freeze()
        _n_frozen = len(sys.modules)
