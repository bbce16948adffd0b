"""Keras models that a user builds as one family: those of equal structure go together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpo_spark.data import Part
from hpo_spark.errors import CannotFuse, TrialPruned
from hpo_spark.fused.family import Candidate, Params
from hpo_spark.fused.load import too_large
from hpo_spark.fused.memory import bytes_of_model, in_stacks, item_size
from hpo_spark.fused.models import KerasModels
from hpo_spark.fused.template import Begun, Template, begun

if TYPE_CHECKING:
    from hpo_spark.objectives.keras import KerasObjective

__all__ = ["Stacked"]

# Of models that gain by company.
_USUAL_WEIGHTS, _USUAL_WIDEST = 100_000, 1024
# The largest load with which groups gain.
_MOST_LOAD = 6_000_000


class Stacked:
    """Models of any function, of which a stack's members differ in scalars and seeds only.

    Which parameters such scalars come from only the built models tell. A floating number may be one; all else is taken
    to be about the structure, and trials must have it in common.
    """

    draws = True

    def why_alone(self, objective: KerasObjective, params: Params) -> str | None:
        """Nothing that params tell."""
        return None

    def key(self, params: Params) -> Hashable:
        """All that is no floating number."""
        of_structure = {name: value for name, value in params.items() if not isinstance(value, float)}
        return repr(sorted(of_structure.items()))

    def begin(
        self, objective: KerasObjective, candidates: Sequence[Candidate]
    ) -> Iterator[tuple[Sequence[Candidate], KerasModels | BaseException]]:
        """A stack for each structure that more than one has."""
        import keras

        train = candidates[0].work.dataset.train
        groups: dict[str, list[tuple[Candidate, Begun]]] = defaultdict(list)
        templates: dict[str, Template] = {}
        for candidate in candidates:
            keras.backend.clear_session(free_memory=False)  # the task collects their cycles before and after
            try:
                model = objective.model_of(candidate.params, candidate.context)
            except (Exception, TrialPruned) as error:  # the others go on
                yield [candidate], error
                continue
            _check_layers(model)
            try:
                own, template = _read(model, train, templates)
            except CannotFuse as error:
                yield [candidate], error
                continue
            if refusal := too_large(template.load(candidate.work.n_step_rows), _MOST_LOAD):
                if not groups:  # so are the others, and no time is spent on them
                    raise refusal
                yield [candidate], refusal
                continue
            templates[own.structure] = template
            groups[own.structure].append((candidate, own))
        for structure, group in groups.items():
            template = templates[structure]
            for pairs in in_stacks(group, bytes_of_model(sum(template.sizes), template.widest, item_size())):
                those, members = zip(*pairs, strict=True)
                if len(group) > 1 == len(those):
                    yield those, CannotFuse("the model is so large that memory has no room for others beside it")
                elif len(those) == 1:
                    yield those, CannotFuse("no other model of the group has the same structure", for_key=False)
                else:
                    yield those, KerasModels.begin(template, members, those[0].context.shuffle_seed)

    def n_bytes(self, params: Params, input_shape: Sequence[int]) -> int:
        """What a usual small model needs, since params do not tell: the worker sees to larger ones."""
        return bytes_of_model(_USUAL_WEIGHTS, _USUAL_WIDEST)

    def model(self, objective: KerasObjective, candidate: Candidate) -> Any:
        """As it begins, since what the user builds may draw what it is made of."""
        return objective.model_of(candidate.params, candidate.context)


# Layers that TensorFlow cannot vectorise, as tracing them would show after a second or two.
_ALONE_ON_TENSORFLOW = ("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose")


def _check_layers(model: Any) -> None:
    """Raise `CannotFuse` for what is known to stay alone, before any time is spent on it."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return
    kinds = tuple(getattr(keras.layers, name) for name in _ALONE_ON_TENSORFLOW)
    if found := [layer for layer in model.layers if isinstance(layer, kinds)]:
        raise CannotFuse(f"TensorFlow cannot stack the layer {found[0].name!r}, a {type(found[0]).__name__}")


def _read(model: Any, train: Part, templates: Mapping[str, Template]) -> tuple[Begun, Template]:
    """What a model says of itself, and the template of its structure: a known one, or itself."""
    try:
        own = begun(model, train)
        return own, templates.get(own.structure) or Template(model, train)
    except CannotFuse:
        raise
    except Exception as error:  # alone it may train, or tell better what is wrong with it
        raise CannotFuse(f"the model cannot be read: {type(error).__name__}: {error}") from error
