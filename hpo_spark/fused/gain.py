"""Whether training models together is worth while, found by trying it.

A small model spends nearly all of its time outside arithmetic, which a group shares. A large one keeps the processor
busy by itself: then a group takes as long as its members one after the other, or longer for the padding.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np

from hpo_spark.data import Part
from hpo_spark.errors import CannotFuse
from hpo_spark.fused.stack import Stack

__all__ = ["check_gain"]

logger = logging.getLogger(__name__)

# Below so many multiplications for a step of one member, the rest of the step takes far longer than they do.
_SURELY_SMALL = 2_000_000
# How many times faster a member must become.
_MIN_GAIN = 1.2
_N_STEPS, _N_TRIES = 5, 3


def check_gain(stack: Stack, part: Part, batch_size: int) -> None:
    """Raise `CannotFuse` where a group takes about as long as its members would alone.

    Args:
        stack: The group, which stays as it is.
        part: What it is to train on.
        batch_size: Rows to a step.
    """
    if len(stack) < 2 or stack.n_weights * batch_size <= _SURELY_SMALL:
        return
    rows = np.arange(_N_STEPS * batch_size) % len(part)
    numbers = range(len(stack))
    alone, together = (_seconds(stack.taken(those), part, rows, batch_size) for those in (numbers[:1], numbers))
    gain = len(stack) * alone / together
    logger.debug("a member of %d takes a step %.2f times as fast as alone", len(stack), gain)
    if gain < _MIN_GAIN:
        raise CannotFuse(f"a model of this size is trained only {gain:.2f} times as fast among {len(stack)} as alone")


def _seconds(stack: Stack, part: Part, rows: Any, batch_size: int) -> float:
    stack.train(part, rows, batch_size)  # compiles it
    seconds = []
    for _ in range(_N_TRIES):
        began = time.perf_counter()
        stack.train(part, rows, batch_size)
        seconds.append(time.perf_counter() - began)
    return min(seconds)
