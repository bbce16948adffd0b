"""Where the weights of many perceptrons lie in the tensors of one program.

The first layers, which have nearly all the weights of a small model, lie side by side without padding: one matrix with
a row for each unit of each member. What follows is padded to one width for all layers of all members, a matrix for
each, so that a batched product serves all; a member passes by the layers that it has not. Activations are stored as
units by batch rows, so that both halves are taken apart and put together by whole rows.

    first   (rows, columns)      a unit's weights and, after them, its bias; a member of no hidden layer has its outputs
                                 here; zero where a row is filled up
    rest    (members, numbers)   for each further hidden layer its kernel, U x U, and bias, U; then the output's, O x U
                                 and O; zero where a member is narrower or shallower
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from hpo_spark.fused.inputs import Inputs
from hpo_spark.objectives.mlp import Perceptron

__all__ = ["NARROW", "Layout", "Room", "Weights"]

# Kernel (inputs, units) and bias (units,) of each dense layer, as Keras has them.
Weights = list[tuple[Any, Any]]

# What narrow layers are rounded up to in a room with some to spare; and up to where they are narrow, so that padding
# costs little, and XLA takes longer for the products of each member than for the same written out.
_WIDTH, NARROW = 16, 32


@dataclass(frozen=True)
class Room:
    """How large the tensors of a group are; what no member needs of them is zero.

    Attributes:
        rows: Of ``first``.
        members: Rows of ``rest``.
        width: Units that a hidden layer is padded to.
        n_layers: Hidden layers.
    """

    rows: int
    members: int
    width: int
    n_layers: int

    @classmethod
    def of(cls, models: Sequence[Perceptron], n_outputs: int) -> Room:
        """What some models need."""
        return cls(
            rows=sum(_first_width(model, n_outputs) for model in models),
            members=len(models),
            width=max((units for model in models for units in model.units), default=0),
            n_layers=max(len(model.units) for model in models),
        )

    def rounded(self) -> Room:
        """One with some to spare, which similar groups have too: some eighth of the rows, a quarter of the members."""
        rows = _up(self.rows, max(8, _power_below(self.rows / 8)))
        members = _up(self.members, _power_below(self.members / 4))
        width = _up(self.width, _WIDTH) if self.width <= NARROW else self.width
        return Room(rows, members, width, self.n_layers)

    def with_layers(self, n_layers: int) -> Room:
        """One that has so many."""
        return replace(self, n_layers=n_layers, width=self.width or (_WIDTH if n_layers else 0))

    def holds(self, other: Room) -> bool:
        """Whether there is room for what needs another."""
        pairs = ((self.rows, other.rows), (self.members, other.members), (self.width, other.width))
        return all(own >= its for own, its in pairs) and self.n_layers >= other.n_layers

    def rest_sizes(self, n_outputs: int) -> list[int]:
        """Numbers of a member's row in ``rest``, piece by piece: kernel and bias of a layer after the other."""
        if not self.n_layers:
            return []
        width = self.width
        return [width * width, width] * (self.n_layers - 1) + [n_outputs * width, n_outputs]

    def n_numbers(self, n_columns: int, n_outputs: int) -> int:
        """Weights in all."""
        return self.rows * n_columns + self.members * sum(self.rest_sizes(n_outputs))


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _power_below(size: float) -> int:
    """The largest power of two that is not above a size, 1 or more."""
    return 1 << max(0, int(size).bit_length() - 1)


def _first_width(model: Perceptron, n_outputs: int) -> int:
    """Rows of a member in ``first``."""
    return model.units[0] if model.units else n_outputs


@dataclass(frozen=True)
class Layout:
    """The places of some members.

    Attributes:
        members: In their order in the tensors.
        inputs: What they read.
        n_outputs: Of a model.
        room: Theirs, or a larger one.
    """

    members: tuple[Perceptron, ...]
    inputs: Inputs
    n_outputs: int
    room: Room

    @cached_property
    def depths(self) -> Any:
        """Hidden layers of each member, ``(room for members,)``: 0 where there is none."""
        depths = np.zeros(self.room.members, int)
        depths[: len(self.members)] = [len(member.units) for member in self.members]
        return depths

    @cached_property
    def first_widths(self) -> Any:
        """Rows of each member in ``first``."""
        return np.array([_first_width(member, self.n_outputs) for member in self.members])

    @cached_property
    def first_ends(self) -> Any:
        """The row after each member's last in ``first``."""
        return np.cumsum(self.first_widths)

    @cached_property
    def rest_sizes(self) -> list[int]:
        """Those of the room."""
        return self.room.rest_sizes(self.n_outputs)

    def packing(self, deep: bool) -> tuple[Any, Any]:
        """Which rows of the first layers' output belong to which member, and back.

        Args:
            deep: For members with hidden layers, whose rows are units; else for those without, whose rows are outputs.

        Returns:
            For each place of each member, of ``width`` or ``n_outputs`` places, its row in ``first``, or ``rows`` where
            it has none; for each row its place, or the number of places where it is none of these.
        """
        room = self.room
        per_member = room.width if deep else self.n_outputs
        places = np.full((room.members, per_member), room.rows, np.int32)
        for number, end in enumerate(self.first_ends):
            if bool(self.depths[number]) == deep:
                width = self.first_widths[number]
                places[number, :width] = np.arange(end - width, end)
        there = places.ravel()
        back = np.full(room.rows + 1, len(there), np.int32)
        back[there] = np.arange(len(there), dtype=np.int32)
        return there, back[: room.rows]

    def pack(self, weights: Sequence[Weights], dtype: str) -> tuple[Any, Any]:
        """Put weights of all members into ``first`` and ``rest``."""
        first = np.zeros((self.room.rows, self.inputs.n_columns), dtype)
        rest = np.zeros((self.room.members, sum(self.rest_sizes)), dtype)
        n_read = self.inputs.n_read
        for number, ((kernel, bias), *others) in enumerate(weights):
            rows = first[self._rows(number)]
            rows[:, :n_read], rows[:, n_read] = kernel[self.inputs.places].T, bias
            for (kernel, bias), (own_kernel, own_bias) in zip(others, self._pieces(rest[number], number), strict=True):
                own_kernel[...], own_bias[...] = kernel.T, bias
        return first, rest

    def unpack(self, first: Any, rest: Any, number: int) -> Weights:
        """A member's weights, of the first layer for the inputs that are read, from arrays like those of `pack`."""
        rows, n_read = first[self._rows(number)], self.inputs.n_read
        others = self._pieces(rest[number], number)
        return [(rows[:, :n_read].T.copy(), rows[:, n_read].copy()), *((k.T.copy(), b.copy()) for k, b in others)]

    def _rows(self, number: int) -> slice:
        return slice(self.first_ends[number] - self.first_widths[number], self.first_ends[number])

    def _pieces(self, row: Any, number: int) -> list[tuple[Any, Any]]:
        """Views of a member's kernels and biases in its row of ``rest``."""
        if not self.depths[number]:
            return []
        member, width = self.members[number], self.room.width
        pieces = np.split(row, np.cumsum(self.rest_sizes)[:-1])
        kernels = [*(piece.reshape(width, width) for piece in pieces[:-2:2]), pieces[-2].reshape(-1, width)]
        biases = pieces[1::2]
        sizes = [*member.units, self.n_outputs]
        layers = [*range(len(member.units) - 1), len(kernels) - 1]
        return [
            (kernels[layer][:n_units, :n_before], biases[layer][:n_units])
            for layer, n_before, n_units in zip(layers, sizes[:-1], sizes[1:], strict=True)
        ]
