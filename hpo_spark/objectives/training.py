"""Training a Keras model epoch after epoch, as `Model.fit` does and with its callbacks, but without Python in the loop.

The seam for whatever follows a training is Keras' own: a callback sees every epoch with its logs, and ends the training
by ``model.stop_training = True``. A training that goes on sets the model's state (`Trainer.load_state`) and begins at a
later epoch; since the order of an epoch's batches derives from its number, stopping and going on equals one run.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hpo_spark.data import Dataset, Part
from hpo_spark.objectives.program import Program
from hpo_spark.objectives.reuse import borrow, give_back, state_variables

__all__ = [
    "EVALUATION_BATCH",
    "Plan",
    "Trainer",
    "batch_order",
    "dump_state",
    "read_state",
    "row_weights",
    "state_of",
]

# Tells the generator of the batch order from others that are seeded with the study's seed.
_ORDER_STREAM = 0x0BDE
# Rows to a batch of an evaluation.
EVALUATION_BATCH = 1024

# A model that brings one of these of its own trains through Keras' own loop.
_KERAS_OWN = (
    *("fit", "evaluate", "train_step", "test_step", "make_train_function", "make_test_function"),
    *("compute_metrics", "get_metrics_result", "reset_metrics"),
)
_TRAIN_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
_TEST_HOOKS = ("on_test_batch_begin", "on_test_batch_end")


def batch_order(n_rows: int, shuffle_seed: int, epoch: int) -> Any:
    """The order in which the rows of an epoch come: alike for all trials of a study.

    Args:
        n_rows: How many there are.
        shuffle_seed: Seed of the order: the study's, and another for each repeat of a configuration.
        epoch: Counts from 0.

    Returns:
        A permutation of the numbers of the rows, int64, shape ``(n_rows,)``.
    """
    return np.random.default_rng([shuffle_seed, _ORDER_STREAM, epoch]).permutation(n_rows)


def state_of(model: Any) -> list[Any]:
    """All that training changes in a model: weights, states of random generators, the optimizer's variables.

    Returns:
        Arrays, in an order that equal models share. Metrics are not among them: each epoch begins them anew.
    """
    import keras

    return [keras.ops.convert_to_numpy(variable) for variable in state_variables(model)]


def dump_state(state: Sequence[Any]) -> bytes:
    """A model's state as a file's content."""
    file = io.BytesIO()
    np.savez(file, *state)
    return file.getvalue()


def read_state(content: bytes) -> list[Any]:
    """The state that `dump_state` wrote."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return [arrays[f"arr_{index}"] for index in range(len(arrays.files))]


@dataclass(frozen=True)
class Plan:
    """How long and in which order to train.

    Attributes:
        epochs: Number of the epoch after the last: the total, of which those before ``first_epoch`` are done.
        batch_size: Rows to a step; a ``tf.data.Dataset`` has its own.
        shuffle_seed: Seed of the order of batches: the study's, and another for each repeat of a configuration.
        first_epoch: Number of the first epoch to train, from 0.
        class_weight: Weight of each class number in the loss; 1 for classes that it leaves out.
    """

    epochs: int
    batch_size: int
    shuffle_seed: int
    first_epoch: int = 0
    class_weight: Mapping[int, float] | None = None


