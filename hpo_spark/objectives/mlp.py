"""The built-in model: a multi-layer perceptron whose every choice can be a parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpo_spark.objectives.context import Context

__all__ = [
    "Perceptron",
    "build_model",
    "check_names",
    "hidden_layers",
    "loss_and_metric",
    "n_outputs",
    "output_layer",
    "read_params",
]

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

    perceptron = read_params(params)
    data = context.data if context is not None else None
    layers = [] if data is None else [keras.Input(data.input_shape)]
    layers += [keras.layers.Flatten(), *hidden_layers(perceptron), output_layer(perceptron, data)]
    model = keras.Sequential(layers)  # one by one each would build the model anew
    loss, metric = loss_and_metric(data)
    model.compile(_optimizer(keras, perceptron), loss, metrics=[metric])
    return model


@dataclass(frozen=True)
class Perceptron:
    """What the params say of a model.

    Attributes:
        units: Widths of the hidden layers.
        activations: Their activations.
        dropouts: Shares dropped after each.
        l2: Weight of the squared weights in the loss.
        optimizer: ``sgd``, ``adam`` or ``rmsprop``.
        learning_rate: Above 0.
        momentum: In [0, 1); 0 for other optimizers than ``sgd``.
        nesterov: Whether momentum is Nesterov's.
        n_classes: Where the data does not tell.
    """

    units: tuple[int, ...]
    activations: tuple[Any, ...]
    dropouts: tuple[float, ...]
    l2: float
    optimizer: str
    learning_rate: float
    momentum: float
    nesterov: bool
    n_classes: int | None


def read_params(params: Mapping[str, Any]) -> Perceptron:
    """Understand the params of `build_model`.

    Raises:
        ValueError: If a name is unknown or a value impossible.
    """
    check_names(params)
    options = {**_DEFAULTS, **{name: value for name, value in params.items() if name in _DEFAULTS}}
    layers = [
        tuple(_of_layer(name, layer, options[name], params) for name in _PER_LAYER)
        for layer in range(_count_layers(params))
    ]
    for number, (units, _, dropout) in enumerate(layers, 1):
        if isinstance(units, bool) or not isinstance(units, int) or units < 1:
            raise ValueError(f"hidden_units must be a whole number above 0, got {units!r} for layer {number}.")
        if not 0 <= _number("dropout", dropout) < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout!r} for layer {number}.")
    units, activations, dropouts = zip(*layers, strict=True) if layers else ((), (), ())
    name, rate, momentum = options["optimizer"], _number("learning_rate", options["learning_rate"]), 0.0
    if name not in ("sgd", "adam", "rmsprop"):
        raise ValueError(f"optimizer must be 'sgd', 'adam' or 'rmsprop', got {name!r}.")
    if not rate > 0:
        raise ValueError(f"learning_rate must be above 0, got {rate!r}.")
    if name == "sgd":
        momentum = _number("momentum", options["momentum"])
        if not isinstance(options["nesterov"], bool):
            raise ValueError(f"nesterov must be true or false, got {options['nesterov']!r}.")
    return Perceptron(
        units=units,
        activations=activations,
        dropouts=tuple(map(float, dropouts)),
        l2=_number("l2", options["l2"]) if options["l2"] else 0.0,
        optimizer=name,
        learning_rate=rate,
        momentum=momentum,
        nesterov=name == "sgd" and options["nesterov"],
        n_classes=options["n_classes"],
    )


def hidden_layers(perceptron: Perceptron) -> list[Any]:
    """Keras' layers between input and output."""
    import keras

    layers = []
    for units, activation, dropout in zip(perceptron.units, perceptron.activations, perceptron.dropouts, strict=True):
        layers.append(keras.layers.Dense(units, activation=activation, kernel_regularizer=_penalty(perceptron)))
        if dropout:
            layers.append(keras.layers.Dropout(dropout))
    return layers


def n_outputs(perceptron: Perceptron, data: Any) -> int:
    """Width of the last layer for a dataset, or for None, of which nothing is known."""
    if _is_regression(data):
        y = data.train.y
        return 1 if y.ndim == 1 else int(y.shape[1])
    return perceptron.n_classes or (data.n_classes if data is not None else None) or _DIGITS


def output_layer(perceptron: Perceptron, data: Any) -> Any:
    """Keras' last layer for a dataset, or for None, of which nothing is known."""
    import keras

    activation = None if _is_regression(data) else "softmax"
    return keras.layers.Dense(
        n_outputs(perceptron, data), activation=activation, kernel_regularizer=_penalty(perceptron)
    )


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


def _penalty(perceptron: Perceptron) -> Any:
    import keras

    return keras.regularizers.L2(perceptron.l2) if perceptron.l2 else None


def loss_and_metric(data: Any) -> tuple[str, str]:
    """Keras' names of the loss and of what is measured beside it, for a dataset or for None."""
    if _is_regression(data):
        return "mean_squared_error", "mean_absolute_error"
    one_hot = data is not None and not data.train.is_stream and data.train.y.ndim == 2
    return "categorical_crossentropy" if one_hot else "sparse_categorical_crossentropy", "accuracy"


def _is_regression(data: Any) -> bool:
    return data is not None and not data.train.is_stream and data.n_classes is None


def _optimizer(keras: Any, perceptron: Perceptron) -> Any:
    rate = perceptron.learning_rate
    if perceptron.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=perceptron.momentum, nesterov=perceptron.nesterov)
    return (keras.optimizers.Adam if perceptron.optimizer == "adam" else keras.optimizers.RMSprop)(rate)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, got {value!r}.")
    return float(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
