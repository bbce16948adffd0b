"""Whether training models together is worth while where no size tells it, found by trying it."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np

from hpo_spark.data import Part
from hpo_spark.errors import CannotFuse
from hpo_spark.fused.load import tells_gain
from hpo_spark.fused.stack import Stack

__all__ = ["check_gain"]

logger = logging.getLogger(__name__)

# Below such a load the rest of a step takes far longer.
_SURELY_SMALL = 4_000_000
# How many times faster a member must become.
_MIN_GAIN = 1.2
_N_STEPS, _N_TRIES = 5, 3


def check_gain(stack: Stack, part: Part, batch_size: int) -> None:
    """Raise `CannotFuse` where a group takes about as long as its members one after the other.

    Args:
        stack: The group, which stays as it is.
        part: What it is to train on.
        batch_size: Rows to a step.
    """
    if len(stack) < 2 or tells_gain() or stack.load(batch_size) <= _SURELY_SMALL:
        return
    rows = np.arange(_N_STEPS * batch_size) % len(part)
    numbers = range(len(stack))
    one, together = (_seconds(stack.taken(those), part, rows, batch_size) for those in (numbers[:1], numbers))
    gain = len(stack) * one / together
    logger.debug("a member of %d takes a step %.2f times as fast as by itself", len(stack), gain)
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
