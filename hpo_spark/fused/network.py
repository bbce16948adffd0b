"""Many perceptrons forward and back: the arithmetic of one batch.

Nothing goes from one member to another: a member that has become infinite or not a number stays so alone. Where a
member's numbers are chosen from what was computed for all, they are chosen before as well as after, since the gradient
of what was not chosen is zero times something that may be infinite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from hpo_spark.fused.rules import n_slots
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
# A share this far below the best is nothing, and with a bound XLA computes shares six times as fast.
_LEAST_EXPONENT = -80.0
# Tells the generator of dropout from others that are seeded with the same seed.
_DROPOUT_STREAM = 0xD205


@dataclass(frozen=True)
class Form:
    """What of a group is traced: groups of one form share a program, whatever their numbers and sizes.

    Attributes:
        loss: Keras' name of it.
        n_outputs: Of a model.
        activations: Those in use, layer by layer.
        drops: Whether any member drops units, layer by layer.
        has_flat: Whether there are members without hidden layers.
        rules: Names of the rules, in the order of their members.
        has_penalty: Whether any member has a weight of squared weights.
        floatx: Type of all floating numbers.
        for_xla: Whether XLA compiles it; then one rule takes all members.
        is_narrow: Whether XLA had best have products written out.
        is_trimmed: Whether inputs come with a one for the bias, and without some that are always zero.
    """

    loss: str
    n_outputs: int
    activations: tuple[tuple[str, ...], ...]
    drops: tuple[bool, ...]
    has_flat: bool
    rules: tuple[str, ...]
    has_penalty: bool
    floatx: str
    for_xla: bool = False
    is_narrow: bool = False
    is_trimmed: bool = False

    @property
    def n_layers(self) -> int:
        """Hidden layers of the deepest member."""
        return len(self.activations)

    @property
    def n_activations(self) -> int:
        """How many are computed for all members, layer by layer."""
        return sum(map(len, self.activations))

    @property
    def is_regression(self) -> bool:
        """Whether the outputs are numbers rather than classes."""
        return self.loss == "mean_squared_error"

    def covers(self, other: Form) -> bool:
        """Whether a program of this form serves a group of another that is like it."""
        return self.joined(other) == self

    def is_like(self, other: Form) -> bool:
        """Whether groups of both forms may share a program: XLA compiles both, for data and models of one kind."""
        kind, its = ((one.loss, one.n_outputs, one.is_narrow, one.is_trimmed, one.floatx) for one in (self, other))
        return self.for_xla and other.for_xla and kind == its

    def joined(self, other: Form) -> Form:
        """A form that covers both, where they are alike: XLA compiles none that drops units."""
        layers = zip_longest(self.activations, other.activations, fillvalue=())
        activations = tuple(tuple(sorted({*own, *its})) for own, its in layers)
        return replace(
            self,
            activations=activations,
            drops=(False,) * len(activations),
            has_flat=self.has_flat or other.has_flat,
            rules=max(self.rules, other.rules, key=lambda rules: sum(map(n_slots, rules))),
            has_penalty=self.has_penalty or other.has_penalty,
        )


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
        rest: The pieces of ``rest``, ``(members, numbers)`` each.
        draws: For each layer numbers in [0, 1), ``(units, batch)``, that decide what is dropped; empty to drop nothing.

    Returns:
        ``(members, outputs, batch)``.
    """
    import tensorflow as tf

    width, n_members, n_batch = at["width"], tf.shape(at["rates"])[0], tf.shape(before)[1]
    outputs = None
    if form.n_layers:
        hidden = _pack(_activate(form, at, 0, before), at["there"], at["back"])
        hidden = _drop(form, at, 0, tf.reshape(hidden, (n_members, width, n_batch)), draws)
        for layer in range(1, form.n_layers):
            kernel, bias = rest[2 * layer - 2 : 2 * layer]
            product = _product(form, tf.reshape(kernel, (n_members, width, width)), hidden)
            after = _activate(form, at, layer, product + bias[:, :, None])
            hidden = tf.where(at[f"has_{layer}"], _drop(form, at, layer, after, draws), hidden)
        kernel, bias = rest[-2:]
        outputs = _product(form, tf.reshape(kernel, (n_members, form.n_outputs, width)), hidden) + bias[:, :, None]
    if form.has_flat:
        direct = _pack(before, at["direct"], at["direct_back"])
        direct = tf.reshape(direct, (n_members, form.n_outputs, n_batch))
        outputs = direct if outputs is None else tf.where(at["is_flat"], direct, outputs)
    return outputs


