"""What a training of many models at once is to those who use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hpo_spark.data import Part

__all__ = ["Stack"]


class Stack(Protocol):
    """Several models in training, in one order, all of them at the same step. Numbers count them from 0."""

    def __len__(self) -> int: ...

    def train(self, part: Part, order: Any, batch_size: int, n_to_come: int = 0) -> dict[str, Any]:
        """Take a step for each batch.

        Args:
            part: What to train on.
            order: Numbers of its rows, the batches one after the other.
            batch_size: Rows to a step.
            n_to_come: Steps that will follow: the more, the longer it may take to compile them.

        Returns:
            Loss and metrics by Keras' names, each an array of one number a member.
        """

    def evaluate(self, part: Part, batch_size: int) -> dict[str, Any]:
        """Loss and metrics of each member on a part of the data, as `train` returns them."""

    def load(self, batch_size: int) -> int:
        """What there is to do for a member at a step, on average and with its padding, as `load_of` has it."""

    def taken(self, numbers: Sequence[int]) -> Stack:
        """A stack of some members as they are now, in the order of their numbers here; this one stays as it is."""

    def variables(self, numbers: Sequence[int]) -> list[list[Any]]:
        """For each of some members what Keras' ``model.variables`` would hold."""

    def states(self, numbers: Sequence[int]) -> list[list[Any]]:
        """For each of some members what `hpo_spark.objectives.training.state_of` would give of its model."""

    def rate(self, number: int) -> float:
        """A member's learning rate."""

    def change(self, variables: Mapping[int, Sequence[Any]], rates: Mapping[int, float]) -> None:
        """Give some members other variables, in the order of `variables`, and other learning rates."""
