"""The loops of a stack of Keras models on TensorFlow.

`tf.vectorized_map` makes of the operations on one member's variables operations on those of all members. What it has no
rule for, such as the product of a convolution with a filter for each member, it finds while it compiles, and nothing
here falls back to a loop. One Keras optimizer updates a matrix with a row for each member, and its rates are columns.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from hpo_spark.data import Part
from hpo_spark.errors import CannotFuse
from hpo_spark.fused.matrix import Batches, MatrixOptimizer, State
from hpo_spark.fused.template import Template
from hpo_spark.objectives.program import columns_of, ready, stays_on_host, tensor_of, types_of

__all__ = ["VectorizedProgram"]

logger = logging.getLogger(__name__)


class VectorizedProgram:
    """The compiled loops of stacks of one size.

    Args:
        template: A model like all members.
        n_members: Rows of the matrix.
        part: Rows like those that come.
    """

    def __init__(self, template: Template, n_members: int, part: Part) -> None:
        import tensorflow as tf

        _teach_bitcast()
        self._template, self._n_members = template, n_members
        self._lock = threading.Lock()
        self._columns = [(column.shape[1:], column.dtype) for column in columns_of(part)]
        self._types = types_of(part)
        self._divisor, self._on_host = part.divisor, stays_on_host(part)
        self._matrix = MatrixOptimizer(template, n_members)
        self._train = self._compiled(self._train_loop, tf.TensorSpec((), tf.int64))
        self._evaluate = self._compiled(self._evaluation_loop)

    def train(self, state: State, part: Part, batches: Batches, seeds: Sequence[int]) -> tuple[State, list[Any]]:
        """Take a step for each batch; the new state, and loss and metrics of each member."""
        import tensorflow as tf

        with self._lock:
            self._matrix.load(state)
            others, metrics = self._call(self._train, state, part, batches, seeds, tf.constant(state.n_steps, tf.int64))
            others = [value.numpy() for value in others]
            after = self._matrix.state(others, state, state.n_steps + batches.n)
        return after, [value.numpy() for value in metrics]

    def evaluate(self, state: State, part: Part, batches: Batches) -> list[Any]:
        """Loss and metrics of each member."""
        with self._lock:
            self._matrix.load(state)
            metrics = self._call(self._evaluate, state, part, batches, [0] * len(self._template.generators))
        return [value.numpy() for value in metrics]

    def _call(self, function: Any, state: State, part: Part, batches: Batches, seeds: Sequence[int], *more: Any) -> Any:
        import tensorflow as tf

        columns = [tensor_of(column) for column in columns_of(part)]
        numbers = tf.constant(batches.rows, tf.int64), tf.constant(batches.size, tf.int64)
        others = [tf.constant(value) for value in state.others]
        scalars = tf.constant(state.scalars, tf.float64, shape=state.scalars.shape)
        try:
            of_layers = tf.constant(seeds, tf.int64, shape=(len(seeds),))
            return function(columns, others, scalars, of_layers, *numbers, *more)
        except (ValueError, TypeError, NotImplementedError, LookupError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CannotFuse(f"TensorFlow cannot vectorize the model: {first[:200]}") from error

    def _compiled(self, loop: Any, *more: Any) -> Any:
        import tensorflow as tf

        template, n = self._template, self._n_members
        specs = [
            [tf.TensorSpec((None, *shape), dtype) for shape, dtype in self._columns],
            [tf.TensorSpec((n, *variable.shape), variable.dtype) for variable in template.others],
            tf.TensorSpec((n, len(template.places)), tf.float64),
            tf.TensorSpec((len(template.generators),), tf.int64),
            *(tf.TensorSpec((None,), tf.int64), tf.TensorSpec((), tf.int64)),
            *more,
        ]
        return tf.function(loop, input_signature=specs, autograph=False)

    def _train_loop(
        self, columns: Any, others: Any, scalars: Any, seeds: Any, rows: Any, batch_size: Any, first_step: Any
    ) -> Any:
        import tensorflow as tf

        n_rows = tf.shape(rows, tf.int64)[0]
        matrix = self._matrix

        def body(start: Any, step: Any, others: Any, metrics: Any) -> list[Any]:
            batch = self._batch(columns, rows[start : start + batch_size])
            trainable = matrix.parts()
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(trainable)
                loss, others, metrics = self._mapped(trainable, others, metrics, scalars, seeds, step, batch, True)
            # Members are apart from one another: the derivative of their sum is that of each.
            matrix.step(tape.gradient(loss, trainable, unconnected_gradients="zero"))
            return [start + batch_size, step + 1, others, metrics]

        start = [tf.constant(0, tf.int64), first_step, others, self._no_metrics()]
        *_, others, metrics = tf.while_loop(lambda start, *_: start < n_rows, body, start, parallel_iterations=1)
        return others, self._results(metrics)

    def _evaluation_loop(self, columns: Any, others: Any, scalars: Any, seeds: Any, rows: Any, batch_size: Any) -> Any:
        import tensorflow as tf

        n_rows = tf.shape(rows, tf.int64)[0]
        trainable = self._matrix.parts()

        def body(start: Any, metrics: Any) -> list[Any]:
            batch = self._batch(columns, rows[start : start + batch_size])
            step = tf.constant(0, tf.int64)
            *_, metrics = self._mapped(trainable, others, metrics, scalars, seeds, step, batch, False)
            return [start + batch_size, metrics]

        start = [tf.constant(0, tf.int64), self._no_metrics()]
        _, metrics = tf.while_loop(lambda start, *_: start < n_rows, body, start, parallel_iterations=1)
        return self._results(metrics)

    def _mapped(
        self, trainable: Any, others: Any, metrics: Any, scalars: Any, seeds: Any, step: Any, batch: Any, training: bool
    ) -> Any:
        """What a batch makes of all members."""
        import tensorflow as tf

        template = self._template
        generators = [
            tf.cast(tf.stack([seed, step]), variable.dtype)
            for seed, variable in zip(tf.unstack(seeds, len(template.generators)), template.generators, strict=True)
        ]

        def one(values: Any) -> Any:
            trainable, others, metrics, scalars = values
            own = tf.unstack(scalars, len(template.places))
            return template.run(trainable, others, metrics, own, generators, batch, training)

        return tf.vectorized_map(one, (trainable, others, metrics, scalars), fallback_to_while_loop=False)

    def _results(self, metrics: Any) -> Any:
        import tensorflow as tf

        return tf.vectorized_map(self._template.results, metrics, fallback_to_while_loop=False)

    def _no_metrics(self) -> list[Any]:
        import tensorflow as tf

        return [tf.zeros((self._n_members, *variable.shape), variable.dtype) for variable in self._template.metrics]

    def _batch(self, columns: Sequence[Any], rows: Any) -> tuple[Any, ...]:
        import tensorflow as tf

        with tf.device("/CPU:0") if self._on_host else tf.name_scope("batch"):
            taken = [tf.gather(column, rows) for column in columns]
        return ready(taken, self._types, self._divisor)


_knows_bitcast = False


def _teach_bitcast() -> None:
    """Give TensorFlow the rule for a bitcast, which Keras' accuracies contain: it goes number by number."""
    global _knows_bitcast
    if _knows_bitcast:
        return
    _knows_bitcast = True
    import tensorflow as tf

    try:
        from tensorflow.python.ops.parallel_for import pfor

        def bitcast(given: Any) -> Any:
            return pfor.wrap(tf.bitcast(given.stacked_input(0), given.get_attr("type")), True)

        pfor.RegisterPFor("Bitcast")(bitcast)

    except (ImportError, AttributeError, KeyError, ValueError) as error:  # another version, or it has the rule itself
        logger.debug("TensorFlow is not told of bitcasts: %s", error)
