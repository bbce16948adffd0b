"""What Keras' callbacks see in the place of a model that trains among others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["StandIn", "is_known"]

# Callbacks that use no more of their model than a stand-in has.
_KNOWN = ("EarlyStopping", "ReduceLROnPlateau", "LearningRateScheduler")
_NAMED = ("early_stopping", "reduce_lr_on_plateau")


def is_known(callback: Any) -> bool:
    """Whether a callback, as an objective holds it, can do with a stand-in."""
    if isinstance(callback, Mapping):
        return all(name in _NAMED for name in callback)
    kind = type(callback)
    return kind.__name__ in _KNOWN and kind.__module__.startswith("keras.src.callbacks.")


class StandIn:
    """One member of a stack, as callbacks see it between epochs.

    Args:
        rate: Its learning rate.
        metrics: Of a model like it, which tell whether more of one is better.
        read: Gives its weights, as ``get_weights`` lists them.

    Attributes:
        stop_training: Whether a callback ended its training.
        optimizer: Has its learning rate, and nothing else.
        history: What Keras keeps of the epochs.
        given: The weights that a callback gave it; None for none.
    """

    def __init__(self, rate: float, metrics: Sequence[Any], read: Callable[[], list[Any]]) -> None:
        self.stop_training = False
        self.optimizer = _Optimizer(rate)
        self.metrics = list(metrics)
        self.history: Any = None
        self.given: list[Any] | None = None
        self._read = read

    def get_weights(self) -> list[Any]:
        """Its weights."""
        return self._read()

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Take other weights when its training ends."""
        self.given = list(weights)


class _Optimizer:
    def __init__(self, rate: float) -> None:
        self._rate = rate

    @property
    def learning_rate(self) -> float:
        return self._rate

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        self._rate = float(rate)
