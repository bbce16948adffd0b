"""Training a Keras model as an objective."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hpo_spark.data import Dataset, DataSource
from hpo_spark.errors import MissingExtra, TrialPruned
from hpo_spark.garbage import freeze_new_modules
from hpo_spark.keras_state import forget_models
from hpo_spark.objectives.callbacks import check_callbacks, kept_epoch, make_callbacks
from hpo_spark.objectives.context import Context
from hpo_spark.objectives.function import call_with_context
from hpo_spark.objectives.reuse import forget_programs
from hpo_spark.objectives.saved import model_bytes
from hpo_spark.objectives.training import Plan, Trainer, dump_state, read_state, state_of
from hpo_spark.objectives.work import Work
from hpo_spark.role import is_worker
from hpo_spark.trial import Trial

__all__ = ["KerasObjective"]

logger = logging.getLogger(__name__)


class KerasObjective:
    """Builds a model for a configuration, trains it and returns its validation metric.

    The order of batches depends on the study's seed and the epoch (and on the number of a repeat) only, so that trials
    are compared on the same data; initialisation and dropout depend on the trial's seed.

    Args:
        build_model: ``build_model(params)`` or ``build_model(params, context)``, returning a compiled Keras model;
            ``context.data`` tells ``input_shape`` and ``n_classes``.
        data: Whatever `DataSource.of` takes.
        epochs: Passes over the training rows; a parameter named ``epochs`` goes before it.
        batch_size: Rows to a gradient step; a parameter named ``batch_size`` goes before it. A ``tf.data.Dataset``
            comes in batches of its own.
        metric: Name of the value in Keras' logs at the last epoch, such as ``val_accuracy`` or ``val_loss``; a list of
            names for several objectives. It must be one of the validation part's.
        validation: As for `DataSource`.
        class_weight: Weight of each class number in the loss, as for ``fit``; 1 for classes that it leaves out.
        sample_weight: Weight of each training row in the loss, before the split; for data that brings none.
        callbacks: What `Model.fit` would call after each epoch. Each is a name with options, as in
            ``{"early_stopping": {"patience": 3}}`` (or ``reduce_lr_on_plateau``, ``tensorboard``), a Keras callback, of
            which each trial gets a copy, or a function ``make(params)`` or ``make(params, context)`` that returns some.
            Early stopping with ``restore_best_weights`` makes the value that of the epoch whose weights are kept.
        jit_compile: Whether XLA compiles the training step; None for what the model was compiled with, and, where
            built-in models train together, for XLA where that pays.
        test_every_trial: Whether to evaluate every trial on the test part too and record ``test_accuracy`` and so on
            among its metrics, to compare with publications that do. Nothing is chosen by them.
    """

    def __init__(
        self,
        build_model: Callable[..., Any],
        data: Any,
        epochs: int = 10,
        batch_size: int = 32,
        metric: str | Sequence[str] = "val_accuracy",
        validation: float | str | None = None,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        test_every_trial: bool = False,
        callbacks: Sequence[Any] = (),
        jit_compile: bool | None = None,
    ) -> None:
        if not callable(build_model):
            raise TypeError(f"build_model must be a function of the params, got {build_model!r}.")
        _check_count("epochs", epochs)
        _check_count("batch_size", batch_size)
        self.build_model = build_model
        self.data = DataSource.of(data, validation, keep_bytes=True)
        if sample_weight is not None:
            self.data = self.data.with_sample_weight(np.asarray(sample_weight))
        self.epochs = epochs
        self.batch_size = batch_size
        self.metric = metric
        names = self.metric_names
        if not names or not all(isinstance(name, str) and name.startswith("val_") for name in names):
            raise ValueError(
                f"metric must be measured on the validation part, such as 'val_accuracy' or 'val_loss', got {metric!r}."
            )
        self.class_weight = None if class_weight is None else dict(class_weight)
        self.test_every_trial = test_every_trial
        self.callbacks = check_callbacks(callbacks)
        self.jit_compile = jit_compile
        self._is_full = False

    def on_all_data(self) -> KerasObjective:
        """The same objective, training on the validation part too: for the model that goes into use.

        Nothing is left to validate on: values and metrics are those of the rows that it trains on, as the last epoch
        measured them while it went (``accuracy`` where ``val_accuracy`` is the metric), and say nothing about new data.
        """
        other = copy(self)
        other._is_full = True
        return other

    def __call__(self, params: dict[str, Any], context: Context) -> dict[str, Any]:
        """Train one model.

        Returns:
            ``value``, and every metric of the last epoch.

        Raises:
            ValueError: If the data has no test part and ``test_every_trial`` wants one, or a parameter is impossible.
        """
        keras = _import_keras()
        if context.deterministic:
            _make_operations_deterministic()
        forget_models()
        # A stream that shuffles is part of the data: its order follows the study's seed.
        keras.utils.set_random_seed(context.study_seed % 2**32)
        work = self.work_of(params, context)
        dataset = work.dataset
        model = trainer = None
        try:
            model = self.model_of(params, context)
            callbacks = make_callbacks(self.callbacks, params, context, dataset.validation is not None)
            report = keras.callbacks.LambdaCallback(on_epoch_end=partial(self.report, context))
            trainer = Trainer(model, dataset.train)
            model = trainer.model
            goes_on = self.may_go_on(dataset)
            done = _take_up(trainer, context) if goes_on else 0
            plan = Plan(work.epochs, work.batch_size, context.shuffle_seed, done, class_weight=self.class_weight)
            context.last_step = work.epochs
            try:
                trainer.fit(dataset, plan, [report, *callbacks])
            except TrialPruned:
                trainer.release()  # what it had compiled serves the next trial
                raise
            history = model.history
            if goes_on and context.keeps_checkpoint:
                context.keep_checkpoint(done + len(history.epoch), dump_state(state_of(model)))
            outcome = self.outcome_of(history, callbacks)
            if work.test is not None:
                outcome |= {f"test_{name}": score for name, score in trainer.evaluate(work.test).items()}
            if context.keeps_model(outcome["value"]) and (content := model_bytes(model)) is not None:
                context.keep_model(content)
            trainer.release()
            return outcome
        finally:
            del model, trainer
            forget_models()

    def work_of(self, params: Mapping[str, Any], context: Context) -> Work:
        """What there is to do for a trial.

        Raises:
            ValueError: If the data has no test part and ``test_every_trial`` wants one, or a parameter is impossible.
        """
        dataset = context.data
        assert dataset is not None and dataset.validation is not None
        if self._is_full:
            dataset = dataset.without_validation()
        epochs = context.fidelity or _check_count("epochs", params.get("epochs", self.epochs))
        batch_size = _check_count("batch_size", params.get("batch_size", self.batch_size))
        if dataset.train.is_stream and "batch_size" in params:
            raise ValueError("batch_size is a parameter, but the data is a tf.data.Dataset, which is batched already.")
        test_part = dataset.test if self.test_every_trial else None
        if self.test_every_trial and test_part is None:
            raise ValueError("test_every_trial needs data with a test part, which this has not; leave the option out.")
        return Work(dataset, epochs, batch_size, test_part)

    def model_of(self, params: dict[str, Any], context: Context) -> Any:
        """The model of a trial as it begins, compiled.

        Raises:
            TypeError, ValueError: If ``build_model`` returns anything else.
        """
        keras = _import_keras()
        keras.utils.set_random_seed(context.seed)
        model = call_with_context(self.build_model, params, context)
        _check_model(keras, model)
        return self.as_asked(model)

    def as_asked(self, model: Any) -> Any:
        """A model that was just built, compiled by XLA or not as the objective says."""
        if self.jit_compile is not None:
            model.jit_compile = self.jit_compile
        return model

    def outcome_of(self, history: Any, callbacks: Sequence[Any]) -> dict[str, Any]:
        """What a trial returns: ``value``, and every metric of the epoch whose weights are kept."""
        kept = kept_epoch(callbacks)
        index = -1 if kept is None else history.epoch.index(kept)
        metrics = {name: values[index] for name, values in history.history.items()}
        values = [_find(metrics, name) for name in self._names_in_logs]
        return {"value": tuple(values), **metrics, "epochs": len(history.epoch)}

    def may_go_on(self, dataset: Dataset) -> bool:
        """Whether a checkpoint holds all that a training is at: not where a stream or a callback has a memory."""
        forgetful = all(isinstance(callback, Mapping) and "tensorboard" in callback for callback in self.callbacks)
        return forgetful and not dataset.train.is_stream

    def preload(self) -> None:
        """Import Keras, which takes seconds, before the first trial.

        Raises:
            MissingExtra: If it is not installed here.
        """
        _import_keras()

    @property
    def metric_names(self) -> list[str]:
        """The metrics that are the values."""
        return [self.metric] if isinstance(self.metric, str) else list(self.metric)

    @property
    def is_full(self) -> bool:
        """Whether it trains on the validation part too."""
        return self._is_full

    def fuse_key(self, params: Mapping[str, Any]) -> Hashable | None:
        """What trials must have in common to be trained together; None for one that is trained alone.

        Raises:
            ValueError: If the params are impossible.
        """
        from hpo_spark.fused import fuse_key

        return fuse_key(self, params)

    def fuse_bytes(self, params: Mapping[str, Any]) -> int:
        """Bytes of memory that a trial needs in a group, an estimate, above 0.

        Raises:
            ValueError: If the params are impossible.
        """
        from hpo_spark.fused import fuse_bytes

        return fuse_bytes(self, params)

    def why_alone(self, params: Mapping[str, Any]) -> str | None:
        """Why a trial is trained alone; None where nothing that is known beforehand says so.

        Raises:
            ValueError: If the params are impossible.
        """
        from hpo_spark.fused import why_alone

        return why_alone(self, params)

    def evaluate_many(
        self, params: Sequence[dict[str, Any]], contexts: Sequence[Context]
    ) -> list[dict[str, Any] | BaseException]:
        """Train several models as one program.

        Returns:
            For each what a call would return, or what it would raise.

        Raises:
            CannotFuse: If they cannot be trained together, or would gain nothing by it.
        """
        from hpo_spark.fused import evaluate_many

        _import_keras()
        if contexts[0].deterministic:
            _make_operations_deterministic()
        return evaluate_many(self, params, contexts)

    @property
    def _names_in_logs(self) -> list[str]:
        return [name.removeprefix("val_") if self._is_full else name for name in self.metric_names]

    def report(self, context: Context, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Report what an epoch came to."""
        context.report(epoch + 1, _find(logs or {}, self._names_in_logs[0]))

    def test(self, model: bytes, params: dict[str, Any], study_seed: int) -> dict[str, float]:
        """Evaluate a trained model on the test part.

        The model is built anew and given the trained weights, so that it may hold parts that Keras cannot load.

        Args:
            model: What `__call__` kept: the content of a ``.keras`` or a ``.weights.h5`` file.
            params: What the model was built from.
            study_seed: The study's seed.

        Returns:
            Loss and metrics by name; empty where the data has no test part.
        """
        _import_keras()
        forget_models()
        context = Context(Trial(0, params, study_seed), study_seed, self.data.load)
        try:
            part = context.data.test if context.data else None
            if part is None:
                return {}
            built = call_with_context(self.build_model, params, context)
            built(next(iter(part.x))[0] if part.is_stream else part.inputs(slice(1)))
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / ("model.keras" if model.startswith(b"PK") else "model.weights.h5")
                path.write_bytes(model)
                built.load_weights(path)
            trainer = Trainer(built, part)
            scores = trainer.evaluate(part)
            trainer.release()
            return scores
        finally:
            forget_models()


