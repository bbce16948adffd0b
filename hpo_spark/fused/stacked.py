"""Keras models that a user builds as one family: those of equal structure go together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

from hpo_spark.fused.family import Candidate, Params
from hpo_spark.fused.memory import bytes_of_weights, in_stacks
from hpo_spark.fused.models import KerasModels
from hpo_spark.fused.template import Begun, Template, begun
from hpo_spark.objectives.function import call_with_context

if TYPE_CHECKING:
    from hpo_spark.objectives.keras import KerasObjective

__all__ = ["Stacked"]


class Stacked:
    """Models of any function, of which a stack's members differ in scalars and seeds only.

    Which parameters such scalars come from only the built models tell. A floating number may be one; all else is taken
    to be about the structure, and trials must have it in common.
    """

    def why_alone(self, objective: KerasObjective, params: Params) -> str | None:
        """Nothing that params tell."""
        return None

    def key(self, params: Params) -> Hashable:
        """All that is no floating number."""
        of_structure = {name: value for name, value in params.items() if not isinstance(value, float)}
        return repr(sorted(of_structure.items()))

    def begin(
        self, objective: KerasObjective, candidates: Sequence[Candidate]
    ) -> Iterator[tuple[Sequence[Candidate], KerasModels | None]]:
        """A stack for each structure that more than one has; None for the others."""
        import keras

        train = candidates[0].work.dataset.train
        groups: dict[str, list[tuple[Candidate, Begun]]] = defaultdict(list)
        templates: dict[str, Template] = {}
        for candidate in candidates:
            keras.backend.clear_session()
            keras.utils.set_random_seed(candidate.context.seed)
            model = call_with_context(objective.build_model, candidate.params, candidate.context)
            own = begun(model, train)
            groups[own.structure].append((candidate, own))
            if own.structure not in templates:
                templates[own.structure] = Template(model, train)
        for structure, group in groups.items():
            n_weights = sum(templates[structure].sizes)
            for pairs in in_stacks(group, bytes_of_weights(n_weights)):
                those, members = zip(*pairs, strict=True)
                if len(those) == 1:
                    yield those, None
                else:
                    yield those, KerasModels.begin(templates[structure], members, those[0].context.shuffle_seed)

    def n_bytes(self, params: Params, input_shape: Sequence[int]) -> int:
        """Nothing that params tell: the worker sees to it."""
        return 0
