"""Many Keras models of one structure that train as one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from hpo_spark.data import Part
from hpo_spark.fused.matrix import Batches, State, slot_lists
from hpo_spark.fused.template import Begun, Template
from hpo_spark.objectives.program import columns_of

__all__ = ["KerasModels", "forget_stacks", "loops_of"]

# Sizes that a stack is filled up to with copies of a member, so that few are compiled.
_SIZES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_MAX_KEPT = 4


class Loops(Protocol):
    """Compiled loops over the batches of a stack of one size."""

    def train(self, state: State, part: Part, batches: Batches, seeds: Sequence[int]) -> tuple[State, list[Any]]:
        """Take a step for each batch; the new state, and loss and metrics of each member."""

    def evaluate(self, state: State, part: Part, batches: Batches) -> list[Any]:
        """Loss and metrics of each member."""


class KerasModels:
    """A stack of Keras models in training.

    Args:
        template: A model like all members.
        structure: Which they share.
        state: Of the members.
        firsts: The variables that each member began with, in Keras' order.
        shuffle_seed: That of the order of batches; dropout draws from it too.
    """

    def __init__(
        self, template: Template, structure: str, state: State, firsts: Sequence[list[Any]], shuffle_seed: int
    ) -> None:
        self._template, self._structure, self._state = template, structure, state
        self._firsts = list(firsts)
        self._shuffle_seed = shuffle_seed

    @classmethod
    def begin(cls, template: Template, members: Sequence[Begun], shuffle_seed: int) -> KerasModels:
        """Members as each begins alone."""
        ids = {id(variable): place for place, variable in enumerate(template.model.variables)}
        places = [ids[id(variable)] for variable in template.trainable]
        matrix = np.stack([np.concatenate([one.variables[place].ravel() for place in places]) for one in members])
        others = [np.stack([one.variables[ids[id(variable)]] for one in members]) for variable in template.others]
        optimizer = template.model.optimizer
        optimizer.build(template.trainable)
        import keras

        slots = []
        for name in slot_lists(optimizer, len(template.trainable)):
            values = [keras.ops.convert_to_numpy(one).ravel() for one in getattr(optimizer, name)]
            slots.append(np.repeat(np.concatenate(values)[None], len(members), axis=0))
        state = State(
            matrix,
            others,
            slots,
            np.array([one.scalars for one in members], np.float64).reshape(len(members), -1),
            np.array([one.rates for one in members], np.float64).reshape(len(members), -1),
            np.array([one.learning_rate for one in members], np.float64),
        )
        return cls(template, members[0].structure, state, [one.variables for one in members], shuffle_seed)

    def __len__(self) -> int:
        return len(self._firsts)

    def train(self, part: Part, order: Any, batch_size: int, n_to_come: int = 0) -> dict[str, Any]:
        """Take a step for each batch."""
        seeds = self._template.seeds(self._shuffle_seed)
        state, found = self._loops(part).train(self._filled(), part, Batches(order, batch_size), seeds)
        self._state = state.taken(range(len(self)))
        return self._logs(found)

    def evaluate(self, part: Part, batch_size: int) -> dict[str, Any]:
        """Loss and metrics of each member on a part of the data."""
        batches = Batches(np.arange(len(part)), batch_size)
        return self._logs(self._loops(part).evaluate(self._filled(), part, batches))

    def load(self, batch_size: int) -> int:
        """What there is to do for a member at a step, as `load_of` has it."""
        return self._template.load(batch_size)

    def taken(self, numbers: Sequence[int]) -> KerasModels:
        """A stack of some members as they are now."""
        firsts = [self._firsts[number] for number in numbers]
        state = self._state.taken(numbers)
        return KerasModels(self._template, self._structure, state, firsts, self._shuffle_seed)

    def variables(self, numbers: Sequence[int]) -> list[list[Any]]:
        """For each of some members what Keras' ``model.variables`` would hold."""
        return [self._variables(number) for number in numbers]

    def states(self, numbers: Sequence[int]) -> list[list[Any]]:
        """For each of some members what `hpo_spark.objectives.training.state_of` would give of its model."""
        return [[*self._variables(number), *self._of_optimizer(number)] for number in numbers]

    def rate(self, number: int) -> float:
        """A member's learning rate."""
        return float(self._state.learning_rates[number])

    def change(self, variables: Mapping[int, Sequence[Any]], rates: Mapping[int, float]) -> None:
        """Give some members other variables, in the order of `variables`, and other learning rates."""
        template, state = self._template, self._state
        matrix, others = state.matrix.copy(), [value.copy() for value in state.others]
        learning_rates = state.learning_rates.copy()
        ids = {id(variable): place for place, variable in enumerate(template.model.variables)}
        for number, given in variables.items():
            own = [np.ravel(given[ids[id(variable)]]) for variable in template.trainable]
            matrix[number] = np.concatenate(own)
            for value, variable in zip(others, template.others, strict=True):
                value[number] = given[ids[id(variable)]]
        for number, rate in rates.items():
            learning_rates[number] = rate
        self._state = replace(state, matrix=matrix, others=others, learning_rates=learning_rates)

    def _variables(self, number: int) -> list[Any]:
        template, state = self._template, self._state
        found = list(self._firsts[number])
        ids = {id(variable): place for place, variable in enumerate(template.model.variables)}
        for variable, value in zip(template.trainable, self._split(state.matrix[number]), strict=True):
            found[ids[id(variable)]] = value
        for variable, value in zip(template.others, state.others, strict=True):
            found[ids[id(variable)]] = value[number]
        for variable in template.generators:
            # Its state is its seed, and how often it has drawn.
            place = ids[id(variable)]
            found[place] = found[place] + np.array([0, state.n_steps], found[place].dtype)
        return found

    def _of_optimizer(self, number: int) -> list[Any]:
        """The variables of its optimizer in Keras' order."""
        import keras

        template, state = self._template, self._state
        optimizer = template.model.optimizer
        known: dict[int, Any] = {id(optimizer._iterations): np.array(state.n_steps, np.int32)}
        if isinstance(optimizer._learning_rate, keras.Variable):
            known[id(optimizer._learning_rate)] = np.array(state.learning_rates[number])
        for name, value in zip(slot_lists(optimizer, len(template.trainable)), state.slots, strict=True):
            for variable, own in zip(getattr(optimizer, name), self._split(value[number]), strict=True):
                known[id(variable)] = own
        return [known[id(variable)].astype(str(variable.dtype)) for variable in optimizer.variables]

    def _split(self, row: Any) -> list[Any]:
        """A row of the matrix, or of a slot, variable by variable."""
        parts = np.split(row, np.cumsum(self._template.sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self._template.shapes, strict=True)]

    def _filled(self) -> State:
        n = size_of(len(self))
        return self._state.taken([*range(len(self)), *[0] * (n - len(self))])

    def _loops(self, part: Part) -> Loops:
        return loops_of(self._template, self._structure, size_of(len(self)), part)

    def _logs(self, found: Sequence[Any]) -> dict[str, Any]:
        names = self._template.names
        return {name: value[: len(self)] for name, value in zip(names, found, strict=True)}


def size_of(n: int) -> int:
    """How many members a stack is filled up to."""
    return n if n == 1 else next((size for size in _SIZES if size >= n), n)


_kept: OrderedDict[Any, Loops] = OrderedDict()
_lock = threading.Lock()


def loops_of(template: Template, structure: str, n_members: int, part: Part) -> Loops:
    """Loops for stacks of a structure and a size: kept ones, or new ones."""
    import keras

    from hpo_spark.fused.mapped import MappedProgram
    from hpo_spark.fused.vectorized import VectorizedProgram

    columns = tuple((column.shape[1:], column.dtype.str) for column in columns_of(part))
    key = structure, n_members, columns, part.divisor
    with _lock:
        loops = _kept.pop(key, None)
        if loops is None:
            on_jax = keras.backend.backend() == "jax"
            loops = MappedProgram(template, n_members) if on_jax else VectorizedProgram(template, n_members, part)
        _kept[key] = loops
        while len(_kept) > _MAX_KEPT:
            _kept.popitem(last=False)
    return loops


def forget_stacks() -> None:
    """Let go of all that is kept."""
    with _lock:
        _kept.clear()
