"""The weights of a stack as a matrix with a row for each member, and one Keras optimizer over it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hpo_spark.fused.scalars import Scalar, replaced, scalars_of_optimizer
from hpo_spark.fused.template import Template

__all__ = ["Batches", "MatrixOptimizer", "State", "slot_lists"]


@dataclass(frozen=True)
class State:
    """What a stack has learnt, a row a member in each array.

    Attributes:
        matrix: All weights, ``(members, weights)``.
        others: Other variables, such as the moving averages of a batch normalisation.
        slots: What the optimizer keeps of the weights, each of the matrix's shape.
        scalars: Rates of dropouts and factors of regularisers, ``(members, numbers)``.
        rates: The optimizer's numbers, ``(members, numbers)``.
        learning_rates: ``(members,)``.
        n_steps: Steps that were taken.
    """

    matrix: Any
    others: list[Any]
    slots: list[Any]
    scalars: Any
    rates: Any
    learning_rates: Any
    n_steps: int = 0

    def taken(self, numbers: Sequence[int]) -> State:
        """The rows of some members."""
        rows = np.asarray(numbers, int)
        return State(
            self.matrix[rows],
            [value[rows] for value in self.others],
            [value[rows] for value in self.slots],
            self.scalars[rows],
            self.rates[rows],
            self.learning_rates[rows],
            self.n_steps,
        )


@dataclass(frozen=True)
class Batches:
    """Rows of a part in their order, and how many make a batch."""

    rows: Any
    size: int

    @property
    def n(self) -> int:
        """How many batches there are."""
        return -(-len(self.rows) // self.size)


def slot_lists(optimizer: Any, n_variables: int) -> list[str]:
    """The attributes in which an optimizer keeps a variable for each of those that it updates, in their order."""
    import keras

    return [
        name
        for name, value in vars(optimizer).items()
        if isinstance(value, list)
        and len(value) == n_variables
        and all(isinstance(one, keras.Variable) for one in value)
        and name != "_trainable_variables"
    ]


class MatrixOptimizer:
    """A Keras optimizer over the matrix, with rates of their own for its rows.

    Args:
        template: A model like all members.
        n_members: Rows.
    """

    def __init__(self, template: Template, n_members: int) -> None:
        import keras

        self._template = template
        own = template.model.optimizer
        dtype = template.trainable[0].dtype
        self.optimizer = type(own).from_config(own.get_config())
        self.variable = keras.Variable(np.zeros((n_members, sum(template.sizes))), dtype=dtype, name="members")
        self._places = scalars_of_optimizer(self.optimizer)
        # Of each number, and of 1 less it.
        self.rates = [
            keras.Variable(np.zeros((n_members, 1)), dtype=dtype, trainable=False) for _ in range(2 * len(self._places))
        ]
        self.learning_rate = keras.Variable(np.zeros((n_members, 1)), dtype=dtype, trainable=False)
        self._has_rates = isinstance(own._learning_rate, keras.Variable)
        if self._has_rates:
            self.optimizer._learning_rate = self.learning_rate
        self.optimizer.build([self.variable])

    @cached_property
    def slots(self) -> list[Any]:
        """What the optimizer keeps of the matrix."""
        return [getattr(self.optimizer, name)[0] for name in slot_lists(self.optimizer, 1)]

    def load(self, state: State) -> None:
        """Take up where a stack is."""
        self.variable.assign(state.matrix)
        for slot, value in zip(self.slots, state.slots, strict=True):
            slot.assign(value)
        for number, (rate, complement) in enumerate(zip(self.rates[::2], self.rates[1::2], strict=True)):
            rate.assign(state.rates[:, number : number + 1])
            complement.assign(1 - state.rates[:, number : number + 1])
        self.learning_rate.assign(state.learning_rates[:, None])
        self.optimizer._iterations.assign(state.n_steps)

    def state(self, others: list[Any], before: State, n_steps: int) -> State:
        """Where the stack is now."""
        import keras

        arrays = [keras.ops.convert_to_numpy(value) for value in (self.variable, *self.slots)]
        return State(arrays[0], others, arrays[1:], before.scalars, before.rates, before.learning_rates, n_steps)

    def parts(self) -> list[Any]:
        """The members' weights, variable by variable."""
        import keras

        return self.parts_of(keras.ops.convert_to_tensor(self.variable))

    def parts_of(self, rows: Any) -> list[Any]:
        """Weights variable by variable, from the matrix or from one of its rows."""
        import keras

        template = self._template
        bounds = np.cumsum(template.sizes)[:-1].tolist()
        parts = keras.ops.split(rows, bounds, axis=-1)
        shapes = [shape if len(rows.shape) == 1 else (-1, *shape) for shape in template.shapes]
        return [keras.ops.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]

    def step(self, gradients: Sequence[Any]) -> None:
        """Update the matrix by the derivatives of the losses by `parts`."""
        import keras

        n_members = self.variable.shape[0]
        flat = [keras.ops.reshape(keras.ops.convert_to_tensor(one), (n_members, -1)) for one in gradients]
        with self.with_rates():
            self.optimizer.apply([keras.ops.concatenate(flat, axis=1)], [self.variable])

    def step_without_state(self, gradient: Any, matrix: Any, slots: Any, rates: Any) -> tuple[Any, Any]:
        """The same where nothing may be assigned, as in JAX.

        Args:
            gradient: Of the losses by the matrix.
            matrix: The weights.
            slots: Values of all of the optimizer's variables.
            rates: The learning rates, and its other numbers.

        Returns:
            The new weights and slots.
        """
        learning_rate, others = rates
        places = [*self._places, *([(self.optimizer, "_learning_rate")] if self._has_rates else [])]
        values: list[Any] = [*map(Scalar, others[::2], others[1::2])] + (
            [lambda: learning_rate] if self._has_rates else []
        )
        with replaced(places, values):
            (new,), slots = self.optimizer.stateless_apply(slots, [gradient], [matrix])
        return new, list(slots)

    def with_rates(self) -> AbstractContextManager[None]:
        """The optimizer with its rows' numbers in the places of its own."""
        values = [rate.value for rate in self.rates]
        return replaced(self._places, [*map(Scalar, values[::2], values[1::2])])
