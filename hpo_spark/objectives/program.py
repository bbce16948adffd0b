"""The loops of training and of evaluation, compiled for one Keras model.

`Model.fit` comes back to Python after every step, which takes nine tenths of a small model's time. Here a call runs as
many steps as there are rows for: it takes each batch from tensors that hold the whole part, by the numbers of its rows,
and gives it to the model's own ``train_step``.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from hpo_spark.data import Part

__all__ = ["Program", "aligned", "columns_of", "ready", "stays_on_host", "tensor_of", "types_of"]

# Larger parts stay in the host's memory and send their batches to the device; smaller ones may lie there as a whole.
_MAX_ON_DEVICE = 1 << 30
# TensorFlow aborts the process where a tensor of these does not begin at a multiple of so many bytes.
_ALIGNMENT = 64
_SHARED_TYPES = ("float32", "float64", "uint8", "int32", "int64")


class Program:
    """A model with its compiled loops.

    Args:
        model: A compiled Keras model whose ``train_step`` and ``test_step`` return nothing but its metrics.
        compiling: Wraps every compilation.

    Attributes:
        model: The model.
    """

    def __init__(
        self, model: Any, compiling: Callable[[], AbstractContextManager[object]] = lambda: nullcontext()
    ) -> None:
        self.model = model
        self._compiling = compiling
        self._compiled: dict[tuple[Any, ...], Any] = {}

    def build(self, part: Part) -> None:
        """Make all variables of model, optimizer, loss and metrics, as ``fit`` does before its first step."""
        import keras

        columns = columns_of(part)
        types = _types(columns, part.divisor)
        batch = [keras.KerasTensor((None, *c.shape[1:]), dtype) for c, dtype in zip(columns, types, strict=True)]
        self.model._symbolic_build(data_batch=tuple(batch))

    def train(self, part: Part, rows: Any, batch_size: int) -> None:
        """Take a step for each batch.

        Args:
            part: What to train on.
            rows: Numbers of its rows in their order, the batches one after the other; the last may be smaller.
            batch_size: Rows to a step.
        """
        import tensorflow as tf

        run = self._loop("train", part, self._steps_of_training)
        run(*map(tensor_of, columns_of(part)), tf.constant(rows, tf.int64), tf.constant(batch_size, tf.int64))

    def evaluate(self, part: Part, start: int, stop: int, batch_size: int) -> None:
        """Bring the metrics up to date with some rows, in batches.

        Args:
            part: What to evaluate on.
            start: Its first row.
            stop: The row after the last.
            batch_size: Rows to a batch.
        """
        import tensorflow as tf

        run = self._loop("evaluate", part, self._steps_of_evaluation)
        run(*map(tensor_of, columns_of(part)), tf.constant([start, stop], tf.int64), tf.constant(batch_size, tf.int64))

    def _loop(self, kind: str, part: Part, body: Callable[..., None]) -> Any:
        """The compiled loop for a part of this form."""
        import tensorflow as tf

        columns, divisor = columns_of(part), part.divisor
        on_host = stays_on_host(part)
        form = tuple((column.shape[1:], column.dtype.str) for column in columns)
        key = kind, form, divisor, on_host
        if key not in self._compiled:
            specs = [tf.TensorSpec((None, *column.shape[1:]), column.dtype) for column in columns]

            def loop(*arguments: Any) -> None:  # it outlives the part, and must not hold it
                body(list(arguments[:-2]), *arguments[-2:], divisor, on_host)

            numbers = [tf.TensorSpec((None,), tf.int64), tf.TensorSpec((), tf.int64)]
            with self._compiling():
                self._compiled[key] = tf.function(loop, autograph=False).get_concrete_function(*specs, *numbers)
        return self._compiled[key]

    def _steps_of_training(
        self, columns: list[Any], rows: Any, batch_size: Any, divisor: float | None, on_host: bool
    ) -> None:
        import tensorflow as tf

        step, types = self._step(self.model.train_step), _types(columns, divisor)

        def body(start: Any) -> list[Any]:
            with _place(on_host):
                taken = rows[start : start + batch_size]
                batch = [tf.gather(column, taken) for column in columns]
            step(ready(batch, types, divisor))
            return [start + batch_size]

        n_rows = tf.shape(rows, tf.int64)[0]
        tf.while_loop(lambda start: start < n_rows, body, [tf.constant(0, tf.int64)], parallel_iterations=1)

    def _steps_of_evaluation(
        self, columns: list[Any], ends: Any, batch_size: Any, divisor: float | None, on_host: bool
    ) -> None:
        import tensorflow as tf

        step, types = self._step(self.model.test_step), _types(columns, divisor)

        def body(start: Any) -> list[Any]:
            with _place(on_host):
                batch = [column[start : tf.minimum(start + batch_size, ends[1])] for column in columns]
            step(ready(batch, types, divisor))
            return [start + batch_size]

        tf.while_loop(lambda start: start < ends[1], body, [ends[0]], parallel_iterations=1)

    def _step(self, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        import tensorflow as tf

        if not self.model.jit_compile:
            return step
        compiled: Callable[[Any], Any] = tf.function(step, jit_compile=True, reduce_retracing=True, autograph=False)
        return compiled


def columns_of(part: Part) -> list[Any]:
    """Inputs, targets and weights as they are kept."""
    return [column for column in (part.x, part.y, part.sample_weight) if column is not None]


def stays_on_host(part: Part) -> bool:
    """Whether a part is too large to lie on a device as a whole."""
    return bool(sum(column.nbytes for column in columns_of(part)) > _MAX_ON_DEVICE)


def _types(columns: Sequence[Any], divisor: float | None) -> list[str]:
    """What ``fit`` would give a batch as: floating numbers in Keras' own precision, whole ones as they are."""
    import keras

    floatx = str(keras.config.floatx())
    types = [_numpy_type(column.dtype) for column in columns]
    named = [floatx if dtype.kind == "f" else dtype.name for dtype in types]
    return named if divisor is None else [floatx, *named[1:]]


