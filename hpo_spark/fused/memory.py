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

__all__ = ["bytes_of_model", "bytes_of_perceptron", "in_stacks", "item_size"]

T = TypeVar("T")

# What the members of one stack may need together.
_MAX_STACK_BYTES = 2_000_000_000

# Weights, their derivatives, two slots, and what arithmetic and the way to and from the program hold of them meanwhile.
_COPIES = 8
# Activations of a batch of evaluation that are held at once, layer by layer.
_LAYERS_HELD = 3
# Bytes of a number in single precision.
_SINGLE = 4


def item_size() -> int:
    """Bytes of a number as Keras computes here."""
    import keras

    return 2 * _SINGLE if keras.config.floatx() == "float64" else _SINGLE


def bytes_of_perceptron(model: Perceptron, n_inputs: int, n_outputs: int, size: int = _SINGLE) -> int:
    """An upper estimate for a built-in model, with its padding where the others are no wider.

    Args:
        model: The model.
        n_inputs, n_outputs: Numbers of a row of the data, and of what it returns.
        size: Bytes of a number.
    """
    widths = [n_inputs, *model.units, n_outputs]
    widest = max(widths[1:])
    padded = [n_inputs, *[widest] * len(model.units), n_outputs]
    n_weights = sum((before + 1) * after for before, after in pairwise(padded))
    return bytes_of_model(n_weights, sum(padded[1:]), size)


def bytes_of_model(n_weights: int, n_held: int, size: int = _SINGLE) -> int:
    """An estimate of what a model needs in training and evaluation.

    Args:
        n_weights: Numbers that it learns.
        n_held: For a row of the data the outputs of the largest layer, or of all of them.
        size: Bytes of a number.
    """
    return size * (_COPIES * n_weights + _LAYERS_HELD * EVALUATION_BATCH * n_held)


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
