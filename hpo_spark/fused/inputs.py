"""Which numbers of a row of the data the first layers of a group read, and the rows as they read them.

An input that is zero in every row of the training part, as at the edges of images, moves no weight, unless weights
decay. XLA's programs need not read it. Of such data each process makes a copy, in which the inputs that are left are
followed by a one, whose weight is the bias, and by zeros up to a length that is multiplied fast.
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
# The share of all inputs that a copy must save, and bytes that the data may have: those are shared by processes.
_LEAST_SAVED, _MOST_BYTES = 1 / 32, 1 << 26


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs that are read.

    Attributes:
        n: Numbers of a row of the data.
        read: Which of them are read, in their order; None where all are, as they come.
        rows: Those of the training part, as they are read; None where they are read as they are.
    """

    n: int
    read: Any = None
    rows: Any = None

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
        """For each input, and last the bias, its column where weights of what is unread follow all others."""
        columns = np.full(self.n + 1, self.n_read)
        columns[:-1][self.places] = np.arange(self.n_read)
        columns[self.unread] = self.n_columns + np.arange(len(self.unread))
        return columns

    def of(self, part: Part) -> Part:
        """The training part as it is read."""
        return part if self.rows is None else replace(part, x=self.rows)


# For the inputs of a part and their divisor, as long as these live, what is read of them; None for all.
_found: dict[Any, tuple[weakref.ref[Any], Inputs | None]] = {}
_lock = threading.Lock()


def trimmed(part: Part) -> Inputs | None:
    """What a group must read of a training part; None where it had best read all. The same object for the same data."""
    key = id(part.x), part.divisor
    with _lock:
        known = _found.get(key)
        if known is None or known[0]() is not part.x:
            known = weakref.ref(part.x, lambda _: _found.pop(key, None)), _trimmed(part)
            _found[key] = known
    return known[1]


def _trimmed(part: Part) -> Inputs | None:
    if part.x.nbytes > _MOST_BYTES:
        return None
    # What the divisor makes a one of, if the data can hold it.
    one = part.divisor or 1
    with np.errstate(invalid="ignore", over="ignore"):
        held = np.asarray(one).astype(part.x.dtype)
    if float(held) != one:
        return None
    x = part.x.reshape(len(part), -1)
    inputs = Inputs(x.shape[1], np.flatnonzero(x.any(axis=0)))
    if inputs.n_columns > (1 - _LEAST_SAVED) * (inputs.n + 1):
        return None
    rows = aligned((len(x), inputs.n_columns), x.dtype)
    columns = np.pad(inputs.read, (0, inputs.n_columns - inputs.n_read))
    x.take(columns, axis=1, out=rows, mode="clip")  # at once; clipping, it needs no buffer
    rows[:, inputs.n_read] = held
    rows[:, inputs.n_read + 1 :] = 0
    rows.flags.writeable = False  # a tensor that shows what can be written would keep it forever
    return replace(inputs, rows=rows)
