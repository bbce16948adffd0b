"""Where the weights of many perceptrons lie in the tensors of one program.

The first layers, which have nearly all the weights of a small model, lie side by side without padding: one matrix with
a row for each unit of each member. What follows is padded to the widest layer of any member, a matrix for each, so that
a batched product serves all. Activations are stored as units by batch rows, so that both halves are taken apart and put
together by whole rows.

    first   (units of all members, inputs + 1)   a unit's weights and, last, its bias; a member of no hidden layer has
                                                 its outputs here
    rest    (members, numbers)                   for each further hidden layer its kernel, U x U, and bias, U; then the
                                                 output's, O x U and O; zero where a member is narrower or shallower

Members are ordered twice: in *storage* by the rule that updates their weights, so that a rule has whole rows; in the
*network* from the deepest to the shallowest, so that a layer has whole members and no gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hpo_spark.objectives.mlp import Perceptron

__all__ = ["Layout", "Weights"]

# Kernel (inputs, units) and bias (units,) of each dense layer, as Keras has them.
Weights = list[tuple[Any, Any]]


@dataclass(frozen=True)
class Layout:
    """The places of some members.

    Attributes:
        members: In their order in storage.
        n_inputs: Numbers of a row of the data.
        n_outputs: Of a model.
    """

    members: tuple[Perceptron, ...]
    n_inputs: int
    n_outputs: int

    @cached_property
    def depths(self) -> Any:
        """Hidden layers of each member."""
        return np.array([len(member.units) for member in self.members])

    @cached_property
    def by_depth(self) -> Any:
        """The members in the order of the network, by their numbers in storage."""
        return np.argsort(-self.depths, kind="stable")

    @cached_property
    def n_layers(self) -> int:
        """Hidden layers of the deepest member."""
        return int(self.depths.max())

    @cached_property
    def width(self) -> int:
        """Units of the widest hidden layer, 0 where there is none."""
        return max((units for member in self.members for units in member.units), default=0)

    @cached_property
    def first_widths(self) -> Any:
        """Rows of each member in ``first``."""
        return np.array([member.units[0] if member.units else self.n_outputs for member in self.members])

    @cached_property
    def first_ends(self) -> Any:
        """The row after each member's last in ``first``."""
        return np.cumsum(self.first_widths)

    @cached_property
    def rest_sizes(self) -> list[int]:
        """Numbers of a member's row in ``rest``, piece by piece: kernel and bias of a layer after the other."""
        if not self.n_layers:
            return []
        width, outputs = self.width, self.n_outputs
        return [width * width, width] * (self.n_layers - 1) + [outputs * width, outputs]

    def n_members_of_depth(self, depth: int) -> int:
        """How many members have so many hidden layers, or more."""
        return int(np.sum(self.depths >= depth))

    @cached_property
    def packing(self) -> tuple[Any, Any]:
        """Which rows of the first layer's output are the units of members in the network, and back.

        Returns:
            For each unit of each member with hidden layers, padded to the width, its row in ``first``, and the number
            of rows where it is padding; for each row in ``first`` its place among these, and their number where the
            row is the output of a member without hidden layers.
        """
        starts = self.first_ends - self.first_widths
        n_rows = int(self.first_ends[-1])
        deep = [number for number in self.by_depth if self.depths[number]]
        units = np.arange(self.width)
        places = [
            np.where(units < self.first_widths[number], starts[number] + units, n_rows).astype(np.int32)
            for number in deep
        ]
        there = np.concatenate(places) if places else np.zeros(0, np.int32)
        back = np.full(n_rows + 1, len(there), np.int32)
        back[there] = np.arange(len(there), dtype=np.int32)
        back[n_rows] = len(there)
        return there, back[:n_rows]

    @cached_property
    def direct(self) -> Any:
        """The rows in ``first`` that are outputs of members without hidden layers, in the order of the network."""
        flat = [number for number in self.by_depth if not self.depths[number]]
        ends = [range(self.first_ends[number] - self.n_outputs, self.first_ends[number]) for number in flat]
        return np.array([row for rows in ends for row in rows], np.int32)

    def pack(self, weights: Sequence[Weights], dtype: str) -> tuple[Any, Any]:
        """Put weights of all members into ``first`` and ``rest``."""
        first = np.empty((int(self.first_ends[-1]), self.n_inputs + 1), dtype)
        rest = np.zeros((len(self.members), sum(self.rest_sizes)), dtype)
        for number, ((kernel, bias), *others) in enumerate(weights):
            rows = first[self._rows(number)]
            rows[:, :-1], rows[:, -1] = kernel.T, bias
            for (kernel, bias), (own_kernel, own_bias) in zip(others, self._pieces(rest[number], number), strict=True):
                own_kernel[...], own_bias[...] = kernel.T, bias
        return first, rest

    def unpack(self, first: Any, rest: Any, number: int) -> Weights:
        """A member's weights, from arrays like those of `pack`."""
        rows = first[self._rows(number)]
        others = self._pieces(rest[number], number)
        return [(rows[:, :-1].T.copy(), rows[:, -1].copy()), *((k.T.copy(), b.copy()) for k, b in others)]

    def _rows(self, number: int) -> slice:
        return slice(self.first_ends[number] - self.first_widths[number], self.first_ends[number])

    def _pieces(self, row: Any, number: int) -> list[tuple[Any, Any]]:
        """Views of a member's kernels and biases in its row of ``rest``."""
        if not self.depths[number]:
            return []
        member, width = self.members[number], self.width
        pieces = np.split(row, np.cumsum(self.rest_sizes)[:-1])
        kernels = [*(piece.reshape(width, width) for piece in pieces[:-2:2]), pieces[-2].reshape(-1, width)]
        biases = pieces[1::2]
        sizes = [*member.units, self.n_outputs]
        layers = [*range(len(member.units) - 1), len(kernels) - 1]
        return [
            (kernels[layer][:n_units, :n_before], biases[layer][:n_units])
            for layer, n_before, n_units in zip(layers, sizes[:-1], sizes[1:], strict=True)
        ]
