"""Seeds: each derived from the study's and from what it is for, never from where or when something runs."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["derive_seed", "seeded", "seeded_alone"]

logger = logging.getLogger(__name__)

_in_use = threading.Lock()


def derive_seed(*entropy: int) -> int:
    """A seed below 2**31 from numbers of 0 or more, such as the study's seed and a trial's number."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of ``random`` and numpy for a moment, and put them back as they were.

    They are the process's: a thread that draws from them meanwhile disturbs both.
    """
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


@contextmanager
def seeded_alone(seed: int) -> Iterator[None]:
    """The same for as long as a trial takes; whoever comes while another trial has them draws from them as they are."""
    if not _in_use.acquire(blocking=False):
        logger.debug("the global generators are in use by another thread, and not seeded")
        yield
        return
    try:
        with seeded(seed):
            yield
    finally:
        _in_use.release()
