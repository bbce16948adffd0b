"""Keras' optimizers for the weights of many members with a rate each.

TensorFlow has kernels that update a whole tensor in one pass over the memory, three to five times faster than the same
rule written out; but they take one rate. So weights are stored divided by their member's learning rate, and the kernel
takes a rate of 1: where a rule steps by the rate times something that it makes of gradients alone, as the three of the
built-in model do, the rate is a factor of the whole sum of steps. Momentum is one number too; members that share it
share a rule, and where there are too many, the rule is written out.

XLA makes one pass of what is written out too. For it there is one rule that takes numbers from each row, and so has all
members, whatever their optimizers: then groups of other mixtures need no other program.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpo_spark.objectives.mlp import Perceptron

__all__ = ["NUMBERS", "Rule", "apply_rule", "common_rule", "n_slots", "numbers_of", "rules_of", "slots_of_keras"]

# Kernels of one momentum each that are used beside one another; members that share none of these are put together.
_MAX_MOMENTA = 3
# What rules that are written out take from each row. Of all of them: the share of the first slot that stays, and of the
# new first slot and of the gradient in the step. Of `mixed` also: the share of the gradient in the first slot and of
# its square in the second, 0 for SGD; of the first slot in an adaptive step, else it is the gradient's; and what is
# added to the second slot under the root, and to the root.
NUMBERS = {"momenta": 3, "mixed": 8}


@dataclass(frozen=True, order=True)
class Rule:
    """How some members are updated.

    Attributes:
        name: ``adam``, ``rmsprop``, ``momentum``, ``nesterov``; ``momenta`` for SGD with a momentum for each, ``mixed``
            for any optimizer for each.
        momentum: That of all of them; 0 for other rules than ``momentum`` and ``nesterov``.
    """

    name: str
    momentum: float = 0.0


def rules_of(members: Sequence[Perceptron]) -> list[Rule]:
    """The rule of each member, of kernels as far as there are any."""
    alone = [_alone(member) for member in members]
    counts = Counter(rule for rule in alone if rule.name in ("momentum", "nesterov"))
    if len(counts) <= _MAX_MOMENTA:
        return alone
    return [Rule("momenta") if rule in counts else rule for rule in alone]


def common_rule(members: Sequence[Perceptron]) -> Rule:
    """One rule for all members."""
    return Rule("momenta" if all(member.optimizer == "sgd" for member in members) else "mixed")


def _alone(member: Perceptron) -> Rule:
    if member.optimizer != "sgd":
        return Rule(member.optimizer)
    return Rule("nesterov" if _is_nesterov(member) else "momentum", member.momentum)


def _is_nesterov(member: Perceptron) -> bool:
    """Nesterov's momentum of 0 is none, as in Keras."""
    return member.nesterov and member.momentum > 0


def n_slots(name: str) -> int:
    """Tensors of the weights' shape that a rule keeps: means of gradients, or steps; then means of their squares."""
    return 1 if name in ("momentum", "nesterov", "momenta") else 2


def slots_of_keras(member: Perceptron) -> list[int]:
    """Which slots a member's Keras optimizer keeps, in its order of variables."""
    if member.optimizer == "adam":
        return [0, 1]
    if member.optimizer == "rmsprop":
        return [1]
    return [0] if member.momentum else []


def numbers_of(member: Perceptron, rule: str) -> list[float]:
    """A member's numbers for a rule that is written out."""
    of_slot, of_gradient = (member.momentum, -1.0) if _is_nesterov(member) else (1.0, 0.0)
    if rule == "momenta":
        return [member.momentum, of_slot, of_gradient]
    if member.optimizer == "adam":
        beta_1, beta_2, epsilon = _defaults("Adam", "beta_1", "beta_2", "epsilon")
        return [beta_1, 0.0, 0.0, 1 - beta_1, 1 - beta_2, 1.0, 0.0, epsilon]
    if member.optimizer == "rmsprop":
        rho, epsilon = _defaults("RMSprop", "rho", "epsilon")
        return [0.0, 0.0, 0.0, 0.0, 1 - rho, 0.0, epsilon, 0.0]
    return [member.momentum, of_slot, of_gradient, -1.0, 0.0, 0.0, 0.0, 0.0]


