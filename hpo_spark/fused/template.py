"""A Keras model as functions of its variables, for one member of a stack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any

import numpy as np

from hpo_spark.data import Part
from hpo_spark.errors import CannotFuse
from hpo_spark.fused.load import load_of
from hpo_spark.fused.scalars import replaced, replaced_in_model, scalars_of_model, scalars_of_optimizer, values_of
from hpo_spark.objectives.program import Program
from hpo_spark.objectives.structure import structure_of
from hpo_spark.seeds import derive_seed

__all__ = ["Begun", "Template", "begun"]

# Tells the generators of layers from others that are seeded with the same seed.
_LAYER_STREAM = 0x57AC
# What optimizers do by norms of whole variables, or beside them, would go from one member to another.
_NOT_BY_NUMBER = ("clipnorm", "global_clipnorm", "loss_scale_factor", "gradient_accumulation_steps")


@dataclass(frozen=True)
class Begun:
    """What a built model says of its training.

    Attributes:
        structure: Equal for models that can be members of one stack.
        variables: The model's, in Keras' order.
        scalars: Its dropouts' rates and regularisers' factors.
        rates: Its optimizer's numbers.
        learning_rate: 0 where that follows a schedule.
    """

    structure: str
    variables: list[Any]
    scalars: list[float]
    rates: list[float]
    learning_rate: float


def begun(model: Any, part: Part) -> Begun:
    """What a model that was just built says of its training.

    Raises:
        CannotFuse: If it cannot be a member of a stack.
    """
    import keras

    optimizer = model.optimizer
    layers = list(model._flatten_layers())
    if not all(layer.built for layer in layers):
        Program(model).build(part)
    if optimizer.use_ema or any(getattr(optimizer, name) for name in _NOT_BY_NUMBER):
        raise CannotFuse(f"the optimizer {type(optimizer).__name__} does not look at each weight alone")
    if any(variable.constraint is not None for variable in model.trainable_variables):
        raise CannotFuse("a constraint looks at more than one weight")
    if type(optimizer).__name__ != "SGD" and any(isinstance(one, keras.layers.Embedding) for one in layers):
        # It squares the gradient of each row that an embedding takes, and others that of their sum.
        raise CannotFuse(f"{type(optimizer).__name__} treats the gradients of an embedding as Keras alone can")
    if len({str(variable.dtype) for variable in model.trainable_variables}) != 1:
        raise CannotFuse("the weights are of several types")
    places = scalars_of_model(model)
    with replaced(places, [0.5] * len(places)):  # what differs in these only is of one structure
        structure = structure_of(model, part)
    if structure is None:
        raise CannotFuse("a part of the model is not Keras' own")
    variables = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
    scalars, rates = values_of(places), values_of(scalars_of_optimizer(optimizer))
    has_rate = isinstance(optimizer._learning_rate, keras.Variable)
    rate = float(keras.ops.convert_to_numpy(optimizer._learning_rate)) if has_rate else 0.0
    return Begun(structure, variables, scalars, rates, rate)


class Template:
    """The model whose layers all members go through.

    Args:
        model: One of them, compiled; it is not to be used for anything else.
        part: Rows like those that come.
    """

    def __init__(self, model: Any, part: Part) -> None:
        Program(model).build(part)
        self.model = model
        self._lengths = part.x.shape[1:]
        self.trainable = list(model.trainable_variables)
        known = {id(variable) for variable in self.trainable}
        rest = [variable for variable in model.variables if id(variable) not in known]
        self.generators = [variable for variable in rest if variable.path.endswith("seed_generator_state")]
        self.others = [variable for variable in rest if not variable.path.endswith("seed_generator_state")]
        self.metrics = list(model.metrics_variables)
        self.places = scalars_of_model(model)
        self.shapes = [tuple(variable.shape) for variable in self.trainable]
        self.sizes = [int(np.prod(shape, dtype=int)) for shape in self.shapes]

    @cached_property
    def names(self) -> list[str]:
        """Names of loss and metrics."""
        return list(self.model.get_metrics_result())

    @cached_property
    def widest(self) -> int:
        """Numbers that the largest layer makes of a row; lengths that vary count as 1."""
        import keras

        outputs = keras.tree.flatten([getattr(layer, "output", []) for layer in self.model._flatten_layers()])
        return max((math.prod(size or 1 for size in output.shape[1:]) for output in outputs), default=0)

    def load(self, batch_size: int) -> int:
        """What there is to do at a step, as `load_of` has it."""
        return load_of(sum(self.sizes), batch_size, _n_products(self.model, self._lengths))

    def seeds(self, shuffle_seed: int) -> list[int]:
        """A seed for each random layer: members share the numbers that these draw, whoever their company is.

        At step s of a training the generator of the layer holds ``[seed, s]``.
        """
        return [derive_seed(shuffle_seed, _LAYER_STREAM, layer) for layer in range(len(self.generators))]

    def run(
        self,
        trainable: Sequence[Any],
        others: Sequence[Any],
        metrics: Sequence[Any],
        scalars: Sequence[Any],
        generators: Sequence[Any],
        batch: Sequence[Any],
        training: bool,
    ) -> tuple[Any, list[Any], list[Any]]:
        """What a batch makes of one member.

        Args:
            trainable, others, metrics: Its variables' values.
            scalars: Its dropouts' rates and regularisers' factors.
            generators: States of the random layers.
            batch: Inputs, targets and, if there are any, weights.
            training: Whether it is trained rather than evaluated.

        Returns:
            The loss, and new values of ``others`` and of ``metrics``.
        """
        import keras

        model, (x, y, *weights) = self.model, batch
        weight = weights[0] if weights else None
        holders = [*self.trainable, *self.others, *self.metrics, *self.generators]
        mapping = zip(holders, [*trainable, *others, *metrics, *generators], strict=True)
        with (
            replaced_in_model(self.places, scalars),
            keras.StatelessScope(state_mapping=list(mapping)) as scope,
        ):
            outputs = model(x, training=training) if model._call_has_training_arg else model(x)
            loss = model._compute_loss(x=x, y=y, y_pred=outputs, sample_weight=weight, training=training)
            model._loss_tracker.update_state(loss, sample_weight=keras.ops.shape(x)[0])
            model.compute_metrics(x, y, outputs, sample_weight=weight)
        new = [
            [value if (current := scope.get_current_value(holder)) is None else current for holder, value in pairs]
            for pairs in (zip(self.others, others, strict=True), zip(self.metrics, metrics, strict=True))
        ]
        return loss, new[0], new[1]

    def results(self, metrics: Sequence[Any]) -> list[Any]:
        """Loss and metrics of one member, from the values of its metrics' variables."""
        import keras

        with keras.StatelessScope(state_mapping=list(zip(self.metrics, metrics, strict=True))):
            return list(self.model.get_metrics_result().values())


def _n_products(layer: Any, lengths: Sequence[int], n_places: int = 1) -> int:
    """Products for a row on the way forwards: each weight is in one for each place of the layer's input.

    Args:
        layer: A layer or a model.
        lengths: The shape of an input of the data, which tells lengths that the model leaves open.
        n_places: Of the layer that it is a part of, such as time steps or pixels.
    """
    import keras

    first = next(iter(keras.tree.flatten(getattr(layer, "input", None))), None)
    if first is not None:
        sizes = zip_longest(first.shape[1:-1], lengths[: len(first.shape) - 2])
        n_places = math.prod(size or length or 1 for size, length in sizes)
    is_looked_up = isinstance(layer, keras.layers.Embedding)
    own = 0 if is_looked_up else sum(math.prod(variable.shape) for variable in layer._trainable_variables)
    return own * n_places + sum(_n_products(part, lengths, n_places) for part in layer._layers)
