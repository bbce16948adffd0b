"""Many perceptrons that train as one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from hpo_spark.data import Dataset, Part
from hpo_spark.fused.inputs import Inputs, trimmed
from hpo_spark.fused.layout import NARROW, Room
from hpo_spark.fused.load import load_of
from hpo_spark.fused.member import Member
from hpo_spark.fused.network import Form, dropout_seeds
from hpo_spark.fused.program import XlaRefused, can_compile, compiled_room, program_of
from hpo_spark.fused.rules import Rule, common_rule, rules_of
from hpo_spark.fused.storage import Storage, form_of, sections_of
from hpo_spark.objectives.mlp import Perceptron, loss_and_metric, n_outputs
from hpo_spark.objectives.program import columns_of, tensor_of

__all__ = ["Perceptrons"]

logger = logging.getLogger(__name__)

# XLA takes one or two seconds to compile a program, and saves some 0.25 ms a step, however many members there are.
_STEPS_THAT_PAY = 8_000


class Perceptrons:
    """A stack of built-in models in training.

    Args:
        members: Those that it holds.
        dataset: What they train on.
        shuffle_seed: That of the order of batches; dropout draws from it too.
        n_steps: Steps that were taken.
        jit_compile: Whether XLA compiles it; None for where that pays.
        deterministic: Whether the last digits must not depend on what this process has trained before.
    """

    def __init__(
        self,
        members: Sequence[Member],
        dataset: Dataset,
        shuffle_seed: int,
        n_steps: int = 0,
        jit_compile: bool | None = None,
        deterministic: bool = False,
    ) -> None:
        self._dataset = dataset
        self._shuffle_seed = shuffle_seed
        self._n_steps = self._began = n_steps
        self._jit_compile, self._with_xla = jit_compile, bool(jit_compile)
        self._deterministic = deterministic
        # As they were when they were put into storage; their numbers in its order; and it, once somebody asks for it.
        self._members = list(members)
        self._order = list(range(len(members)))
        self._storage: Storage | None = None
        # The rule of each, and the form, the room and the inputs of the storage.
        self._places: tuple[Sequence[Rule], Form, Room, Inputs]

    @classmethod
    def begin(
        cls,
        models: Sequence[Perceptron],
        seeds: Sequence[int],
        dataset: Dataset,
        shuffle_seed: int,
        jit_compile: bool | None = None,
        deterministic: bool = False,
    ) -> Perceptrons:
        """Members as each begins alone with its seed."""
        members = [Member.begin(model, dataset, seed) for model, seed in zip(models, seeds, strict=True)]
        return cls(members, dataset, shuffle_seed, jit_compile=jit_compile, deterministic=deterministic)

    def __len__(self) -> int:
        return len(self._members)

    def train(self, part: Part, order: Any, batch_size: int, n_to_come: int = 0) -> dict[str, Any]:
        """Take a step for each batch, as `Stack.train` has it."""
        import tensorflow as tf

        rows, sizes = _batches(order, min(batch_size, len(order)))
        if self._jit_compile is None:
            self._with_xla |= self._compiling_pays(len(rows) + n_to_come)
        storage = self._storage
        if self._with_xla and can_compile(self._form, part):
            inputs = self._inputs_for_xla(part)
            if storage is None or not storage.form.for_xla or storage.inputs is not inputs:
                storage = self._move_for_xla(part, inputs, rows.shape, len(rows) + n_to_come)
        storage = storage or self._move_for_kernels()
        own = storage.inputs.of(part)
        seeds = dropout_seeds(self._shuffle_seed, storage.form.n_layers)
        try:
            sums = program_of(storage.form, own).train(
                [tensor_of(column) for column in columns_of(own)],
                storage.tensors,
                storage.handles,
                *(tf.constant(numbers, tf.int64) for numbers in (rows, sizes, self._n_steps)),
                tf.constant(seeds, tf.int64, shape=(len(seeds),)),
            )
        except XlaRefused as error:
            logger.warning("XLA compiles no groups of this form, and they train without it: %s", error)
            self._jit_compile = self._with_xla = False
            self._move_for_kernels()
            return self.train(part, order, batch_size, n_to_come)
        self._n_steps += len(rows)
        return self._logs(values / len(order) for values in sums)

    def _compiling_pays(self, n_to_come: int) -> bool:
        """Whether XLA gains more by so many steps than its compilation takes.

        Where members have left, others may leave soon, and each time it may have to compile for a smaller group: then
        not before that would have paid already.
        """
        is_new, n_taken = self._began == 0, self._n_steps - self._began
        return n_to_come >= _STEPS_THAT_PAY and (is_new or n_taken >= _STEPS_THAT_PAY / 2)

    def evaluate(self, part: Part, batch_size: int) -> dict[str, Any]:
        """Loss and metric of each member on a part of the data, as `train` returns them."""
        import tensorflow as tf

        storage = self._storage or self._move_for_kernels()
        ends, size = tf.constant([0, len(part)], tf.int64), tf.constant(batch_size, tf.int64)
        columns = [tensor_of(column) for column in columns_of(part)]
        # TensorFlow's kernels evaluate, also where XLA trains.
        program = program_of(replace(storage.form, for_xla=False, is_narrow=False), part)
        return self._logs(program.evaluate(columns, storage.tensors, storage.handles, storage.unread, ends, size))

    def load(self, batch_size: int) -> int:
        """What there is to do for a member at a step, on average and padded to the widest, as `load_of` has it."""
        return load_of(self._room.n_numbers(self._inputs.n_columns, self._n_outputs) // len(self), batch_size)

    def taken(self, numbers: Sequence[int]) -> Perceptrons:
        """A stack of some members as they are now, in the order of their numbers here."""
        members = self._current()
        own = [members[number] for number in numbers]
        return Perceptrons(
            own, self._dataset, self._shuffle_seed, self._n_steps, self._jit_compile, self._deterministic
        )

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
        return self._members[number].rate

    def change(self, variables: Mapping[int, Sequence[Any]], rates: Mapping[int, float]) -> None:
        """Give some members other variables, in the order of `variables`, and other learning rates."""
        members = self._current()
        for number, given in variables.items():
            members[number] = members[number].with_variables(given)
        for number, rate in rates.items():
            members[number] = replace(members[number], rate=rate)
        self._members, is_stored, self._storage = members, self._storage is not None, None
        if is_stored:
            self._move(*self._places)

    def _current(self) -> list[Member]:
        """The members as they are now."""
        if self._storage is None:
            return [*self._members]
        found = dict(zip(self._order, self._storage.members(), strict=True))
        return [found[number] for number in range(len(self))]

    def _move_for_kernels(self) -> Storage:
        """Into tensors for TensorFlow's kernels."""
        return self._move(rules_of(self._models), self._form, self._room, self._inputs)

    def _move_for_xla(self, part: Part, inputs: Inputs, batches: tuple[int, ...], n_steps: int) -> Storage | None:
        """Into tensors that XLA has compiled a program for, or will; None where it has refused to.

        Args:
            part: What they train on.
            inputs: What they read of it.
            batches: Shape of the numbers of rows of an epoch.
            n_steps: Steps that they will take.
        """
        is_narrow = self._room.width <= NARROW
        form = replace(self._form, rules=(common_rule(self._models).name,), for_xla=True)
        form = replace(form, is_narrow=is_narrow, is_trimmed=inputs.is_trimmed)
        found = compiled_room(
            form, self._room, inputs.of(part), batches, n_steps, inputs.n_columns, self._deterministic
        )
        if found is None:
            self._jit_compile = self._with_xla = False
            return None
        form, room = found
        return self._move([Rule(form.rules[0])] * len(self), form, room, inputs)

    def _inputs_for_xla(self, part: Part) -> Inputs:
        """What XLA's programs read of a training part."""
        return (None if self._form.has_penalty else trimmed(part)) or self._inputs

    def _move(self, rules: Sequence[Rule], form: Form, room: Room, inputs: Inputs) -> Storage:
        """Into other tensors, where the rule of each member is this."""
        self._members, self._places = self._current(), (rules, form, room, inputs)
        self._order = sorted(range(len(self)), key=lambda number: (rules[number], number))
        sections = sections_of([rules[number] for number in self._order])
        form = replace(form, rules=tuple(rule.name for rule, _ in sections))
        members = [self._members[number] for number in self._order]
        self._storage = Storage(members, sections, inputs, self._n_outputs, form, room)
        return self._storage

    @property
    def _models(self) -> list[Perceptron]:
        return [member.model for member in self._members]

    @cached_property
    def _form(self) -> Form:
        """What of them is traced, whatever their rules."""
        return form_of(self._models, loss_and_metric(self._dataset)[0], self._n_outputs)

    @cached_property
    def _room(self) -> Room:
        return Room.of(self._models, self._n_outputs)

    @cached_property
    def _inputs(self) -> Inputs:
        """All of them."""
        return Inputs(int(np.prod(self._dataset.input_shape, dtype=int)))

    @cached_property
    def _n_outputs(self) -> int:
        return n_outputs(self._members[0].model, self._dataset)

    def _logs(self, found: Iterable[Any]) -> dict[str, Any]:
        places = np.argsort(self._order)
        names = ("loss", loss_and_metric(self._dataset)[1])
        return {name: values.numpy()[places] for name, values in zip(names, found, strict=True)}


def _batches(order: Any, batch_size: int) -> tuple[Any, Any]:
    """Numbers of rows, ``(steps, batch)``, the last batch filled up with its first row; and rows of each batch."""
    n_steps = -(-len(order) // batch_size)
    sizes = np.minimum(batch_size, len(order) - np.arange(n_steps) * batch_size)
    filler = np.full(n_steps * batch_size - len(order), order[(n_steps - 1) * batch_size])
    return np.concatenate([order, filler]).reshape(n_steps, batch_size), sizes
