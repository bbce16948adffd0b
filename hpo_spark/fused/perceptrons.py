"""Many perceptrons that train as one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from hpo_spark.data import Dataset, Part
from hpo_spark.fused.layout import Layout, Weights
from hpo_spark.fused.member import Member
from hpo_spark.fused.network import Form, dropout_seeds
from hpo_spark.fused.program import program_of
from hpo_spark.fused.rules import Rule, n_slots, rules_of
from hpo_spark.fused.tensors import Section, tensors_of
from hpo_spark.objectives.mlp import Perceptron, loss_and_metric, n_outputs
from hpo_spark.objectives.program import columns_of, tensor_of

__all__ = ["Perceptrons"]

# XLA takes about a second to compile a group, and saves some 0.25 ms a step, however many members there are.
_STEPS_THAT_PAY = 8_000


class Perceptrons:
    """A stack of built-in models in training.

    Args:
        members: Those that it holds.
        dataset: What they train on.
        shuffle_seed: That of the order of batches; dropout draws from it too.
        n_steps: Steps that were taken.
        jit_compile: Whether XLA compiles it; None for where that pays.
    """

    def __init__(
        self,
        members: Sequence[Member],
        dataset: Dataset,
        shuffle_seed: int,
        n_steps: int = 0,
        jit_compile: bool | None = None,
    ) -> None:
        self._dataset = dataset
        self._shuffle_seed = shuffle_seed
        self._n_steps = self._began = n_steps
        self._jit_compile, self._with_xla = jit_compile, bool(jit_compile)
        rules = rules_of([member.model for member in members])
        # The numbers of the members in the order of storage, and their places there.
        self._order = sorted(range(len(members)), key=lambda number: (rules[number], number))
        self._places = np.argsort(self._order)
        self._rules = [rules[number] for number in self._order]
        self._members = [members[number] for number in self._order]
        models = tuple(member.model for member in self._members)
        n_inputs = int(np.prod(dataset.input_shape, dtype=int))
        self._layout = Layout(models, n_inputs, n_outputs(models[0], dataset))
        self._variables = self._stored()

    @classmethod
    def begin(
        cls,
        models: Sequence[Perceptron],
        seeds: Sequence[int],
        dataset: Dataset,
        shuffle_seed: int,
        jit_compile: bool | None = None,
    ) -> Perceptrons:
        """Members as each begins alone with its seed."""
        members = [Member.begin(model, dataset, seed) for model, seed in zip(models, seeds, strict=True)]
        return cls(members, dataset, shuffle_seed, jit_compile=jit_compile)

    def __len__(self) -> int:
        return len(self._members)

    @property
    def n_weights(self) -> int:
        """Numbers that a member learns, on average and with its padding."""
        return int(sum(math.prod(weights.shape) for sections in self._variables for weights, *_ in sections)) // len(
            self
        )

    def train(self, part: Part, order: Any, batch_size: int, n_to_come: int = 0) -> dict[str, Any]:
        """Take a step for each batch, as `Stack.train` has it."""
        import tensorflow as tf

        program = program_of(self._form, part)
        columns = [tensor_of(column) for column in columns_of(part)]
        seeds = dropout_seeds(self._shuffle_seed, self._layout.n_layers)
        n_in_whole = len(order) - len(order) % batch_size
        whole, rest = np.reshape(order[:n_in_whole], (-1, batch_size)), np.reshape(order[n_in_whole:], (1, -1))
        if self._jit_compile is None:
            self._with_xla |= self._compiling_pays(len(whole) + n_to_come)
        sums = []
        for batches, with_xla in ((whole, self._with_xla), (rest, False)):
            if batches.size:
                numbers = (tf.constant(number, tf.int64) for number in (batches, self._n_steps))
                of_layers = tf.constant(seeds, tf.int64, shape=(len(seeds),))
                arguments = columns, self._tensors, self._handles, *numbers, of_layers
                sums.append(program.train(*arguments, with_xla=with_xla))
                self._n_steps += len(batches)
        return self._logs(sum(values) / len(order) for values in zip(*sums, strict=True))

    def _compiling_pays(self, n_to_come: int) -> bool:
        """Whether XLA gains more by so many steps than its compilation takes.

        Where members have left, others may leave soon, and each time a smaller group is compiled: then not before it
        would have paid already.
        """
        is_new, n_taken = self._began == 0, self._n_steps - self._began
        return n_to_come >= _STEPS_THAT_PAY and (is_new or n_taken >= _STEPS_THAT_PAY / 2)

    def evaluate(self, part: Part, batch_size: int) -> dict[str, Any]:
        """Loss and metric of each member on a part of the data, as `train` returns them."""
        import tensorflow as tf

        ends, size = tf.constant([0, len(part)], tf.int64), tf.constant(batch_size, tf.int64)
        columns = [tensor_of(column) for column in columns_of(part)]
        return self._logs(program_of(self._form, part).evaluate(columns, self._tensors, self._handles, ends, size))

    def taken(self, numbers: Sequence[int]) -> Perceptrons:
        """A stack of some members as they are now, in the order of their numbers here."""
        members = self._current()
        own = [members[number] for number in numbers]
        return Perceptrons(own, self._dataset, self._shuffle_seed, self._n_steps, self._jit_compile)

    def variables(self, numbers: Sequence[int]) -> list[list[Any]]:
        """For each of some members what Keras' ``model.variables`` would hold."""
        members = self._current()
        return [members[number].variables(self._n_steps) for number in numbers]

    def states(self, numbers: Sequence[int]) -> list[list[Any]]:
        """For each of some members what `hpo_spark.objectives.training.state_of` would give of its model."""
        members = self._current()
        return [members[number].state(self._n_steps) for number in numbers]

    def rate(self, number: int) -> float:
        """A member's learning rate."""
        return float(self._members[self._places[number]].rate)

    def change(self, variables: Mapping[int, Sequence[Any]], rates: Mapping[int, float]) -> None:
        """Give some members other variables, in the order of `variables`, and other learning rates."""
        members = self._current()
        for number, given in variables.items():
            members[number] = members[number].with_variables(given)
        for number, rate in rates.items():
            members[number] = replace(members[number], rate=rate)
        self._members = [members[number] for number in self._order]
        self._variables = self._stored()
        self.__dict__.pop("_tensors", None)

    @cached_property
    def _form(self) -> Form:
        import keras

        layout = self._layout
        deep = [[one for one in layout.members if len(one.units) > layer] for layer in range(layout.n_layers)]
        return Form(
            loss=self._loss_and_metric[0],
            n_outputs=layout.n_outputs,
            activations=tuple(
                tuple(sorted({one.activations[layer] for one in deep[layer]})) for layer in range(len(deep))
            ),
            drops=tuple(any(one.dropouts[layer] for one in deep[layer]) for layer in range(len(deep))),
            has_flat=not all(layout.depths),
            rules=tuple(rule.name for rule, _ in self._sections),
            has_penalty=any(one.l2 for one in layout.members),
            floatx=str(keras.config.floatx()),
        )

    @cached_property
    def _loss_and_metric(self) -> tuple[str, str]:
        return loss_and_metric(self._dataset)

    @cached_property
    def _sections(self) -> list[Section]:
        """The rules in use, each with the members that follow it."""
        rules = self._rules
        starts = [place for place in range(len(rules)) if place == 0 or rules[place] != rules[place - 1]]
        ends = [*starts[1:], len(rules)]
        return [(rules[start], slice(start, end)) for start, end in zip(starts, ends, strict=True)]

    @cached_property
    def _tensors(self) -> dict[str, Any]:
        rates = [member.rate for member in self._members]
        return tensors_of(self._layout, self._form, rates, self._sections)

    def _rows(self, kind: int) -> list[tuple[Rule, slice]]:
        """The rules in use, each with its rows of ``first`` (0) or of ``rest`` (1)."""
        if kind:
            return self._sections
        ends = [0, *self._layout.first_ends]
        return [(rule, slice(ends[those.start], ends[those.stop])) for rule, those in self._sections]

    def _stored(self) -> list[list[list[Any]]]:
        """Variables with weights and slots, section by section, of ``first`` and of ``rest``."""
        stored = [member.stored() for member in self._members]
        floatx = self._form.floatx
        packed = [
            self._layout.pack([one[min(index, len(one) - 1)] for one in stored], floatx)
            for index in range(max(map(len, stored)))
        ]
        return [
            [
                [_variable(arrays[kind][rows]) for arrays in packed[: 1 + n_slots(rule.name)]]
                for rule, rows in self._rows(kind)
            ]
            for kind in range(2)
        ]

    @property
    def _handles(self) -> Any:
        return [
            [(weights.handle, [slot.handle for slot in slots]) for weights, *slots in sections]
            for sections in self._variables
        ]

    def _current(self) -> list[Member]:
        """The members as they are now, by their numbers."""
        arrays = [[[one.numpy() for one in section] for section in sections] for sections in self._variables]
        n_tensors = max(map(len, arrays[0]))
        # Of a rule that keeps less than another the last stands for what it has not.
        whole = [
            [np.concatenate([section[min(index, len(section) - 1)] for section in sections]) for sections in arrays]
            for index in range(n_tensors)
        ]
        found = []
        for place in self._places:
            member = self._members[place]
            own: list[Weights] = [
                self._layout.unpack(first, rest, int(place)) for first, rest in whole[: 1 + len(member.slots)]
            ]
            found.append(member.from_stored(own))
        return found

    def _logs(self, found: Iterable[Any]) -> dict[str, Any]:
        by_number = self._layout_places
        return {
            name: values.numpy()[by_number]
            for name, values in zip(("loss", self._loss_and_metric[1]), found, strict=True)
        }

    @cached_property
    def _layout_places(self) -> Any:
        """The place in the network of each member, by its number."""
        return np.argsort(self._layout.by_depth)[self._places]


def _variable(array: Any) -> Any:
    import tensorflow as tf

    return tf.Variable(array, trainable=False)
