"""Seeds: each derived from the study's and from what it is for, never from where or when something runs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["derive_seed", "seeded"]


def derive_seed(*entropy: int) -> int:
    """A seed below 2**31 from numbers of 0 or more, such as the study's seed and a trial's number."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of ``random`` and numpy, and put them back as they were."""
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