def apply_rule(name: str, weights: Any, slots: Sequence[Any], gradient: Any, step: Any, own: Any) -> None:
    """Update weights that are stored divided by their learning rates.

    Args:
        name: Of the rule.
        weights: Handle of the variable, ``(rows, numbers)``.
        slots: Handles of the rule's slots, of the same shape.
        gradient: Of the loss by the weights, not divided by anything.
        step: Counts from 1, in the type of the weights.
        own: The rule's momentum; for one that is written out what `numbers_of` gives, ``(rows, 1)`` each.
    """
    import tensorflow as tf

    raw, dtype = tf.raw_ops, gradient.dtype
    one, nothing = tf.ones((), dtype), tf.zeros((), dtype)
    if name == "adam":
        first, second, epsilon = _defaults("Adam", "beta_1", "beta_2", "epsilon")
        beta_1, beta_2 = tf.constant(first, dtype), tf.constant(second, dtype)
        raw.ResourceApplyAdam(
            var=weights,
            m=slots[0],
            v=slots[1],
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            # Keras takes 1 - beta before it rounds, the kernel after: in single precision a hundred-thousandth apart.
            lr=tf.constant(_share(second, dtype) ** 0.5 / _share(first, dtype), dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.constant(epsilon, dtype),
            grad=gradient,
        )
    elif name == "rmsprop":
        rho, epsilon = (tf.constant(value, dtype) for value in _defaults("RMSprop", "rho", "epsilon"))
        raw.ResourceApplyRMSProp(
            var=weights, ms=slots[1], mom=slots[0], lr=one, rho=rho, momentum=nothing, epsilon=epsilon, grad=gradient
        )
    elif name in ("momentum", "nesterov"):
        raw.ResourceApplyKerasMomentum(
            var=weights, accum=slots[0], lr=one, grad=gradient, momentum=own, use_nesterov=name == "nesterov"
        )
    else:
        read = [raw.ReadVariableOp(resource=slot, dtype=dtype) for slot in slots]
        if name == "momenta":
            new, change = _momenta(read, gradient, own)
        else:
            new, change = _mixed(read, gradient, step, own)
        for slot, value in zip(slots, new, strict=True):
            raw.AssignVariableOp(resource=slot, value=value)
        raw.AssignAddVariableOp(resource=weights, value=change)


def _momenta(slots: Sequence[Any], gradient: Any, numbers: Any) -> tuple[list[Any], Any]:
    """New slots, and what to add to the weights."""
    kept, of_slot, of_gradient = numbers
    after = slots[0] * kept - gradient
    return [after], after * of_slot + gradient * of_gradient


def _mixed(slots: Sequence[Any], gradient: Any, step: Any, numbers: Any) -> tuple[list[Any], Any]:
    """The same for any optimizers."""
    import tensorflow as tf

    dtype = gradient.dtype
    kept, of_slot, of_gradient, share, of_square, of_first, inside, outside = numbers
    is_adaptive = of_square > 0
    after = slots[0] * kept + gradient * share
    # Chosen before and after, since nothing times what is infinite is no number.
    own = tf.where(is_adaptive, gradient, tf.zeros((), dtype))
    squares = slots[1] + (own * own - slots[1]) * of_square
    beta_1, beta_2 = (tf.constant(value, dtype) for value in _defaults("Adam", "beta_1", "beta_2"))
    unbiased = tf.sqrt(1 - tf.pow(beta_2, step)) / (1 - tf.pow(beta_1, step))
    adaptive = after * (of_first * unbiased) + own * (1 - of_first)
    adaptive = adaptive / (tf.sqrt(squares + inside) + outside)
    return [after, squares], tf.where(is_adaptive, -adaptive, after * of_slot + gradient * of_gradient)


def _share(beta: float, dtype: Any) -> float:
    """What rounding makes of ``1 - beta``, as a share of it."""
    rounded = np.asarray(beta, dtype.as_numpy_dtype)
    return float((1 - rounded) / (1 - beta))


def _defaults(optimizer: str, *names: str) -> list[float]:
    """Numbers that the built-in model leaves as Keras has them."""
    import keras

    given = inspect.signature(getattr(keras.optimizers, optimizer)).parameters
    return [float(given[name].default) for name in names]
