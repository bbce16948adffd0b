"""Numbers of an optimizer that a compiled loop reads when it runs, so that trials with other rates can share it.

Keras keeps the learning rate in a variable and compiles the others, such as the momentum, as constants. Here these are
variables too. They are in double precision and turn into the type of the weights where a constant would, so that a loop
gives the same numbers as one with constants.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Rates", "described_rates"]

# By the exact class, of the optimizers all of whose state is in `optimizer.variables`.
_NAMES: dict[str, tuple[str, ...]] = {
    "SGD": ("momentum", "weight_decay"),
    "RMSprop": ("rho", "momentum", "weight_decay"),
    "Adam": ("beta_1", "beta_2", "weight_decay"),
    "AdamW": ("beta_1", "beta_2", "weight_decay"),
    "Adamax": ("beta_1", "beta_2", "weight_decay"),
    "Adagrad": ("weight_decay",),
    "Adadelta": ("rho", "weight_decay"),
    "Lion": ("beta_1", "beta_2", "weight_decay"),
}


def described_rates(optimizer: Any) -> dict[str, bool] | None:
    """The numbers that may differ between optimizers that share a loop, and whether each is above zero.

    Optimizers leave out what zero does not need, so that it makes another loop.

    Returns:
        None for an optimizer that shares none.
    """
    import keras

    kind = type(optimizer).__name__
    if kind not in _NAMES or type(optimizer) is not getattr(keras.optimizers, kind):
        return None
    values = {name: getattr(optimizer, name) for name in _NAMES[kind]}
    return {name: value > 0 for name, value in values.items() if type(value) in (int, float)}


class Rates:
    """The variables of one compiled model's optimizer.

    Args:
        optimizer: The optimizer.
        names: Which of its numbers are variables.
    """

    def __init__(self, optimizer: Any, names: list[str]) -> None:
        self._optimizer = optimizer
        self._numbers = {name: _Number(getattr(optimizer, name)) for name in names}

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Show the variables to Keras in place of the numbers, while it compiles."""
        values = {name: getattr(self._optimizer, name) for name in self._numbers}
        try:
            for name, number in self._numbers.items():
                setattr(self._optimizer, name, number)
            yield
        finally:
            for name, value in values.items():
                setattr(self._optimizer, name, value)

    def take(self, optimizer: Any) -> None:
        """Take the numbers of another optimizer."""
        for name, number in self._numbers.items():
            value = getattr(optimizer, name)
            setattr(self._optimizer, name, value)
            number.variable.assign(value)


class _Number:
    """A variable in the place of a Python number; what else than this optimizers do with one raises `TypeError`."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: float) -> None:
        import tensorflow as tf

        self.variable = tf.Variable(value, dtype=tf.float64, trainable=False)
        self._is_positive = value > 0

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        return self._cast(self.variable, dtype)

    def __rsub__(self, other: float) -> Any:
        return self._cast(other - self.variable)

    def __gt__(self, other: float) -> bool:
        _check_zero(other)
        return self._is_positive

    def __eq__(self, other: object) -> bool:
        _check_zero(other)
        return not self._is_positive

    @staticmethod
    def _cast(value: Any, dtype: Any = None) -> Any:
        import keras
        import tensorflow as tf

        return tf.cast(value, dtype or keras.config.floatx())


def _check_zero(other: object) -> None:
    if other != 0:
        raise TypeError(f"A rate that is a variable can be compared with 0 only, got {other!r}.")
