"""The built-in model's whole space as one family."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hpo_spark.errors import CannotFuse
from hpo_spark.fused.family import Candidate, Params
from hpo_spark.fused.layout import NARROW
from hpo_spark.fused.load import too_large
from hpo_spark.fused.memory import bytes_of_perceptron, in_stacks, item_size
from hpo_spark.fused.network import ELEMENTWISE
from hpo_spark.fused.perceptrons import Perceptrons
from hpo_spark.objectives.mlp import Perceptron, build_model, n_outputs, read_params

if TYPE_CHECKING:
    from hpo_spark.objectives.keras import KerasObjective

__all__ = ["Mlps"]

# The largest load with which groups gain.
_MOST_LOAD = 8_000_000


class Mlps:
    """Models of `hpo_spark.objectives.mlp.build_model`."""

    draws = False

    def why_alone(self, objective: KerasObjective, params: Params) -> str | None:
        """Why a configuration must be trained alone."""
        others = [name for name in read_params(params).activations if name not in ELEMENTWISE]
        return f"the activation {others[0]} does not look at each unit alone" if others else None

    def key(self, params: Params) -> Hashable:
        """The number of classes, where it is a parameter, and the class of width.

        What wide models gain says nothing of narrow ones.
        """
        model = read_params(params)
        return model.n_classes, _width_class(model)

    def begin(
        self, objective: KerasObjective, candidates: Sequence[Candidate]
    ) -> Iterator[tuple[Sequence[Candidate], Perceptrons | CannotFuse]]:
        """A stack for each range of widths."""
        dataset = candidates[0].work.dataset
        groups: dict[int, list[tuple[Candidate, Perceptron]]] = defaultdict(list)
        for candidate in candidates:
            model = read_params(candidate.params)
            if dataset.n_classes is not None and n_outputs(model, dataset) < dataset.n_classes:
                raise CannotFuse("there are more classes in the data than n_classes")
            groups[_width_class(model)].append((candidate, model))
        n_inputs, size = math.prod(dataset.input_shape), item_size()
        for group in groups.values():
            needs = (bytes_of_perceptron(one, n_inputs, n_outputs(one, dataset), size) for _, one in group)
            for pairs in in_stacks(group, max(needs)):
                those, models = zip(*pairs, strict=True)
                contexts = [candidate.context for candidate in those]
                seeds = [context.seed for context in contexts]
                options = contexts[0].shuffle_seed, objective.jit_compile, contexts[0].deterministic
                stack = Perceptrons.begin(models, seeds, dataset, *options)
                yield those, too_large(stack.load(candidates[0].work.n_step_rows), _MOST_LOAD) or stack

    def n_bytes(self, params: Params, input_shape: Sequence[int]) -> int:
        """An estimate from the params and the shape of an input."""
        model = read_params(params)
        return bytes_of_perceptron(model, math.prod(input_shape), n_outputs(model, None))

    def model(self, objective: KerasObjective, candidate: Candidate) -> Any:
        """Not seeded, since TensorFlow would forget its kernels."""
        return objective.as_asked(build_model(candidate.params, candidate.context))


def _width_class(model: Perceptron) -> int:
    """0 for narrow ones, and the power of two that the widest layer needs for others.

    Members are padded to the widest hidden layer among them.
    """
    widest = max((0, *model.units))
    return 0 if widest <= NARROW else (widest - 1).bit_length()