def _numpy_type(dtype: Any) -> Any:
    return np.dtype(getattr(dtype, "as_numpy_dtype", dtype))


def types_of(part: Part) -> list[str]:
    """The types of a batch as a model gets it."""
    return _types(columns_of(part), part.divisor)


def ready(batch: Sequence[Any], types: Sequence[str], divisor: float | None) -> tuple[Any, ...]:
    """A batch as a model gets it, from what is kept."""
    import tensorflow as tf

    cast = [tf.cast(column, dtype) for column, dtype in zip(batch, types, strict=True)]
    return tuple(cast) if divisor is None else (cast[0] / divisor, *cast[1:])


def _place(on_host: bool) -> AbstractContextManager[object]:
    import tensorflow as tf

    place: AbstractContextManager[object] = tf.device("/CPU:0") if on_host else nullcontext()
    return place


# Tensors by the identity of the arrays that they show, as long as these live: a second trial copies nothing.
_tensors: dict[int, tuple[weakref.ref[Any], Any]] = {}


def tensor_of(array: Any) -> Any:
    """The array as a tensor, in the same memory where TensorFlow can use that."""
    import tensorflow as tf

    key = id(array)
    known = _tensors.get(key)
    if known is not None and known[0]() is array:
        return known[1]
    with tf.device("/CPU:0"):
        if array.dtype in _SHARED_TYPES and array.flags.c_contiguous and array.ctypes.data % _ALIGNMENT == 0:
            tensor = tf.experimental.dlpack.from_dlpack(_as_writable(array).__dlpack__())
        else:
            tensor = tf.constant(array)
    _tensors[key] = weakref.ref(array, lambda _: _tensors.pop(key, None)), tensor
    return tensor


def aligned(shape: tuple[int, ...], dtype: Any) -> Any:
    """A new array of any numbers that `tensor_of` need not copy."""
    dtype = np.dtype(dtype)
    memory = np.empty(math.prod(shape) * dtype.itemsize + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + len(memory) - _ALIGNMENT].view(dtype).reshape(shape)


def _as_writable(array: Any) -> Any:
    """The same memory without the mark that it is only to be read, which DLPack cannot carry; nobody writes to it."""
    if array.flags.writeable:
        return array
    memory = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)
    return np.frombuffer(memory, array.dtype).reshape(array.shape)
