"""Keras' optimizers for the weights of many members with a rate each.

TensorFlow has kernels that update a whole tensor in one pass over the memory, three to five times faster than the same
rule written out; but they take one rate. So weights are stored divided by their member's learning rate, and the kernel
takes a rate of 1: where a rule steps by the rate times something that it makes of gradients alone, as the three of the
built-in model do, the rate is a factor of the whole sum of steps. Momentum is one number too; members that share it
share a rule, and where there are too many, the rule is written out.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpo_spark.objectives.mlp import Perceptron

__all__ = ["Rule", "apply_rule", "n_slots", "rules_of", "slots_of_keras"]

# Kernels of one momentum each that are used beside one another; members that share none of these are put together.
_MAX_MOMENTA = 3


@dataclass(frozen=True, order=True)
class Rule:
    """How some members are updated.

    Attributes:
        name: ``adam``, ``rmsprop``, ``momentum``, ``nesterov``, or ``momenta`` for SGD with a momentum for each.
        momentum: That of all of them; 0 for other rules than ``momentum`` and ``nesterov``.
    """

    name: str
    momentum: float = 0.0


def rules_of(members: Sequence[Perceptron]) -> list[Rule]:
    """The rule of each member."""
    alone = [_alone(member) for member in members]
    counts = Counter(rule for rule in alone if rule.name in ("momentum", "nesterov"))
    if len(counts) <= _MAX_MOMENTA:
        return alone
    return [Rule("momenta") if rule in counts else rule for rule in alone]


def _alone(member: Perceptron) -> Rule:
    if member.optimizer != "sgd":
        return Rule(member.optimizer)
    # Nesterov's momentum of 0 is none, as in Keras.
    return Rule("nesterov" if member.nesterov and member.momentum else "momentum", member.momentum)


def n_slots(name: str) -> int:
    """Tensors of the weights' shape that a rule keeps."""
    return 2 if name in ("adam", "rmsprop") else 1


def slots_of_keras(member: Perceptron) -> list[int]:
    """Which slots of its rule a member's Keras optimizer keeps, in its order of variables."""
    if member.optimizer == "adam":
        return [0, 1]
    return [0] if member.optimizer == "rmsprop" or member.momentum else []


def apply_rule(name: str, weights: Any, slots: Sequence[Any], gradient: Any, step: Any, momentum: Any) -> None:
    """Update weights that are stored divided by their learning rates.

    Args:
        name: Of the rule.
        weights: Handle of the variable, ``(rows, numbers)``.
        slots: Handles of the rule's slots, of the same shape.
        gradient: Of the loss by the weights, not divided by anything.
        step: Counts from 1, in the type of the weights.
        momentum: Of the rule; for ``momenta`` two columns, ``(rows, 1)`` each: the momentum, and 1 for Nesterov's.
    """
    import tensorflow as tf

    raw, dtype = tf.raw_ops, gradient.dtype
    one = tf.ones((), dtype)
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
            var=weights, ms=slots[0], mom=slots[1], lr=one, rho=rho,
            momentum=tf.zeros((), dtype), epsilon=epsilon, grad=gradient,
        )  # fmt: skip
    elif name in ("momentum", "nesterov"):
        raw.ResourceApplyKerasMomentum(
            var=weights, accum=slots[0], lr=one, grad=gradient, momentum=momentum, use_nesterov=name == "nesterov"
        )
    else:
        momenta, is_nesterov = momentum
        before = raw.ReadVariableOp(resource=slots[0], dtype=dtype)
        after = before * momenta - gradient
        raw.AssignVariableOp(resource=slots[0], value=after)
        step_taken = after * (1 + is_nesterov * (momenta - 1)) - is_nesterov * gradient
        raw.AssignAddVariableOp(resource=weights, value=step_taken)


def _share(beta: float, dtype: Any) -> float:
    """What rounding makes of ``1 - beta``, as a share of it."""
    rounded = np.asarray(beta, dtype.as_numpy_dtype)
    return float((1 - rounded) / (1 - beta))


def _defaults(optimizer: str, *names: str) -> list[float]:
    """Numbers that the built-in model leaves as Keras has them."""
    import keras

    given = inspect.signature(getattr(keras.optimizers, optimizer)).parameters
    return [float(given[name].default) for name in names]