def _product(form: Form, kernels: Any, hidden: Any) -> Any:
    """The product for each member.

    XLA multiplies matrices member by member, which takes longer than the arithmetic of narrow ones. But sums over the
    last axis take it even longer, so that the derivative by the kernels is a product of matrices.
    """
    import tensorflow as tf

    if not form.is_narrow:
        return tf.matmul(kernels, hidden)

    def product(kernels: Any, hidden: Any) -> tuple[Any, Any]:
        def gradients(by_product: Any) -> tuple[Any, Any]:
            by_hidden = tf.reduce_sum(kernels[:, :, :, None] * by_product[:, :, None, :], 1)
            return tf.matmul(by_product, hidden, transpose_b=True), by_hidden

        return tf.reduce_sum(kernels[:, :, :, None] * hidden[:, None, :, :], 2), gradients

    return tf.custom_gradient(product)(kernels, hidden)


def _activate(form: Form, at: Mapping[str, Any], layer: int, values: Any) -> Any:
    """What a layer's activations make of its values, by members or by their rows of the first layer."""
    import tensorflow as tf

    names = form.activations[layer]
    is_padded = layer > 0 and any(name in _NOT_ZERO_AT_ZERO for name in names)
    if len(names) == 1 and not is_padded and not (layer == 0 and form.has_flat):
        return _activation(form, names[0])(values)
    sum_of_all = None
    for name, mask in zip(names, tf.unstack(at[f"uses_{layer}"], len(names)), strict=True):
        safe = tf.where(mask, values, tf.zeros((), values.dtype))
        chosen = tf.where(mask, _activation(form, name)(safe), tf.zeros((), values.dtype))
        sum_of_all = chosen if sum_of_all is None else sum_of_all + chosen
    return sum_of_all


def _activation(form: Form, name: str) -> Callable[[Any], Any]:
    import keras

    return _elu if form.for_xla and name == "elu" else keras.activations.get(name)


def _elu(values: Any) -> Any:
    """Keras' ``elu`` without ``expm1``, which takes XLA far longer and is more exact than the sums that follow."""
    import tensorflow as tf

    def elu(values: Any) -> tuple[Any, Any]:
        is_curved = values <= 0  # what is no number stays so
        powers = tf.exp(tf.clip_by_value(values, _LEAST_EXPONENT, 0.0))
        return tf.where(is_curved, powers - 1, values), lambda slope: tf.where(is_curved, slope * powers, slope)

    return tf.custom_gradient(elu)(values)


def _pack(rows: Any, there: Any, back: Any) -> Any:
    """Rows of the first layers by members, zero for padding; the gradient takes the same way back."""
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
        Losses and metrics, ``(members, batch)`` each, and what `derivative_of_loss` takes of the outputs.
    """
    import tensorflow as tf

    if form.is_regression:
        difference = outputs - targets
        return tf.reduce_mean(difference * difference, 1), tf.reduce_mean(tf.abs(difference), 1), difference
    shifted = outputs - tf.reduce_max(outputs, 1, keepdims=True)
    powers = tf.exp(tf.maximum(shifted, _LEAST_EXPONENT))
    total = tf.reduce_sum(powers, 1, keepdims=True)
    losses = tf.math.log(total[:, 0]) * tf.reduce_sum(targets, 0) - tf.reduce_sum(targets * shifted, 1)
    is_sparse = form.loss == "sparse_categorical_crossentropy"
    is_target = tf.equal(targets, 1.0 if is_sparse else tf.reduce_max(targets, 0))
    is_right = tf.equal(_from_last(tf.equal(shifted, 0.0), 1), _from_last(is_target, 0))
    return losses, tf.cast(is_right, outputs.dtype), (powers, total)


def _from_last(is_largest: Any, axis: int) -> Any:
    """How far what ``tf.argmax`` finds is from the end of an axis that another follows; the first if there is none."""
    import tensorflow as tf

    n = is_largest.shape[axis]
    from_last = tf.reshape(tf.range(n, 0, -1, tf.int32), (n, 1))
    found = tf.reduce_max(tf.where(is_largest, from_last, 0), axis)
    return tf.where(found > 0, found, n)


def derivative_of_loss(form: Form, parts: Any, targets: Any, weights: Any) -> Any:
    """The derivative of the weighted mean of the losses of a batch by the outputs.

    Args:
        form: Of the group.
        parts: As `losses_and_metrics` gives them.
        targets: As there.
        weights: Of the rows, divided by their number, ``(batch,)``.
    """
    import tensorflow as tf

    if form.is_regression:
        return parts * (weights * (2 / form.n_outputs))
    powers, total = parts
    # Divided last: XLA computes what follows a division again for whoever needs it, but not the division.
    return (powers * tf.reduce_sum(targets, 0) - targets * total) * weights / total