class Trainer:
    """Trains and evaluates one model.

    Models with a training step of their own, models that run eagerly or distributed, and each ``tf.data.Dataset`` go
    through ``Model.fit``; all others through a `Program`.

    Args:
        model: A compiled Keras model.
        part: Rows like those that it will be trained on, which tell the shapes of its variables.

    Attributes:
        model: The model that is trained, and that callbacks see: the one given, or an equal one whose loops an earlier
            trial has compiled, with the same weights and the same state of the optimizer.
    """

    def __init__(self, model: Any, part: Part) -> None:
        self.model = model
        self._part = part
        self._loan = None
        if not part.is_stream and _is_plain(model):
            self._loan = borrow(model, part)
            self.model = self._loan.program.model

    def load_state(self, state: Sequence[Any]) -> None:
        """Have the training go on from a state that `state_of` took from a model like this one.

        Raises:
            ValueError: If it is the state of another model; nothing is changed then.
        """
        model = self.model
        if self._loan is None:  # Keras' own loop makes what is missing when it begins
            if not all(layer.built for layer in model._flatten_layers(include_self=False)):
                model(self._part.inputs(slice(1)))
            if model.optimizer is not None and not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
        variables = state_variables(model)
        own, given = ([tuple(each.shape) for each in values] for values in (variables, state))
        if own != given:
            raise ValueError(f"The state has arrays of shapes {given}, and the model variables of {own}.")
        for variable, value in zip(variables, state, strict=True):
            variable.assign(value)

    def release(self) -> None:
        """Leave the compiled loops to a later trial; the model is not to be used from here on."""
        if self._loan is not None:
            give_back(self._loan, self._part)
            self._loan = None

    def fit(self, dataset: Dataset, plan: Plan, callbacks: Sequence[Any] = ()) -> None:
        """Train; ``model.history`` then holds the logs of the epochs.

        Args:
            dataset: Train part, and a validation part unless it is among the rows to fit.
            plan: How long, and in which order.
            callbacks: Keras' callbacks.
        """
        if not dataset.train.is_stream:
            weight = row_weights(dataset.train, plan.class_weight)
            dataset = replace(dataset, train=replace(dataset.train, sample_weight=weight))
        if self._loan is None or (dataset.validation is not None and dataset.validation.is_stream):
            _fit_by_keras(self.model, dataset, plan, callbacks)
        else:
            self._fit(self._loan.program, dataset, plan, callbacks)

    def evaluate(self, part: Part) -> dict[str, float]:
        """Loss and metrics of the model on a part of the data."""
        if self._loan is None or part.is_stream:
            return _scores_by_keras(self.model, part)
        return _numbers(self._evaluate(self._loan.program, part, None))

    def _fit(self, program: Program, dataset: Dataset, plan: Plan, callbacks: Sequence[Any]) -> None:
        import keras

        model, train = self.model, dataset.train
        n_steps = math.ceil(len(train) / plan.batch_size)
        steps_at_once = _steps_at_once(model, callbacks, _TRAIN_HOOKS, n_steps)
        told = keras.callbacks.CallbackList(
            list(callbacks), add_history=True, model=model, verbose=0, epochs=plan.epochs, steps=n_steps
        )
        logs: dict[str, Any] = {}
        model.stop_training = False
        told.on_train_begin()
        for epoch in range(plan.first_epoch, plan.epochs):
            order = batch_order(len(train), plan.shuffle_seed, epoch)
            model.reset_metrics()
            told.on_epoch_begin(epoch)
            for step in range(0, n_steps, steps_at_once):
                after = min(step + steps_at_once, n_steps)
                told.on_train_batch_begin(step)
                program.train(train, order[step * plan.batch_size : after * plan.batch_size], plan.batch_size)
                told.on_train_batch_end(after - 1, model.get_metrics_result())
                if model.stop_training:
                    break
            logs = dict(model.get_metrics_result())
            if dataset.validation is not None:
                scores = self._evaluate(program, dataset.validation, told)
                logs |= {f"val_{name}": value for name, value in scores.items()}
            told.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        model.optimizer.finalize_variable_values(model.trainable_weights)
        told.on_train_end(logs)

    def _evaluate(self, program: Program, part: Part, told: Any) -> dict[str, Any]:
        """Logs of an evaluation, of which callbacks are told if there are any."""
        import keras

        model = self.model
        told = keras.callbacks.CallbackList(model=model) if told is None else told
        n_steps = math.ceil(len(part) / EVALUATION_BATCH)
        steps_at_once = _steps_at_once(model, told.callbacks, _TEST_HOOKS, n_steps)
        told.on_test_begin()
        model.reset_metrics()
        for step in range(0, n_steps, steps_at_once):
            after = min(step + steps_at_once, n_steps)
            told.on_test_batch_begin(step)
            rows = step * EVALUATION_BATCH, min(after * EVALUATION_BATCH, len(part))
            program.evaluate(part, *rows, EVALUATION_BATCH)
            told.on_test_batch_end(after - 1, model.get_metrics_result())
        logs = dict(model.get_metrics_result())
        told.on_test_end(logs)
        return logs


def _is_plain(model: Any) -> bool:
    """Whether a model trains by Keras' own steps, one after the other in graphs."""
    import keras

    own = all(getattr(type(model), name) is getattr(keras.Model, name) for name in _KERAS_OWN)
    changed = any(name in vars(model) for name in _KERAS_OWN)
    distributed = getattr(model, "_distribute_strategy", None) is not None
    on_tensorflow = keras.backend.backend() == "tensorflow"
    plain = own and not changed and not distributed and not model.run_eagerly
    return plain and on_tensorflow and model.optimizer is not None


