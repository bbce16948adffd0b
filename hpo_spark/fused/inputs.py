"""Which numbers of a row of the data the first layers of a group read, and the rows as they read them.

An input that is zero in every row of the training part, as at the edges of images, moves no weight, unless weights
decay. XLA's programs need not read it. Of such data a copy is made, in which the inputs that are left are followed by a
one, whose weight is the bias, and by zeros up to a length that is multiplied fast.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from hpo_spark.data import Part
from hpo_spark.objectives.program import aligned

__all__ = ["Inputs", "trimmed"]

# What a row of a copy is filled up to: products of other lengths take up to a quarter longer.
_UNIT = 32
# The share of all inputs that a copy must save, and bytes that the data may have.
_LEAST_SAVED, _MOST_BYTES = 1 / 32, 1 << 28


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs that are read.

    Attributes:
        n: Numbers of a row of the data.
        read: Which of them are read, in their order, where they are followed by a one; None for all, and no one.
    """

    n: int
    read: Any = None

    @property
    def is_trimmed(self) -> bool:
        """Whether some are left out."""
        return self.read is not None

    @property
    def places(self) -> Any:
        """Which are read, as an index."""
        return slice(None) if self.read is None else self.read

    @property
    def n_read(self) -> int:
        """How many are read."""
        return self.n if self.read is None else len(self.read)

    @property
    def n_columns(self) -> int:
        """Weights of a unit that reads them: one for each, the bias, and what is filled up."""
        return self.n + 1 if self.read is None else -(-(self.n_read + 1) // _UNIT) * _UNIT

    @cached_property
    def unread(self) -> Any:
        """Which are left out."""
        return np.delete(np.arange(self.n), self.places)

    @cached_property
    def columns_of_all(self) -> Any:
        """For each input, and last the bias, its column where those that are left out follow after all others."""
        columns = np.full(self.n + 1, self.n_read)
        columns[:-1][self.places] = np.arange(self.n_read)
        columns[self.unread] = self.n_columns + np.arange(len(self.unread))
        return columns


# By the identity of the inputs of a part, as long as these live: which of them are read, and the copy; or None.
_kept: dict[int, tuple[weakref.ref[Any], tuple[Inputs, Any] | None]] = {}
_lock = threading.Lock()


def trimmed(part: Part) -> tuple[Inputs, Part] | None:
    """Which inputs a group must read to train on a part, and the part as it is read; None where all had best be."""
    key = id(part.x)
    with _lock:
        known = _kept.get(key)
        if known is None or known[0]() is not part.x:
            known = weakref.ref(part.x, lambda _: _kept.pop(key, None)), _trim(part)
            _kept[key] = known
    found = known[1]
    return None if found is None else (found[0], replace(part, x=found[1]))


def _trim(part: Part) -> tuple[Inputs, Any] | None:
    one = np.asarray(part.divisor or 1).astype(part.x.dtype)
    if part.x.nbytes > _MOST_BYTES or one != (part.divisor or 1):
        return None
    rows = part.x.reshape(len(part), -1)
    inputs = Inputs(rows.shape[1], np.flatnonzero(rows.any(axis=0)))
    if inputs.n_columns > (1 - _LEAST_SAVED) * (inputs.n + 1):
        return None
    copy = aligned((len(rows), inputs.n_columns), rows.dtype)
    taken = np.pad(inputs.read, (0, inputs.n_columns - inputs.n_read))
    rows.take(taken, axis=1, out=copy, mode="clip")  # at once; clipping, it needs no buffer
    copy[:, inputs.n_read] = one
    copy[:, inputs.n_read + 1 :] = 0
    copy.flags.writeable = False  # a tensor that shows what can be written would keep it forever
    return inputs, copy
