"""Numbers of a Keras model that are not variables, yet may differ between members of a stack.

Keras compiles a dropout's rate, a regulariser's factor and an optimizer's momentum as constants. While a stack is
compiled, tensors stand in their places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from hpo_spark.objectives.rates import described_rates

__all__ = ["Scalar", "replaced", "replaced_in_model", "scalars_of_model", "scalars_of_optimizer", "values_of"]

# A place: an object, and the name of its attribute.
Place = tuple[Any, str]

_FACTORS = {"L1": ("l1",), "L2": ("l2",), "L1L2": ("l1", "l2")}


def scalars_of_model(model: Any) -> list[Place]:
    """The rates of dropouts and the factors of regularisers that a model holds, above 0 only."""
    places: list[Place] = []
    for layer in model._flatten_layers():
        if _is_dropout(layer) and layer.rate > 0 and layer.noise_shape is None:
            places.append((layer, "rate"))
    for variable in model.trainable_variables:
        factors = _FACTORS.get(type(variable.regularizer).__name__, ())
        places += [(variable.regularizer, name) for name in factors if float(getattr(variable.regularizer, name)) > 0]
    seen: dict[tuple[int, str], Place] = {(id(holder), name): (holder, name) for holder, name in places}
    return list(seen.values())


def scalars_of_optimizer(optimizer: Any) -> list[Place]:
    """The rates of an optimizer that are above 0, but for the learning rate."""
    return [(optimizer, name) for name, is_above in (described_rates(optimizer) or {}).items() if is_above]


def values_of(places: Sequence[Place]) -> list[float]:
    """The numbers in some places, as Keras takes them: factors of regularisers in single precision."""
    kinds = {"l1": np.float32, "l2": np.float32}
    return [float(kinds.get(name, float)(getattr(holder, name))) for holder, name in places]


def _is_dropout(layer: Any) -> bool:
    import keras

    return type(layer) is keras.layers.Dropout


@contextmanager
def replaced_in_model(places: Sequence[Place], values: Sequence[Any]) -> Iterator[None]:
    """Have tensors in the places of a model, for a ``with`` block in which it is called."""
    pairs = list(zip(places, values, strict=True))
    dropouts = [(layer, value) for (layer, name), value in pairs if name == "rate"]
    factors = [(place, Scalar(value)) for place, value in pairs if place[1] != "rate"]
    try:
        for layer, rate in dropouts:
            layer.call = partial(_drop, layer, rate)
        with replaced([place for place, _ in factors], [value for _, value in factors]):
            yield
    finally:
        for layer, _ in dropouts:
            del layer.call


def _drop(layer: Any, rate: Any, inputs: Any, training: bool = False) -> Any:
    """What a dropout does; Keras' own takes no tensor for its rate."""
    from keras import ops, random

    if not training:
        return inputs
    rate = ops.cast(rate, inputs.dtype)
    drawn = random.uniform(ops.shape(inputs), dtype=inputs.dtype, seed=layer.seed_generator)
    return ops.where(drawn >= rate, inputs * (1 / (1 - rate)), ops.zeros((), inputs.dtype))


@contextmanager
def replaced(places: Sequence[Place], values: Sequence[Any]) -> Iterator[None]:
    """Have other numbers in some places, for a ``with`` block."""
    before = [getattr(holder, name) for holder, name in places]
    try:
        for (holder, name), value in zip(places, values, strict=True):
            setattr(holder, name, value)
        yield
    finally:
        for (holder, name), value in zip(places, before, strict=True):
            setattr(holder, name, value)


class Scalar:
    """A tensor in the place of a Python number above 0; whatever else is done with one than this raises `TypeError`.

    Args:
        tensor: The number.
        complement: 1 less it, which was rounded after that was taken, as Keras does; None where nothing needs it.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tensor: Any, complement: Any = None) -> None:
        self._tensor, self._complement = tensor, complement

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        return self._cast(self._tensor, dtype)

    def __jax_array__(self) -> Any:
        return self._cast(self._tensor)

    def __rsub__(self, other: float) -> Any:
        if other != 1 or self._complement is None:
            raise TypeError(f"A number that differs between members can be taken from 1 only, got {other!r}.")
        return self._cast(self._complement)

    def __gt__(self, other: float) -> bool:
        _check(other)
        return True

    def __eq__(self, other: object) -> bool:
        _check(other)
        return False

    @staticmethod
    def _cast(value: Any, dtype: Any = None) -> Any:
        import keras

        return keras.ops.cast(value, keras.backend.standardize_dtype(dtype) if dtype else keras.config.floatx())


def _check(other: object) -> None:
    if other != 0:
        raise TypeError(f"A number that differs between members can be compared with 0 only, got {other!r}.")
