"""Whether training models together is worth while where their size does not tell, found by trying it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import numpy as np

from hpo_spark.data import Part
from hpo_spark.errors import CannotFuse
from hpo_spark.fused.stack import Stack
from hpo_spark.objectives.training import Trainer

__all__ = ["check_gain", "forget_gains"]

logger = logging.getLogger(__name__)

# Below such a load the rest of a step takes longer than what a group cannot share.
_SURELY_SMALL = 5_000_000
# How many times faster a member must become.
_MIN_GAIN = 1.1
_N_STEPS, _N_TRIES = 10, 2
_MAX_KEPT = 256

# Members and load of groups that have gained, by what they have in common.
_gained: dict[Hashable, tuple[int, int]] = {}


def check_gain(stack: Stack, model: Callable[[], Any], part: Part, batch_size: int) -> None:
    """Raise `CannotFuse` where a group takes about as long as its members would alone.

    Args:
        stack: The group, which stays as it is.
        model: Builds the Keras model of one of its members.
        part: What it is to train on.
        batch_size: Rows to a step.
    """
    n, load = len(stack), stack.load(batch_size)
    if n < 2 or load <= _SURELY_SMALL:
        return
    key = stack.structure, batch_size, part.x.shape[1:]
    least, most = _gained.get(key, (n + 1, 0))
    if n >= least and load <= most:
        return
    rows = np.arange(_N_STEPS * batch_size) % len(part)
    alone = n * _seconds_alone(stack, model, part, rows, batch_size)
    gain = alone / _seconds(partial(stack.taken(range(n)).train, part, batch_size=batch_size), rows, batch_size)
    logger.debug("a member of %d takes a step %.2f times as fast as alone", n, gain)
    if gain < _MIN_GAIN:
        raise CannotFuse(f"a model of this size is trained only {gain:.2f} times as fast among {n} as alone")
    if len(_gained) >= _MAX_KEPT:
        _gained.clear()
    _gained[key] = n, load


def forget_gains() -> None:
    """Forget which groups have gained."""
    _gained.clear()


def _seconds_alone(stack: Stack, model: Callable[[], Any], part: Part, rows: Any, batch_size: int) -> float:
    """What steps of one member take in the loop that trains it alone, which is kept for that."""
    trainer = Trainer(model(), part)
    if trainer.program is None:  # Keras' own loop: a group of one is the best that it could be
        return _seconds(partial(stack.taken([0]).train, part, batch_size=batch_size), rows, batch_size)
    seconds = _seconds(partial(trainer.program.train, part, batch_size=batch_size), rows, batch_size)
    trainer.release()
    return seconds


def _seconds(train: Callable[[Any], object], rows: Any, batch_size: int) -> float:
    train(rows[:batch_size])  # compiles it
    seconds = []
    for _ in range(_N_TRIES):
        began = time.perf_counter()
        train(rows)
        seconds.append(time.perf_counter() - began)
    return min(seconds)
