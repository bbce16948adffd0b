"""One perceptron of a stack: what Keras would hold of it, and what is stored of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hpo_spark.fused.layout import Weights
from hpo_spark.fused.rules import slots_of_keras
from hpo_spark.objectives.mlp import Perceptron, hidden_layers, output_layer
from hpo_spark.seeds import seeded

__all__ = ["Member"]


@dataclass(frozen=True)
class Member:
    """A perceptron in training, as Keras has it.

    Attributes:
        model: What its params say.
        rate: Its learning rate, which may have been changed since.
        weights: Of its dense layers.
        slots: What rules keep of each weight (`hpo_spark.fused.rules.n_slots`); what its own has not means nothing.
        generators: For each of its layers, the state that the generator of a dropout begins with; None for a dense one.
    """

    model: Perceptron
    rate: float
    weights: Weights
    slots: tuple[Weights, Weights]
    generators: tuple[Any, ...]

    @classmethod
    def begin(cls, model: Perceptron, dataset: Any, seed: int) -> Member:
        """A perceptron as `hpo_spark.objectives.mlp.build_model` makes it after Keras was seeded.

        Initializers draw their seeds as layers are made, so that no model need be built of them.
        """
        import keras

        with seeded(seed % 2**32):  # not by Keras: TensorFlow would forget its kernels
            layers = [*hidden_layers(model), output_layer(model, dataset)]
        weights: Weights = []
        generators: list[Any] = []
        n_inputs = int(np.prod(dataset.input_shape, dtype=int))
        for layer in layers:
            if isinstance(layer, keras.layers.Dense):
                kernel = layer.kernel_initializer((n_inputs, layer.units), dtype=layer.variable_dtype)
                bias = layer.bias_initializer((layer.units,), dtype=layer.variable_dtype)
                weights.append((keras.ops.convert_to_numpy(kernel), keras.ops.convert_to_numpy(bias)))
                generators.append(None)
                n_inputs = layer.units
            else:
                generators.append(keras.ops.convert_to_numpy(layer.seed_generator.state))
        return cls(model, model.learning_rate, weights, (_like(weights),) * 2, tuple(generators))

    def stored(self) -> list[Weights]:
        """Weights and slots as rules take them: what is a sum of steps divided by the learning rate."""
        return self._scaled(1 / self.rate, self.weights, *self.slots)

    def from_stored(self, arrays: Sequence[Weights], read: Any) -> Member:
        """The same with what `stored` made of its weights and slots, in the first layer of some inputs only.

        Args:
            arrays: Weights, and slots.
            read: Which inputs these are, as an index; the weights of others are as they were.
        """
        before = (self.weights, *self.slots)
        now = [_put(old, read, new) for old, new in zip(before, self._scaled(self.rate, *arrays), strict=True)]
        return replace(self, weights=now[0], slots=(now[1], now[2]))

    def _scaled(self, factor: float, weights: Weights, first: Weights, second: Weights) -> list[Weights]:
        sums_steps = self.model.optimizer == "sgd"
        return [_times(weights, factor), _times(first, factor) if sums_steps else first, second]

    def variables(self, n_steps: int) -> list[Any]:
        """The variables of its model in Keras' order, after so many steps."""
        dense = iter(self.weights)
        found: list[Any] = []
        for generator in self.generators:
            # A generator's state is its seed, and how often it has drawn.
            found += next(dense) if generator is None else [generator + np.array([0, n_steps], generator.dtype)]
        return found

    def with_variables(self, variables: Sequence[Any]) -> Member:
        """The same with other variables, in Keras' order."""
        given = iter(variables)
        weights: Weights = []
        for generator in self.generators:
            one = next(given)
            if generator is None:
                weights.append((one, next(given)))
        return replace(self, weights=weights)

    def state(self, n_steps: int) -> list[Any]:
        """What `hpo_spark.objectives.training.state_of` gives of a model that was trained alone for so many steps."""
        slots = [self.slots[number] for number in slots_of_keras(self.model)]
        floatx = self.weights[0][0].dtype
        of_weights = (slot[layer][kind] for layer in range(len(self.weights)) for kind in range(2) for slot in slots)
        return [*self.variables(n_steps), np.array(n_steps, np.int32), np.array(self.rate, floatx), *of_weights]


def _times(weights: Weights, factor: float) -> Weights:
    return [(kernel * factor, bias * factor) for kernel, bias in weights]


def _put(old: Weights, read: Any, new: Weights) -> Weights:
    (kernel, bias), *others = new
    whole = old[0][0].copy()
    whole[read] = kernel
    return [(whole, bias), *others]


def _like(weights: Weights) -> Weights:
    return [(np.zeros_like(kernel), np.zeros_like(bias)) for kernel, bias in weights]
