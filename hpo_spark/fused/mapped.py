"""The loops of a stack of Keras models on JAX, whose ``vmap`` has a rule for everything, convolutions too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hpo_spark.data import Part
from hpo_spark.fused.matrix import Batches, MatrixOptimizer, State
from hpo_spark.fused.template import Template
from hpo_spark.objectives.program import columns_of

__all__ = ["MappedProgram"]

# Batches to a call: so many are put side by side at once, in the type that models take.
_MAX_AT_ONCE = 256


class MappedProgram:
    """The compiled steps of stacks of one size.

    Args:
        template: A model like all members.
        n_members: Rows of the matrix.
    """

    def __init__(self, template: Template, n_members: int) -> None:
        import jax

        self._template, self._n_members = template, n_members
        self._matrix = MatrixOptimizer(template, n_members)
        self._train = jax.jit(self._steps_of_training)
        self._evaluate = jax.jit(self._steps_of_evaluation)

    def train(self, state: State, part: Part, batches: Batches, seeds: Sequence[int]) -> tuple[State, list[Any]]:
        """Take a step for each batch; the new state, and loss and metrics of each member."""
        matrix = self._matrix
        matrix.load(state)
        learnt = matrix.variable.value, [one.value for one in matrix.optimizer.variables]
        others, metrics = list(state.others), self._no_metrics()
        rates = [matrix.learning_rate.value, [rate.value for rate in matrix.rates]]
        step, scalars = state.n_steps, state.scalars.astype(str(matrix.variable.dtype))
        for batch in _side_by_side(part, batches):
            arguments = learnt, others, metrics, scalars, rates, np.array(seeds, np.uint32), np.uint32(step)
            learnt, others, metrics = self._train(*arguments, batch)
            step += len(batch[0])
        matrix.variable.assign(learnt[0])
        for variable, value in zip(matrix.optimizer.variables, learnt[1], strict=True):
            variable.assign(value)
        after = matrix.state([np.asarray(value) for value in others], state, step)
        return after, self._results(metrics)

    def evaluate(self, state: State, part: Part, batches: Batches) -> list[Any]:
        """Loss and metrics of each member."""
        metrics, scalars = self._no_metrics(), state.scalars.astype(str(self._matrix.variable.dtype))
        for batch in _side_by_side(part, batches):
            metrics = self._evaluate(state.matrix, state.others, metrics, scalars, batch)
        return self._results(metrics)

    def _steps_of_training(
        self, learnt: Any, others: Any, metrics: Any, scalars: Any, rates: Any, seeds: Any, step: Any, batches: Any
    ) -> Any:
        import jax

        def body(carried: Any, batch: Any) -> Any:
            (matrix, slots), others, metrics, step = carried
            generators = self._generators(seeds, step)

            def one(row: Any, others: Any, metrics: Any, scalars: Any) -> Any:
                def loss_of(row: Any) -> Any:
                    parts = self._matrix.parts_of(row)
                    loss, *new = self._template.run(parts, others, metrics, scalars, generators, batch, True)
                    return loss, new

                (_, new), gradient = jax.value_and_grad(loss_of, has_aux=True)(row)
                return gradient, *new

            gradient, others, metrics = jax.vmap(one)(matrix, others, metrics, scalars)
            learnt = self._matrix.step_without_state(gradient, matrix, slots, rates)
            return (learnt, list(others), list(metrics), step + 1), None

        (learnt, others, metrics, _), _ = jax.lax.scan(body, (learnt, others, metrics, step), batches)
        return learnt, others, metrics

    def _steps_of_evaluation(self, matrix: Any, others: Any, metrics: Any, scalars: Any, batches: Any) -> Any:
        import jax

        generators = [variable.value for variable in self._template.generators]

        def body(metrics: Any, batch: Any) -> Any:
            def one(row: Any, others: Any, metrics: Any, scalars: Any) -> Any:
                parts = self._matrix.parts_of(row)
                return self._template.run(parts, others, metrics, scalars, generators, batch, False)[2]

            return jax.vmap(one)(matrix, others, metrics, scalars), None

        return jax.lax.scan(body, metrics, batches)[0]

    def _generators(self, seeds: Any, step: Any) -> list[Any]:
        import jax.numpy as jnp

        return [
            jnp.stack([seeds[layer], step]).astype(str(variable.dtype))
            for layer, variable in enumerate(self._template.generators)
        ]

    def _no_metrics(self) -> list[Any]:
        return [
            np.zeros((self._n_members, *variable.shape), str(variable.dtype)) for variable in self._template.metrics
        ]

    def _results(self, metrics: Any) -> list[Any]:
        import jax

        return [np.asarray(value) for value in jax.vmap(self._template.results)(metrics)]


def _side_by_side(part: Part, batches: Batches) -> Any:
    """Batches of equal size stacked, many at once; then the last, where it is smaller."""
    import keras

    floatx = keras.config.floatx()
    n_whole = len(batches.rows) // batches.size
    rows = np.asarray(batches.rows)
    groups = [
        rows[start * batches.size : min(start + _MAX_AT_ONCE, n_whole) * batches.size].reshape(-1, batches.size)
        for start in range(0, n_whole, _MAX_AT_ONCE)
    ]
    if len(rows) > n_whole * batches.size:
        groups.append(rows[n_whole * batches.size :][None])
    for group in groups:
        taken = [column[group] for column in columns_of(part)]
        taken = [column.astype(floatx) if column.dtype.kind == "f" else column for column in taken]
        if part.divisor is not None:
            taken[0] = taken[0].astype(floatx) / np.asarray(part.divisor, floatx)
        yield tuple(taken)