def _take_up(trainer: Trainer, context: Context) -> int:
    """Have a training go on from the trial's checkpoint; epochs that it has behind it, 0 where it begins anew."""
    if (checkpoint := context.checkpoint) is None:
        return 0
    try:
        trainer.load_state(read_state(checkpoint.content))
    except Exception as error:  # it costs time only: from the start the trial comes to the same
        logger.warning(
            "trial %d begins from the start, since its parent's checkpoint does not fit: %s", context.number, error
        )
        return 0
    return checkpoint.step


def _import_keras() -> Any:
    """Import Keras, with as many threads as the process was given."""
    threads = int(os.environ.get("TF_NUM_INTRAOP_THREADS", "1"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    is_new = "keras" not in sys.modules
    try:
        import keras
        import tensorflow as tf
    except ImportError as error:
        raise MissingExtra("KerasObjective", "Keras and TensorFlow", "keras") from error
    for configure in (
        tf.config.threading.set_intra_op_parallelism_threads,
        tf.config.threading.set_inter_op_parallelism_threads,
    ):
        try:
            configure(threads)
        except RuntimeError:  # TensorFlow has run in this process, and keeps what it had
            break
    if is_worker():  # elsewhere these are for others to say
        if tf.__version__.startswith(_TRIED) and keras.backend.backend() == "tensorflow":
            os.environ.setdefault("XLA_FLAGS", _WIDE_VECTORS)
        if is_new:
            freeze_new_modules()
    return keras


# XLA takes vectors of 256 bits on processors that have 512, with which small models train up to 7 % faster. It ends a
# process whose flags it does not know, so that only a version gets it that has been tried.
_WIDE_VECTORS = "--xla_cpu_prefer_vector_width=512"
_TRIED = "2.21."
_is_deterministic = False


def _make_operations_deterministic() -> None:
    """Have TensorFlow choose kernels that add in one order, for the rest of the process."""
    global _is_deterministic
    import tensorflow as tf

    if not _is_deterministic:
        from hpo_spark.fused import forget_fused_programs

        forget_programs()  # some gradients are chosen while a loop is compiled
        forget_fused_programs()
        tf.config.experimental.enable_op_determinism()
        _is_deterministic = True


def _check_model(keras: Any, model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(f"build_model must return a compiled Keras model, got {type(model).__name__}.")
    if not model.compiled:
        raise ValueError(
            "build_model returned a model that is not compiled; call model.compile(...) before returning it."
        )


def _find(logs: Mapping[str, float], name: str) -> float:
    if name not in logs:
        raise ValueError(f"metric={name!r} is not among what the model reports: {sorted(logs)}.")
    return float(logs[name])


def _check_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number above 0, got {name}={value!r}.")
    return value
