"""The compiled loops over the batches of many perceptrons.

A program depends on the form of a group, not on how many members it has nor on how wide they are: all sizes are the
tensors', so that a search traces a few programs and every later group finds one. The variables are the group's, and
come as handles. XLA makes faster code of the same program, but for one set of sizes, and takes one or two seconds for
that. So a group moves into tensors that were compiled for, if they are not much too large for it, until such groups
have lost as much time there; otherwise a program is compiled, with some room to spare and for the forms that came
before. XLA never lets go of what it has compiled, some 4 MB each, until the process has grown so that another takes its
place.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from hpo_spark.data import Part
from hpo_spark.fused.layout import Room
from hpo_spark.fused.network import Form, derivative_of_loss, forward, losses_and_metrics
from hpo_spark.fused.rules import NUMBERS, apply_rule, n_slots
from hpo_spark.fused.tensors import specs_of
from hpo_spark.objectives.program import columns_of, stays_on_host

__all__ = ["MlpProgram", "XlaRefused", "can_compile", "compiled_room", "forget_mlp_programs", "program_of"]

_MAX_KEPT = 8
# Bytes to a word: rows of bytes are gathered faster as rows of words.
_WORD = 4
# Seconds that a step takes for each weight, also for those that tensors are too large by, and XLA to compile a program.
_WEIGHT_S, _COMPILE_S = 2.5e-9, 1.5
# However few the steps are, tensors are not too large by more weights than this.
_VAIN_WEIGHTS = 25_000
# Activations that may be computed for members that have others.
_VAIN_ACTIVATIONS = 6


class XlaRefused(Exception):
    """XLA does not compile a program; no step was taken."""


class MlpProgram:
    """The loops for a form of group and a form of data.

    Args:
        form: Of the group.
        part: Rows like those that come.

    Attributes:
        form: Of the group.
        rooms: For each number of rows and shape of batches the sizes of tensors that XLA has compiled it for.
        is_refused: Whether XLA does not compile it.
    """

    def __init__(self, form: Form, part: Part) -> None:
        import tensorflow as tf

        self.form = form
        self.rooms: defaultdict[tuple[int, ...], set[Room]] = defaultdict(set)
        self.is_refused = False
        self._divisor = part.divisor
        columns = columns_of(part)
        self._on_host = stays_on_host(part)
        columns_spec = [tf.TensorSpec((None, *column.shape[1:]), column.dtype) for column in columns]
        at, handle = specs_of(form), tf.TensorSpec((), tf.resource)
        variables = [[(handle, [handle] * n_slots(rule)) for rule in form.rules] for _ in range(2)]
        number = tf.TensorSpec((), tf.int64)
        rows, sizes, ends = (tf.TensorSpec(shape, tf.int64) for shape in ((None, None), (None,), (2,)))
        seeds = tf.TensorSpec((len(form.activations),), tf.int64)

        def compiled(loop: Any, *specs: Any, with_xla: bool = False) -> Any:
            return tf.function(loop, input_signature=specs, autograph=False, jit_compile=with_xla or None)

        size = int(np.prod(columns[0].shape[1:]))
        self._has_words = form.for_xla and columns[0].dtype == np.uint8 and size % _WORD == 0
        own_spec = [tf.TensorSpec((None, size // _WORD), tf.uint32)] if self._has_words else columns_spec[:1]
        specs = [*own_spec, *columns_spec[1:]], at, variables, rows, sizes, number, seeds
        self._steps = compiled(self._train, *specs, with_xla=form.for_xla)
        unread = [tf.TensorSpec((None, None), form.floatx), tf.TensorSpec((None,), tf.int32)] if form.is_trimmed else []
        self.evaluate = compiled(self._evaluate, columns_spec, at, variables, unread, ends, number)

    def train(self, columns: Sequence[Any], *arguments: Any) -> Any:
        """Take steps.

        Args:
            columns: Of the data, as tensors.
            *arguments: The group's tensors, the handles of its variables; numbers of rows, ``(steps,
                batch)``; how many of each batch count, ``(steps,)``; steps taken before; the seed of the dropout of
                each layer.

        Returns:
            Sums over the rows of loss and metric as they were at each step, ``(members,)`` each.

        Raises:
            XlaRefused: If XLA is to compile it and does not.
        """
        import tensorflow as tf

        x, *others = columns
        if self._has_words:
            x = tf.bitcast(tf.reshape(x, (len(x), -1, _WORD)), tf.uint32)
        try:
            return self._steps([x, *others], *arguments)
        except self._refusals() as error:
            if not self.form.for_xla:
                raise
            self.is_refused = True
            self.rooms.clear()
            raise XlaRefused(error.message.partition("\n")[0]) from error

    @staticmethod
    def _refusals() -> Any:
        """How XLA says that it has no such operation, no such device, or no compiler for it."""
        from tensorflow import errors

        return (
            *(errors.InvalidArgumentError, errors.UnimplementedError, errors.NotFoundError),
            *(errors.InternalError, errors.FailedPreconditionError),
        )

    def _train(self, columns: Any, at: Any, variables: Any, rows: Any, sizes: Any, first_step: Any, seeds: Any) -> Any:
        import tensorflow as tf

        n_steps = tf.shape(rows, tf.int64)[0]

        def body(number: Any, *sums: Any) -> list[Any]:
            # XLA wants batches of one size: the last is filled up, and what fills it counts for nothing.
            taken = rows[number] if self.form.for_xla else rows[number, : sizes[number]]
            batch = self._batch(columns, lambda column: tf.gather(column, taken))
            found = self._step(at, variables, batch, sizes[number], first_step + number, seeds)
            return [number + 1, *(total + one for total, one in zip(sums, found, strict=True))]

        nothing = tf.zeros_like(at["rates"][:, 0])
        start = [tf.constant(0, tf.int64), nothing, nothing]
        return tf.while_loop(lambda number, *_: number < n_steps, body, start, parallel_iterations=1)[1:]

    def _step(self, at: Any, variables: Any, batch: Any, n_rows: Any, step: Any, seeds: Any) -> tuple[Any, Any]:
        """Take a step on the first rows of a batch; sums of loss and metric over them."""
        import tensorflow as tf

        form, dtype = self.form, self.form.floatx
        x, targets, weights = batch
        n_batch, n_counted = tf.shape(x)[0], tf.cast(n_rows, dtype)
        inputs = x if self._divisor is None else x / self._divisor
        if not form.is_trimmed:
            inputs = tf.concat([inputs, tf.ones((n_batch, 1), dtype)], 1)
        counts = tf.cast(tf.range(tf.cast(n_batch, tf.int64)) < n_rows, dtype)
        draws = [
            tf.random.stateless_uniform((at["width"], n_batch), tf.stack([seeds[layer], step]), dtype=dtype)
            if drops
            else None
            for layer, drops in enumerate(form.drops)
        ]
        first, rest = self._read(at, variables)
        products = [tf.matmul(kernels, inputs, transpose_b=True) for kernels in first]
        before, pieces = tf.concat(products, 0) * at["row_rates"], self._pieces(at, rest)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([before, *pieces])
            outputs = forward(form, at, before, pieces, draws)
        weights *= counts
        losses, metrics, parts = losses_and_metrics(form, outputs, targets)
        slope = derivative_of_loss(form, parts, targets, weights / n_counted)
        by_before, *by_pieces = tape.gradient(outputs, [before, *pieces], output_gradients=slope)
        by_rest = tf.concat(by_pieces, 1) if by_pieces else None
        self._update(at, variables, inputs, by_before, by_rest, tf.cast(step + 1, dtype))
        loss, metric = tf.reduce_sum(losses * weights, 1), tf.reduce_sum(metrics * counts, 1)
        if form.has_penalty:
            loss += self._penalty(at, first, rest) * n_counted
        return loss, metric

    def _update(self, at: Any, variables: Any, inputs: Any, by_before: Any, by_rest: Any, step: Any) -> None:
        import tensorflow as tf

        form = self.form
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
                own = at["momenta"][index]
                if name in NUMBERS:
                    own = tf.unstack(at[f"numbers_{kind}_{index}"], num=NUMBERS[name])
                apply_rule(name, weights, slots, gradient, step, own)

    def _penalty(self, at: Any, first: Sequence[Any], rest: Any) -> Any:
        """The squared weights of each member, times its weight of them."""
        import tensorflow as tf

        kernels = tf.concat(first, 0)[:, :-1] * at["row_rates"]
        of_rows = tf.reduce_sum(kernels * kernels, 1)
        n_members = tf.shape(at["rates"])[0]
        of_members = tf.math.unsorted_segment_sum(of_rows, at["member_of_row"], n_members)
        if self.form.n_layers:
            own = tf.concat(rest, 0) * at["rates"] * at["is_kernel_1"]
            of_members += tf.reduce_sum(own * own, 1)
        return of_members * at["penalties"]

    def _evaluate(self, columns: Any, at: Any, variables: Any, unread: Any, ends: Any, batch_size: Any) -> Any:
        """Means of loss and metric over the rows from one number to another."""
        import tensorflow as tf

        form, dtype = self.form, self.form.floatx
        first, rest = self._read(at, variables)
        pieces = self._pieces(at, rest)
        weights_of_first = tf.concat(first, 0)
        if form.is_trimmed:  # what training may leave out need not be zero in other rows
            others, columns_of_all = unread
            weights_of_first = tf.gather(tf.concat([weights_of_first, others], 1), columns_of_all, axis=1)
        weights_of_first *= at["row_rates"]
        # There are fewer weights than inputs to divide.
        kernels, biases = weights_of_first[:, :-1] / (self._divisor or 1.0), weights_of_first[:, -1:]

        def body(start: Any, loss: Any, metric: Any) -> list[Any]:
            stop = tf.minimum(start + batch_size, ends[1])
            x, targets, weights = self._batch(columns, lambda column: column[start:stop])
            outputs = forward(form, at, tf.matmul(kernels, x, transpose_b=True) + biases, pieces, [])
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

    def _batch(self, columns: Sequence[Any], take: Callable[[Any], Any]) -> tuple[Any, Any, Any]:
        """Inputs as they are kept, targets as ``(outputs, batch)``, weights of the rows."""
        import tensorflow as tf

        form, dtype = self.form, self.form.floatx
        with tf.device("/CPU:0") if self._on_host else tf.name_scope("batch"):
            x, y, *weights = (take(column) for column in columns)
        if self._has_words and x.dtype == tf.uint32:
            x = tf.bitcast(x, tf.uint8)
        n_batch = tf.shape(x)[0]
        x = tf.cast(tf.reshape(x, (n_batch, -1)), dtype)
        if form.loss == "sparse_categorical_crossentropy":
            targets = tf.one_hot(tf.cast(y, tf.int32), form.n_outputs, axis=0, dtype=dtype)
        else:
            targets = tf.transpose(tf.reshape(tf.cast(y, dtype), (n_batch, form.n_outputs)))
        return x, targets, tf.cast(weights[0], dtype) if weights else tf.ones((n_batch,), dtype)

    def _read(self, at: Any, variables: Any) -> tuple[list[Any], list[Any]]:
        first, rest = ([self._read_one(weights) for weights, _ in holders] for holders in variables)
        return first, rest

    def _read_one(self, handle: Any) -> Any:
        import tensorflow as tf

        return tf.ensure_shape(tf.raw_ops.ReadVariableOp(resource=handle, dtype=self.form.floatx), (None, None))

    def _pieces(self, at: Any, rest: Sequence[Any]) -> list[Any]:
        """The pieces of ``rest``."""
        import tensorflow as tf

        if not self.form.n_layers:
            return []
        return list(tf.split(tf.concat(rest, 0) * at["rates"], at["rest_sizes"], axis=1, num=2 * self.form.n_layers))


_kept: OrderedDict[Any, MlpProgram] = OrderedDict()
# Of tensors that XLA has compiled for: seconds that groups have lost since these were too large for them, after the
# last such group that was given its own.
_lost_s: defaultdict[Any, float] = defaultdict(float)
_lock = threading.Lock()


def can_compile(form: Form, part: Part) -> bool:
    """Whether XLA can make the same of a program: it draws other random numbers, and wants all data on its device."""
    return not any(form.drops) and not stays_on_host(part)


def program_of(form: Form, part: Part) -> MlpProgram:
    """The program for a form of group and of data: a kept one, or a new one."""
    with _lock:
        return _program(form, part)


def _program(form: Form, part: Part) -> MlpProgram:
    key = form, _key_of(part)
    program = _kept.pop(key, None) or MlpProgram(form, part)
    like = [one for one in _kept if one[0].for_xla == form.for_xla]
    # Those for TensorFlow's kernels evaluate what the others train.
    while len(like) >= (_MAX_KEPT if form.for_xla else 2 * _MAX_KEPT):
        del _kept[like.pop(0)]
    _kept[key] = program
    return program


def compiled_room(
    form: Form, room: Room, part: Part, batches: tuple[int, ...], n_steps: int, n_columns: int, deterministic: bool
) -> tuple[Form, Room] | None:
    """The form and the sizes of the tensors that a group had best move into, for XLA; None where it refuses.

    Args:
        form: Its own.
        room: What it needs.
        part: What it trains on.
        batches: Shape of the numbers of rows of an epoch.
        n_steps: Steps that it will take.
        n_columns: Weights of a unit of the first layers.
        deterministic: Whether the choice must not depend on what was compiled before.
    """
    data, shape = _key_of(part), (len(part), *batches)

    def size(room: Room) -> int:
        return room.n_numbers(n_columns, form.n_outputs)

    def vain_s(one: Room) -> float:
        return (size(one) - size(room)) * n_steps * _WEIGHT_S

    def is_large(one: Room) -> bool:
        return size(one) - size(room) > _VAIN_WEIGHTS or vain_s(one) > _COMPILE_S

    own = room if is_large(room.rounded()) else room.rounded()
    with _lock:
        others = [
            program
            for (_, its), program in _kept.items()
            if its == data and program.rooms and not deterministic and form.is_like(program.form)
        ]
        joined = form
        for other in others:
            wider = joined.joined(other.form)
            n_in_vain = wider.n_activations - form.n_activations
            if not is_large(own.with_layers(wider.n_layers)) and n_in_vain <= _VAIN_ACTIVATIONS:
                joined = wider
        fitting = [
            (other.form, one)
            for other in others
            if other.form.covers(form)
            for one in other.rooms.get(shape, ())
            if one.holds(room) and not is_large(one)
        ]
        best = min(fitting, key=lambda found: (size(found[1]), found[0].n_activations), default=None)
        own_form = next((one for one in dict.fromkeys((joined, form)) if not _is_refused(one, data)), None)
        if own_form is None:
            return best
        needed = own.with_layers(own_form.n_layers)
        if best is not None:
            shared = data, shape, *best
            # As if all steps to come were taken.
            lost_s = _lost_s[shared] + max(0.0, vain_s(best[1]) - vain_s(needed))
            _lost_s[shared] = lost_s if lost_s <= _COMPILE_S else 0.0
            if lost_s <= _COMPILE_S:
                return best
        _program(own_form, part).rooms[shape].add(needed)
        return own_form, needed


def _is_refused(form: Form, data: Hashable) -> bool:
    program = _kept.get((form, data))
    return program is not None and program.is_refused


def _key_of(part: Part) -> Hashable:
    columns = tuple((column.shape[1:], column.dtype.str) for column in columns_of(part))
    return columns, part.divisor, part.sample_weight is not None, stays_on_host(part)


def forget_mlp_programs() -> None:
    """Let go of all that is kept."""
    with _lock:
        _kept.clear()
        _lost_s.clear()
