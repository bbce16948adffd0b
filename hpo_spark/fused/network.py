"""Many perceptrons forward and back: the arithmetic of one batch.

Nothing goes from one member to another: a member that has become infinite or not a number stays so alone. Where a
member's numbers are chosen from what was computed for all, they are chosen before as well as after, since the gradient
of what was not chosen is zero times something that may be infinite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpo_spark.seeds import derive_seed

__all__ = ["ELEMENTWISE", "Form", "derivative_of_loss", "dropout_seeds", "forward", "losses_and_metrics"]

# Keras' activations that look at each number alone; the others must see the units of one member only.
ELEMENTWISE = frozenset(
    {
        *("celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh"),
        *("leaky_relu", "linear", "log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink"),
        *("softplus", "softsign", "sparse_plus", "squareplus", "swish", "tanh", "tanh_shrink"),
    }
)
# What an activation makes of zero, unless that is zero: padding must be told from units then.
_NOT_ZERO_AT_ZERO = frozenset({"exponential", "hard_sigmoid", "log_sigmoid", "sigmoid", "softplus", "squareplus"}) | {
    "sparse_plus"
}
# Tells the generator of dropout from others that are seeded with the same seed.
_DROPOUT_STREAM = 0xD205


@dataclass(frozen=True)
class Form:
    """What of a group is compiled: groups of one form share a program, whatever their numbers and sizes.

    Attributes:
        loss: Keras' name of it.
        n_outputs: Of a model.
        activations: Those in use, layer by layer.
        drops: Whether any member drops units, layer by layer.
        has_flat: Whether there are members without hidden layers.
        rules: Names of the rules, in their order in storage.
        has_penalty: Whether any member has a weight of squared weights.
        floatx: Type of all floating numbers.
    """

    loss: str
    n_outputs: int
    activations: tuple[tuple[str, ...], ...]
    drops: tuple[bool, ...]
    has_flat: bool
    rules: tuple[str, ...]
    has_penalty: bool
    floatx: str

    @property
    def n_layers(self) -> int:
        """Hidden layers of the deepest member."""
        return len(self.activations)

    @property
    def is_regression(self) -> bool:
        """Whether the outputs are numbers rather than classes."""
        return self.loss == "mean_squared_error"


def dropout_seeds(shuffle_seed: int, n_layers: int) -> list[int]:
    """A seed for the dropout of each layer: members share the numbers that are drawn, whoever their company is.

    At step s of a training, counted from 0, unit u of row b is dropped after a layer where entry ``(u, b)`` of
    ``tf.random.stateless_uniform((units, rows), seed=[seed, s])`` is below the member's share.
    """
    return [derive_seed(shuffle_seed, _DROPOUT_STREAM, layer) for layer in range(n_layers)]


def forward(form: Form, at: Mapping[str, Any], before: Any, rest: Sequence[Any], draws: Sequence[Any]) -> Any:
    """Outputs of all members, before the softmax, from what the first layers came to.

    Args:
        form: Of the group.
        at: The group's tensors.
        before: Output of the first layers before the activation, ``(rows, batch)``.
        rest: The pieces of ``rest``, of the members that have them, in the network's order: ``(members, numbers)``.
        draws: For each layer numbers in [0, 1), ``(units, batch)``, that decide what is dropped; empty to drop nothing.

    Returns:
        ``(members, outputs, batch)``, in the network's order of members.
    """
    import tensorflow as tf

    width, n_batch = at["width"], tf.shape(before)[1]
    ends = []
    if form.n_layers:
        hidden = _activate(form, at, 0, before)
        hidden = _pack(hidden, at["there"], at["back"])
        hidden = tf.reshape(hidden, (-1, width, n_batch))
        hidden = _drop(form, at, 0, hidden, draws)
        counts = at["n_of_depth"]
        for layer in range(1, form.n_layers):
            # Not by slices, whose gradient TensorFlow takes ten times as long for.
            hidden, end = tf.split(hidden, [counts[layer], counts[layer - 1] - counts[layer]])
            ends.append(end)
            kernel, bias = rest[2 * layer - 2 : 2 * layer]
            product = tf.matmul(tf.reshape(kernel, (-1, width, width)), hidden)
            hidden = _activate(form, at, layer, product + bias[:, :, None])
            hidden = _drop(form, at, layer, hidden, draws)
        hidden = tf.concat([hidden, *reversed(ends)], 0) if ends else hidden
        kernel, bias = rest[-2:]
        ends = [tf.matmul(tf.reshape(kernel, (-1, form.n_outputs, width)), hidden) + bias[:, :, None]]
    if form.has_flat:
        ends.append(tf.reshape(tf.gather(before, at["direct"]), (-1, form.n_outputs, n_batch)))
    return tf.concat(ends, 0) if len(ends) > 1 else ends[0]


def _activate(form: Form, at: Mapping[str, Any], layer: int, values: Any) -> Any:
    """What a layer's activations make of its values, by members or by their rows of the first layer."""
    import keras
    import tensorflow as tf

    names = form.activations[layer]
    is_padded = layer > 0 and any(name in _NOT_ZERO_AT_ZERO for name in names)
    if len(names) == 1 and not is_padded and not (layer == 0 and form.has_flat):
        return keras.activations.get(names[0])(values)
    sum_of_all = None
    for name, mask in zip(names, tf.unstack(at[f"uses_{layer}"], len(names)), strict=True):
        safe = tf.where(mask, values, tf.zeros((), values.dtype))
        chosen = tf.where(mask, keras.activations.get(name)(safe), tf.zeros((), values.dtype))
        sum_of_all = chosen if sum_of_all is None else sum_of_all + chosen
    return sum_of_all


