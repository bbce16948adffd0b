"""The built-in model: a multi-layer perceptron whose every choice can be a parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpo_spark.objectives.context import Context

__all__ = ["build_model", "check_names"]

_DEFAULTS: dict[str, Any] = {
    "hidden_layers": 1,
    "hidden_units": 64,
    "activation": "relu",
    "dropout": 0.0,
    "l2": 0.0,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "momentum": 0.0,
    "nesterov": False,
    "n_classes": None,
}
_PER_LAYER = ("hidden_units", "activation", "dropout")
_OF_TRAINING = ("epochs", "batch_size")
_DIGITS = 10


def build_model(params: Mapping[str, Any], context: Context | None = None) -> Any:
    """Build and compile a multi-layer perceptron.

    Targets that are class numbers get a softmax and cross-entropy; other targets a linear output and mean squared
    error.

    Args:
        params: Any of

            - ``hidden_layers``: how many, 0 or more (default 1, or as many as a list below has entries);
            - ``hidden_units``: width (default 64), one number for all layers or a list, one a layer;
            - ``activation``: any of Keras' (default ``relu``), one for all or a list;
            - ``dropout``: share dropped after each hidden layer, in [0, 1) (default 0), one for all or a list;
            - ``l2``: weight of the squared weights in the loss (default 0);
            - ``optimizer``: ``sgd``, ``adam`` (default) or ``rmsprop``;
            - ``learning_rate``: above 0 (default 0.001);
            - ``momentum`` in [0, 1) and ``nesterov``, which only ``sgd`` uses (default 0, false);
            - ``n_classes``: where the data does not tell (default 10).

            Lists may be longer than there are layers. ``hidden_units_1``, ``hidden_units_2`` and so on, and likewise
            ``activation_1`` and ``dropout_1``, set a single layer, so that each can be a parameter of its own.
        context: Tells the shape of the data; None for a model that takes its shape from the first batch.

    Returns:
        A compiled ``keras.Sequential``.

    Raises:
        ValueError: If a name is unknown or a value impossible.
    """
    import keras

    check_names(params)
    options = {**_DEFAULTS, **{name: value for name, value in params.items() if name in _DEFAULTS}}
    data = context.data if context is not None else None
    n_layers = _count_layers(params)
    penalty = keras.regularizers.L2(_number("l2", options["l2"])) if options["l2"] else None
    model = keras.Sequential()
    if data is not None:
        model.add(keras.Input(data.input_shape))
    model.add(keras.layers.Flatten())
    for layer in range(n_layers):
        units, activation, dropout = (_of_layer(name, layer, options[name], params) for name in _PER_LAYER)
        if isinstance(units, bool) or not isinstance(units, int) or units < 1:
            raise ValueError(f"hidden_units must be a whole number above 0, got {units!r} for layer {layer + 1}.")
        model.add(keras.layers.Dense(units, activation=activation, kernel_regularizer=penalty))
        if not 0 <= _number("dropout", dropout) < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout!r} for layer {layer + 1}.")
        if dropout:
            model.add(keras.layers.Dropout(dropout))
    model.add(_output(keras, options["n_classes"], data, penalty))
    model.compile(_optimizer(keras, options), *_loss(data))
    return model


def check_names(params: Iterable[str]) -> None:
    """Raise `ValueError` for a name that the model does not know."""
    for name in params:
        stem, _, number = name.rpartition("_")
        single = stem in _PER_LAYER and number.isdigit() and int(number) >= 1
        if name not in _DEFAULTS and name not in _OF_TRAINING and not single:
            known = [*_DEFAULTS, *(f"{name}_1" for name in _PER_LAYER), *_OF_TRAINING]
            raise ValueError(f"The built-in MLP has no parameter {name!r}; it knows {known}.")


def _count_layers(params: Mapping[str, Any]) -> int:
    if "hidden_layers" in params:
        count = params["hidden_layers"]
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(f"hidden_layers must be a whole number of 0 or more, got {count!r}.")
        return count
    lengths = {len(params[name]) for name in _PER_LAYER if _is_list(params.get(name))}
    if 0 in lengths:
        raise ValueError("A list of one value a layer must not be empty; for no hidden layer give hidden_layers: 0.")
    if len(lengths) > 1:
        raise ValueError(
            f"Lists of unequal length, {sorted(lengths)}, do not tell how many layers; give hidden_layers."
        )
    if lengths:
        return lengths.pop()
    numbered = [int(name.rpartition("_")[2]) for name in params if name.rpartition("_")[0] in _PER_LAYER]
    return max(numbered, default=_DEFAULTS["hidden_layers"])


def _of_layer(name: str, layer: int, value: Any, params: Mapping[str, Any]) -> Any:
    if (single := f"{name}_{layer + 1}") in params:
        return params[single]
    if not _is_list(value):
        return value
    if layer >= len(value):
        raise ValueError(f"{name}={value!r} has {len(value)} entries, too few for layer {layer + 1}.")
    return value[layer]


def _output(keras: Any, n_classes: int | None, data: Any, penalty: Any) -> Any:
    if _is_regression(data):
        y = data.train.y
        return keras.layers.Dense(1 if y.ndim == 1 else y.shape[1], kernel_regularizer=penalty)
    units = n_classes or (data.n_classes if data is not None else None) or _DIGITS
    return keras.layers.Dense(units, activation="softmax", kernel_regularizer=penalty)


def _loss(data: Any) -> tuple[str, None, list[str]]:
    """Loss, loss weights and metrics, in the order that ``compile`` takes them."""
    if _is_regression(data):
        return "mean_squared_error", None, ["mean_absolute_error"]
    one_hot = data is not None and not data.train.is_stream and data.train.y.ndim == 2
    return "categorical_crossentropy" if one_hot else "sparse_categorical_crossentropy", None, ["accuracy"]


def _is_regression(data: Any) -> bool:
    return data is not None and not data.train.is_stream and data.n_classes is None


def _optimizer(keras: Any, options: Mapping[str, Any]) -> Any:
    name, rate = options["optimizer"], _number("learning_rate", options["learning_rate"])
    if not rate > 0:
        raise ValueError(f"learning_rate must be above 0, got {rate!r}.")
    if name == "sgd":
        momentum = _number("momentum", options["momentum"])
        if not isinstance(options["nesterov"], bool):
            raise ValueError(f"nesterov must be true or false, got {options['nesterov']!r}.")
        return keras.optimizers.SGD(rate, momentum=momentum, nesterov=options["nesterov"])
    if name == "adam":
        return keras.optimizers.Adam(rate)
    if name == "rmsprop":
        return keras.optimizers.RMSprop(rate)
    raise ValueError(f"optimizer must be 'sgd', 'adam' or 'rmsprop', got {name!r}.")


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, got {value!r}.")
    return float(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
