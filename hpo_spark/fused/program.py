"""The compiled loops over the batches of many perceptrons.

A program depends on the form of a group, not on how many members it has nor on how wide they are: all sizes are the
tensors', so that a search traces a few programs and every later group finds one. The variables are the group's, and
come as handles. XLA makes faster code of the same program, but for one set of sizes, and takes its time for that; it
never lets go of what it has compiled, some 4 MB a group, until the process has grown so that another takes its place.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from hpo_spark.data import Part
from hpo_spark.fused.network import Form, derivative_of_loss, forward, losses_and_metrics
from hpo_spark.fused.rules import apply_rule, n_slots
from hpo_spark.fused.tensors import specs_of
from hpo_spark.objectives.program import columns_of, stays_on_host

__all__ = ["MlpProgram", "forget_mlp_programs", "program_of"]

logger = logging.getLogger(__name__)

_MAX_KEPT = 8


class MlpProgram:
    """The loops for a form of group and a form of data.

    Args:
        form: Of the group.
        part: Rows like those that come.
    """

    def __init__(self, form: Form, part: Part) -> None:
        import tensorflow as tf

        self._form = form
        self._divisor = part.divisor
        columns = columns_of(part)
        self._on_host = stays_on_host(part)
        columns_spec = [tf.TensorSpec((None, *column.shape[1:]), column.dtype) for column in columns]
        at, handle = specs_of(form), tf.TensorSpec((), tf.resource)
        variables = [[(handle, [handle] * n_slots(rule)) for rule in form.rules] for _ in range(2)]
        number = tf.TensorSpec((), tf.int64)
        rows, ends = (tf.TensorSpec(shape, tf.int64) for shape in ((None, None), (2,)))
        seeds = tf.TensorSpec((len(form.activations),), tf.int64)

        def compiled(loop: Any, *specs: Any, with_xla: bool = False) -> Any:
            return tf.function(loop, input_signature=specs, autograph=False, jit_compile=with_xla or None)

        specs = columns_spec, at, variables, rows, number, seeds
        self._compiles = not self._on_host and not any(form.drops)
        self._train_by = {with_xla: compiled(self._train, *specs, with_xla=with_xla) for with_xla in (False, True)}
        self.evaluate = compiled(self._evaluate, columns_spec, at, variables, ends, number)

    def train(self, *arguments: Any, with_xla: bool) -> Any:
        """Take steps.

        Args:
            *arguments: The columns, the group's tensors, the handles of its variables; numbers of rows, ``(steps,
                batch)``; steps taken before; the seed of the dropout of each layer.
            with_xla: Whether XLA compiles the program for these sizes, where it can: it draws other random numbers, so
                not where members drop units, nor once it has refused.

        Returns:
            Sums over the rows of loss and metric as they were at each step, ``(members,)`` each.
        """
        if with_xla and self._compiles:
            try:
                return self._train_by[True](*arguments)
            except self._refusals() as error:  # it has taken no step
                self._compiles = False
                reason = error.message.partition("\n")[0]
                logger.warning("XLA compiles no groups of this form, and they train without it: %s", reason)
        return self._train_by[False](*arguments)

    @staticmethod
    def _refusals() -> Any:
        """How XLA says that it has no such operation, no such device, or no compiler for it."""
        from tensorflow import errors

        return (
            *(errors.InvalidArgumentError, errors.UnimplementedError, errors.NotFoundError),
            *(errors.InternalError, errors.FailedPreconditionError),
        )

    def _train(self, columns: Any, at: Any, variables: Any, rows: Any, first_step: Any, seeds: Any) -> Any:
        import tensorflow as tf

        n_steps, n_batch = (tf.shape(rows, tf.int64)[axis] for axis in range(2))

        def body(number: Any, loss: Any, metric: Any) -> list[Any]:
            inputs, targets, weights = self._batch(columns, rows[number])
            batch_loss, batch_metric = self._step(at, variables, inputs, targets, weights, first_step + number, seeds)
            return [number + 1, loss + tf.cast(n_batch, loss.dtype) * batch_loss, metric + batch_metric]

        nothing = tf.zeros_like(at["rates"][:, 0])
        start = [tf.constant(0, tf.int64), nothing, nothing]
        return tf.while_loop(lambda number, *_: number < n_steps, body, start, parallel_iterations=1)[1:]

    def _step(
        self, at: Any, variables: Any, inputs: Any, targets: Any, weights: Any, step: Any, seeds: Any
    ) -> tuple[Any, Any]:
        import tensorflow as tf

        form = self._form
        n_batch = tf.shape(inputs)[0]
        draws = []
        if any(form.drops):
            shape = (at["width"], n_batch)
            draws = [
                tf.random.stateless_uniform(shape, tf.stack([seeds[layer], step]), dtype=form.floatx) if drops else None
                for layer, drops in enumerate(form.drops)
            ]
        first, rest = self._read(at, variables)
        before, pieces = self._first(at, first, inputs), self._pieces(at, rest)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([before, *pieces])
            outputs = forward(form, at, before, pieces, draws)
        losses, metrics, predictions = losses_and_metrics(form, outputs, targets)
        scaled = weights / tf.cast(n_batch, form.floatx)
        slope = derivative_of_loss(form, predictions, targets, scaled)
        by_before, *by_pieces = tape.gradient(outputs, [before, *pieces], output_gradients=slope)
        loss, metric = tf.reduce_sum(losses * scaled, 1), tf.reduce_sum(metrics, 1)
        if form.has_penalty:
            loss += self._penalty(at, first, rest)
        by_rest = None
        if by_pieces:
            n_members = tf.shape(at["rates"])[0]
            padded = [tf.pad(piece, [[0, n_members - tf.shape(piece)[0]], [0, 0]]) for piece in by_pieces]
            by_rest = tf.gather(tf.concat(padded, 1), at["by_storage"])
        self._update(at, variables, inputs, by_before, by_rest, tf.cast(step + 1, form.floatx))
        return loss, metric

    def _update(self, at: Any, variables: Any, inputs: Any, by_before: Any, by_rest: Any, step: Any) -> None:
        import tensorflow as tf

        form = self._form
        by_before = tf.split(by_before, at["n_rows"], num=len(form.rules))
        by_rest = [None] * len(form.rules) if by_rest is None else tf.split(by_rest, at["n_members"])
        for kind, holders in enumerate(variables):
            for index, (name, (weights, slots)) in enumerate(zip(form.rules, holders, strict=True)):
                if kind == 0:
                    gradient = tf.matmul(by_before[index], inputs)
                elif by_rest[index] is None:
                    continue
                else:
                    gradient = by_rest[index]
                if form.has_penalty:
                    gradient += self._read_one(weights) * at[f"penalties_{kind}_{index}"] * at[f"is_kernel_{kind}"]
                momentum = at["momenta"][index]
                if name == "momenta":
                    momentum = tf.unstack(at[f"momenta_{kind}"][..., None], num=2)
                apply_rule(name, weights, slots, gradient, step, momentum)

    def _penalty(self, at: Any, first: Sequence[Any], rest: Any) -> Any:
        """The squared weights of each member, times its weight of them, in the network's order."""
        import tensorflow as tf

        kernels = tf.concat(first, 0)[:, :-1] * at["row_rates"]
        of_rows = tf.reduce_sum(kernels * kernels, 1)
        n_members = tf.shape(at["rates"])[0]
        of_members = tf.math.unsorted_segment_sum(of_rows, at["member_of_row"], n_members)
        if self._form.n_layers:
            own = tf.concat(rest, 0) * at["rates"] * at["is_kernel_1"]
            of_members += tf.reduce_sum(own * own, 1)
        return tf.gather(of_members * at["penalties"], at["by_depth"])

    def _evaluate(self, columns: Any, at: Any, variables: Any, ends: Any, batch_size: Any) -> Any:
        """Means of loss and metric over the rows from one number to another."""
        import tensorflow as tf

        form, dtype = self._form, self._form.floatx
        first, rest = self._read(at, variables)
        pieces = self._pieces(at, rest)

        def body(start: Any, loss: Any, metric: Any) -> list[Any]:
            taken = tf.range(start, tf.minimum(start + batch_size, ends[1]))
            inputs, targets, weights = self._batch(columns, taken)
            outputs = forward(form, at, self._first(at, first, inputs), pieces, [])
            losses, metrics, _ = losses_and_metrics(form, outputs, targets)
            return [start + batch_size, loss + tf.reduce_sum(losses * weights, 1), metric + tf.reduce_sum(metrics, 1)]

        nothing = tf.zeros_like(at["rates"][:, 0])
        start = [ends[0], nothing, nothing]
        *_, loss, metric = tf.while_loop(lambda start, *_: start < ends[1], body, start, parallel_iterations=1)
        n_rows = tf.cast(ends[1] - ends[0], dtype)
        loss = loss / n_rows
        if form.has_penalty:
            loss += self._penalty(at, first, rest)
        return loss, metric / n_rows

    def _batch(self, columns: Sequence[Any], rows: Any) -> tuple[Any, Any, Any]:
        """Inputs with a 1 after each row, targets as ``(outputs, batch)``, weights of the rows."""
        import tensorflow as tf

        form, dtype = self._form, self._form.floatx
        with tf.device("/CPU:0") if self._on_host else tf.name_scope("batch"):
            x, y, *weights = (tf.gather(column, rows) for column in columns)
        n_batch = tf.shape(x)[0]
        x = tf.cast(tf.reshape(x, (n_batch, -1)), dtype)
        if self._divisor is not None:
            x /= self._divisor
        inputs = tf.concat([x, tf.ones((n_batch, 1), dtype)], 1)
        if form.loss == "sparse_categorical_crossentropy":
            targets = tf.one_hot(tf.cast(y, tf.int32), form.n_outputs, axis=0, dtype=dtype)
        else:
            targets = tf.transpose(tf.reshape(tf.cast(y, dtype), (n_batch, form.n_outputs)))
        return inputs, targets, tf.cast(weights[0], dtype) if weights else tf.ones((n_batch,), dtype)

    def _read(self, at: Any, variables: Any) -> tuple[list[Any], list[Any]]:
        first, rest = ([self._read_one(weights) for weights, _ in holders] for holders in variables)
        return first, rest

    def _read_one(self, handle: Any) -> Any:
        import tensorflow as tf

        return tf.ensure_shape(tf.raw_ops.ReadVariableOp(resource=handle, dtype=self._form.floatx), (None, None))

    def _first(self, at: Any, first: Sequence[Any], inputs: Any) -> Any:
        """Output of the first layers before the activation."""
        import tensorflow as tf

        products = [tf.matmul(weights, inputs, transpose_b=True) for weights in first]
        return tf.concat(products, 0) * at["row_rates"]

    def _pieces(self, at: Any, rest: Sequence[Any]) -> list[Any]:
        """The pieces of ``rest``, of the members that have them, in the network's order."""
        import tensorflow as tf

        if not self._form.n_layers:
            return []
        whole = tf.gather(tf.concat(rest, 0) * at["rates"], at["by_depth"])
        n_layers = self._form.n_layers
        pieces = tf.split(whole, at["rest_sizes"], axis=1, num=2 * n_layers)
        counts = at["n_of_depth"]
        depths = [*range(1, n_layers), 0]  # the output's piece is all members' that have hidden layers
        return [piece[: counts[depths[index // 2]]] for index, piece in enumerate(pieces)]


_kept: OrderedDict[Any, MlpProgram] = OrderedDict()
_lock = threading.Lock()


def program_of(form: Form, part: Part) -> MlpProgram:
    """The program for a form of group and of data: a kept one, or a new one."""
    columns = tuple((column.shape[1:], column.dtype.str) for column in columns_of(part))
    key = form, columns, part.divisor, part.sample_weight is not None, stays_on_host(part)
    with _lock:
        program = _kept.pop(key, None) or MlpProgram(form, part)
        _kept[key] = program
        while len(_kept) > _MAX_KEPT:
            _kept.popitem(last=False)
    return program


def forget_mlp_programs() -> None:
    """Let go of all that is kept."""
    with _lock:
        _kept.clear()