def _steps_at_once(model: Any, callbacks: Sequence[Any], hooks: Sequence[str], n_steps: int) -> int:
    """How many steps to run before Python is told: those that the model asks for, else all unless somebody listens."""
    if model.steps_per_execution > 1:
        return int(min(model.steps_per_execution, n_steps))
    return 1 if any(_listens(callback, hooks) for callback in callbacks) else n_steps


def _listens(callback: Any, hooks: Sequence[str]) -> bool:
    """Whether a callback does something at each batch, as Keras' own do only with certain options."""
    import keras

    known = keras.callbacks
    if type(callback) in (known.TensorBoard, known.ModelCheckpoint, known.BackupAndRestore):
        every = getattr(callback, "update_freq", getattr(callback, "save_freq", "epoch"))
        return every != "epoch" or bool(getattr(callback, "_should_trace", False))
    if type(callback) is known.TerminateOnNaN:  # the mean over an epoch tells it as well
        return False
    return any(
        hook in vars(callback) or getattr(type(callback), hook) is not getattr(known.Callback, hook) for hook in hooks
    )


def _fit_by_keras(model: Any, dataset: Dataset, plan: Plan, callbacks: Sequence[Any]) -> None:
    train, validation = dataset.train, dataset.validation
    common: dict[str, Any] = {
        "epochs": plan.epochs,
        "initial_epoch": plan.first_epoch,
        "callbacks": list(callbacks),
        "verbose": 0,
    }
    if validation is None:
        pass  # it is among the rows to fit
    elif validation.is_stream:
        common["validation_data"] = validation.x
    else:
        common["validation_data"] = tuple(_columns(validation))
        common["validation_batch_size"] = EVALUATION_BATCH
    if train.is_stream:
        weight = None if plan.class_weight is None else dict(plan.class_weight)
        model.fit(train.x, class_weight=weight, **common)
        return
    n_steps = math.ceil(len(train) / plan.batch_size)
    if not model.run_eagerly:
        model.steps_per_execution = _steps_at_once(model, callbacks, _TRAIN_HOOKS, n_steps)
    model.fit(_batches(train, plan), steps_per_epoch=n_steps, shuffle=False, **common)


def _scores_by_keras(model: Any, part: Part) -> dict[str, float]:
    if part.is_stream:
        scores = model.evaluate(part.x, verbose=0, return_dict=True)
    else:
        x, y, *weight = _columns(part)
        options = {"batch_size": EVALUATION_BATCH, "verbose": 0, "return_dict": True}
        scores = model.evaluate(x, y, sample_weight=weight[0] if weight else None, **options)
    return _numbers(scores)


def _batches(part: Part, plan: Plan) -> Any:
    """All batches of a training for Keras' loop, epoch after epoch."""
    import tensorflow as tf

    with tf.device("/CPU:0"):
        tensors = [tf.constant(column) for column in _columns(part)]

    def order(epoch: Any) -> Any:
        return batch_order(len(part), plan.shuffle_seed, int(epoch))

    def one_epoch(epoch: Any) -> Any:
        rows = tf.numpy_function(order, [epoch], tf.int64, stateful=False)
        rows = tf.ensure_shape(rows, [len(part)])
        batches = tf.data.Dataset.from_tensor_slices(rows).batch(plan.batch_size)
        return batches.map(lambda index: tuple(tf.gather(tensor, index) for tensor in tensors))

    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = 1
    return tf.data.Dataset.range(plan.first_epoch, plan.epochs).flat_map(one_epoch).with_options(options)


def _columns(part: Part) -> list[Any]:
    """The columns of a part, its inputs as they go into the model."""
    return [column for column in (part.inputs(), part.y, part.sample_weight) if column is not None]


def row_weights(part: Part, class_weight: Mapping[int, float] | None) -> Any:
    """The weight of each row in the loss: the sample's times its class's, as Keras has it; None for equal weights."""
    if class_weight is None:
        return part.sample_weight
    classes = part.y.argmax(axis=1) if part.y.ndim == 2 else part.y
    weights = np.ones(len(part), np.float32)
    for number, weight in class_weight.items():
        weights[classes == number] = weight
    return weights if part.sample_weight is None else weights * part.sample_weight


def _numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    """Metrics that are single numbers."""
    return {name: float(value) for name, value in logs.items() if np.ndim(value) == 0}
