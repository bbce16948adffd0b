"""What of a model is compiled into its loops: models of equal structure can share them.

Everything that a model says of itself counts, but for what is provably a variable: its weights, the optimizer's state
and its `rates`. A model with any part that is not Keras' own has no structure in this sense, since such a part may do
what no configuration tells.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from hpo_spark.data import Part
from hpo_spark.objectives.rates import described_rates

__all__ = ["structure_of"]

logger = logging.getLogger(__name__)

# Layers all of whose state is in variables. Those for preprocessing hold what they were adapted to as constants.
_ROOMS = tuple(
    f"keras.src.layers.{room}."
    for room in (
        *("activations", "attention", "convolutional", "core", "merging"),
        *("normalization", "pooling", "regularization", "reshaping", "rnn"),
    )
)
_MODELS = ("keras.src.models.sequential.Sequential", "keras.src.models.functional.Functional")
# What a model of Keras' holds besides private attributes; anything else was put there by a user.
_ATTRIBUTES = {
    *("activity_regularizer", "autocast", "build", "built", "call_signature_parameters", "compiled", "history", "loss"),
    *("name", "optimizer", "output_names", "predict_function", "quantize", "steps_per_execution", "stop_evaluating"),
    *("stop_predicting", "stop_training", "supports_jit", "supports_masking", "test_function", "train_function"),
    "unrolled_steps_per_execution",
}
_PLAIN = (bool, int, float, str, type(None))
_VALUES = ("__tensor__", "__numpy__", "__keras_tensor__", "__tuple__", "__slice__", "__ellipsis__")


def structure_of(model: Any, part: Part) -> str | None:
    """A digest of a model's structure.

    Args:
        model: A compiled model whose layers are built.
        part: What it trains on, of which the types and the shapes of rows count.

    Returns:
        Equal texts for models that can share their loops; None for a model that shares them with none.
    """
    try:
        if (foreign := _foreign(model)) is not None:
            logger.debug("%s has its loops for itself, because of %s", model.name, foreign)
            return None
        described = json.dumps([_describe(model), _form(part)], sort_keys=True)
    except Exception as error:  # what cannot tell of itself cannot be compared
        logger.debug("%s has its loops for itself: %s: %s", model.name, type(error).__name__, error)
        return None
    return blake2b(described.encode(), digest_size=16).hexdigest()


def _foreign(model: Any) -> str | None:
    """The first part of a model that is not Keras' own, or holds what its configuration does not tell."""
    import keras

    if not _is_model(model):
        return type(model).__name__
    if extra := [name for name in vars(model) if not name.startswith("_") and name not in _ATTRIBUTES]:
        return f"its attribute {extra[0]}"
    if custom := keras.saving.get_custom_objects():
        return f"the registered {next(iter(custom))}"
    optimizer = model.optimizer
    if described_rates(optimizer) is None or _hidden_options(optimizer):
        return f"the optimizer {type(optimizer).__name__}"
    layers = [layer for layer in model._flatten_layers() if layer is not model]
    for layer in layers:
        holds_more = isinstance(layer, keras.layers.Lambda) or getattr(layer, "stateful", False)
        if holds_more or not (_is_model(layer) or type(layer).__module__.startswith(_ROOMS)):
            return f"the layer {layer.name}"
    compiled = keras.tree.flatten(model._compile_config.config)
    own = [one for one in compiled if type(one) not in _PLAIN]
    for one in [*layers, *getattr(model, "operations", ()), model, optimizer, *own]:
        if not _is_keras(one) or not all(_is_keras(value) for value in vars(one).values() if callable(value)):
            return f"{one!r}"
    return None


def _is_model(value: Any) -> bool:
    return f"{type(value).__module__}.{type(value).__qualname__}" in _MODELS


def _is_keras(value: Any) -> bool:
    module = getattr(value, "__module__", None)
    return isinstance(module, str) and module.startswith("keras.src.")


def _hidden_options(optimizer: Any) -> bool:
    """Whether an optimizer does what its configuration does not tell."""
    return any(
        getattr(optimizer, f"_exclude_from_weight_decay{suffix}", None) for suffix in ("", "_pattern")
    ) or not _is_keras(getattr(optimizer, "_learning_rate", None))


def _describe(model: Any) -> list[Any]:
    import keras

    compiled = dict(model.get_compile_config())
    compiled.pop("optimizer")  # it may be a name; this is the object
    optimizer = model.optimizer
    options = dict(optimizer.get_config())
    rates = described_rates(optimizer) or {}
    if isinstance(options["learning_rate"], float):  # else a schedule, whose numbers are constants
        options["learning_rate"] = None
    config = keras.config
    description = [
        *(config.floatx(), config.epsilon(), config.image_data_format(), config.dtype_policy().name),
        *(type(model).__name__, model.get_config(), compiled, bool(model.jit_compile)),
        *(type(optimizer).__name__, options | rates, sorted(rates)),
        [(layer.name, layer.trainable, layer.autocast, layer.supports_masking) for layer in model._flatten_layers()],
        [_describe_variable(variable) for variable in model.variables],
    ]
    for one in _parts(description):
        _check_named(one)
    return description


def _describe_variable(variable: Any) -> list[Any]:
    import keras

    about = [getattr(variable, name, None) for name in ("regularizer", "constraint")]
    return [
        *(variable.path, list(variable.shape), str(variable.dtype), bool(variable.trainable)),
        *map(keras.saving.serialize_keras_object, about),
    ]


def _parts(description: Any) -> Iterator[dict[str, Any]]:
    """All mappings in a description that name a class."""
    if isinstance(description, dict):
        if "class_name" in description:
            yield description
        description = list(description.values())
    if isinstance(description, list | tuple):
        for one in description:
            yield from _parts(one)


def _check_named(part: dict[str, Any]) -> None:
    """Raise `TypeError` for a class that is not Keras' own."""
    name, module = part["class_name"], part.get("module")
    if name in _VALUES:
        return
    if not isinstance(module, str) or module.split(".")[0] != "keras":
        raise TypeError(f"{name} of {module} is not Keras' own")


def _form(part: Part) -> list[Any]:
    columns = [part.x, part.y, part.sample_weight]
    return [None if column is None else [list(column.shape[1:]), column.dtype.str] for column in columns] + [
        part.divisor
    ]