def _pack(rows: Any, there: Any, back: Any) -> Any:
    """Rows of the first layers as those of the members, zero for padding; the gradient takes the same way back."""
    import tensorflow as tf

    def gather(values: Any, places: Any) -> Any:
        nothing = tf.zeros((1, tf.shape(values)[1]), values.dtype)
        return tf.gather(tf.concat([values, nothing], 0), places)

    def packed(values: Any) -> tuple[Any, Any]:
        return gather(values, there), lambda gradient: gather(gradient, back)

    return tf.custom_gradient(packed)(rows)


def _drop(form: Form, at: Mapping[str, Any], layer: int, hidden: Any, draws: Sequence[Any]) -> Any:
    import tensorflow as tf

    if not draws or not form.drops[layer]:
        return hidden
    shares = at[f"drops_{layer}"]
    return tf.where(draws[layer] >= shares, hidden / (1 - shares), tf.zeros((), hidden.dtype))


def losses_and_metrics(form: Form, outputs: Any, targets: Any) -> tuple[Any, Any, Any]:
    """How well the outputs meet the targets.

    Args:
        form: Of the group.
        outputs: Of `forward`.
        targets: ``(outputs, batch)``; for classes as shares.

    Returns:
        Losses and metrics, ``(members, batch)`` each, and predictions, of the outputs' shape.
    """
    import tensorflow as tf

    if form.is_regression:
        difference = outputs - targets
        return tf.reduce_mean(difference * difference, 1), tf.reduce_mean(tf.abs(difference), 1), outputs
    shifted = outputs - tf.reduce_max(outputs, 1, keepdims=True)
    powers = tf.exp(shifted)
    total = tf.reduce_sum(powers, 1, keepdims=True)
    losses = tf.math.log(total[:, 0]) * tf.reduce_sum(targets, 0) - tf.reduce_sum(targets * shifted, 1)
    shares = powers / total
    is_right = tf.equal(_first_largest(shares, 1), _first_largest(targets, 0))
    return losses, tf.cast(is_right, outputs.dtype), shares


def _first_largest(values: Any, axis: int) -> Any:
    """What ``tf.argmax`` finds along an axis that another follows, in half the time; 0 where there are no numbers."""
    import tensorflow as tf

    n = values.shape[axis]
    from_last = tf.reshape(tf.range(n, 0, -1, values.dtype), (n, 1))
    is_largest = tf.equal(values, tf.reduce_max(values, axis, keepdims=True))
    found = tf.reduce_max(tf.cast(is_largest, values.dtype) * from_last, axis)
    return tf.math.floormod(n - found, n)


def derivative_of_loss(form: Form, predictions: Any, targets: Any, weights: Any) -> Any:
    """The derivative of the weighted mean of the losses of a batch by the outputs.

    Args:
        form: Of the group.
        predictions: As `losses_and_metrics` gives them.
        targets: As there.
        weights: Of the rows, divided by their number, ``(batch,)``.
    """
    import tensorflow as tf

    if form.is_regression:
        return (predictions - targets) * (weights * (2 / form.n_outputs))
    total = tf.reduce_sum(targets, 0)
    return (predictions * total - targets) * weights
