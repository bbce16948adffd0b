"""How much memory members of a group need.

The search bounds its groups by what params and data tell (`fuse_bytes`); a worker trains a group whose members turn out
to be larger in several stacks, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

from hpo_spark.objectives.mlp import Perceptron
from hpo_spark.objectives.training import EVALUATION_BATCH

__all__ = ["bytes_of_perceptron", "bytes_of_weights", "in_stacks"]

T = TypeVar("T")

# What the members of one stack may need together.
_MAX_STACK_BYTES = 2_000_000_000

# Weights, their derivatives, two slots, and what arithmetic and the way to and from the program hold of them meanwhile.
_COPIES = 8
# Activations of a batch of evaluation that are held at once, layer by layer.
_LAYERS_HELD = 3
_NUMBER = 4


def bytes_of_perceptron(model: Perceptron, n_inputs: int, n_outputs: int) -> int:
    """An upper estimate for a built-in model, with its padding where the others are no wider."""
    widths = [n_inputs, *model.units, n_outputs]
    widest = max(widths[1:])
    padded = [n_inputs, *[widest] * len(model.units), n_outputs]
    n_weights = sum((before + 1) * after for before, after in pairwise(padded))
    return bytes_of_weights(n_weights) + _NUMBER * _LAYERS_HELD * EVALUATION_BATCH * sum(padded[1:])


def bytes_of_weights(n_weights: int) -> int:
    """What a model's weights need in training."""
    return _NUMBER * _COPIES * n_weights


def in_stacks(members: Sequence[T], each_bytes: int) -> Iterator[Sequence[T]]:
    """Members in stacks of equal size that have room in memory.

    Args:
        members: Of one group.
        each_bytes: What one of them needs.
    """
    most = max(1, _MAX_STACK_BYTES // each_bytes)
    n_stacks = -(-len(members) // most)
    for number in range(n_stacks):
        yield members[number * len(members) // n_stacks : (number + 1) * len(members) // n_stacks]
