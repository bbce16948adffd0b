"""Members of a group as a program holds them: the variables that it trains, and the tensors that tell who is where."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from hpo_spark.fused.inputs import Inputs
from hpo_spark.fused.layout import Layout, Room
from hpo_spark.fused.member import Member
from hpo_spark.fused.network import Form
from hpo_spark.fused.rules import Rule, n_slots
from hpo_spark.fused.tensors import Section, rows_of, tensors_of
from hpo_spark.objectives.mlp import Perceptron

__all__ = ["Storage", "form_of", "sections_of"]


class Storage:
    """Some members in the tensors of a program.

    Args:
        members: In their order here.
        sections: Their rules.
        inputs: What they read.
        n_outputs: Numbers that a model returns.
        form: Of the program; it covers theirs.
        room: Of the tensors.

    Attributes:
        form, inputs: As given.
    """

    def __init__(
        self,
        members: Sequence[Member],
        sections: Sequence[Section],
        inputs: Inputs,
        n_outputs: int,
        form: Form,
        room: Room,
    ) -> None:
        self.form, self.inputs = form, inputs
        self._members = list(members)
        self._sections = sections
        self._layout = Layout(tuple(member.model for member in members), inputs, n_outputs, room)
        packed = [
            self._layout.pack(weights, form.floatx) for weights in zip(*(m.stored() for m in members), strict=True)
        ]
        self._variables = [
            [
                [_variable(arrays[kind][rows]) for arrays in packed[: 1 + n_slots(rule.name)]]
                for (rule, _), rows in zip(sections, rows_of(self._layout, sections, kind), strict=True)
            ]
            for kind in range(2)
        ]

    @cached_property
    def tensors(self) -> dict[str, Any]:
        """The group's tensors."""
        rates = [member.rate for member in self._members]
        return tensors_of(self._layout, self.form, rates, self._sections)

    @cached_property
    def unread(self) -> list[Any]:
        """Of trimmed inputs the weights of those that are left out, and `Inputs.columns_of_all`, as tensors."""
        import tensorflow as tf

        if not self.inputs.is_trimmed:
            return []
        weights = np.concatenate([one.weights[0][0][self.inputs.unread].T / one.rate for one in self._members])
        spare = self._layout.room.rows - len(weights)
        weights = tf.constant(np.pad(weights, [(0, spare), (0, 0)]), self.form.floatx)
        return [weights, tf.constant(self.inputs.columns_of_all, tf.int32)]

    @property
    def handles(self) -> Any:
        """Of the variables of weights and slots: for ``first`` and ``rest``, section by section."""
        return [
            [(weights.handle, [slot.handle for slot in slots]) for weights, *slots in sections]
            for sections in self._variables
        ]

    def members(self) -> list[Member]:
        """The members as they are now."""
        arrays = [self._whole(index) for index in range(3)]
        return [
            member.from_stored([self._layout.unpack(first, rest, number) for first, rest in arrays], self.inputs.places)
            for number, member in enumerate(self._members)
        ]

    def _whole(self, index: int) -> list[Any]:
        """``first`` and ``rest`` of the weights or of a slot; zero where a rule keeps none."""
        return [
            np.concatenate(
                [
                    one[index].numpy() if index < len(one) else np.zeros(one[0].shape, self.form.floatx)
                    for one in sections
                ]
            )
            for sections in self._variables
        ]


def sections_of(rules: Sequence[Rule]) -> list[Section]:
    """The rules in use, each with the members that follow it, from the rule of each member: equal ones in a row."""
    starts = [place for place in range(len(rules)) if place == 0 or rules[place] != rules[place - 1]]
    ends = [*starts[1:], len(rules)]
    return [(rules[start], slice(start, end)) for start, end in zip(starts, ends, strict=True)]


def form_of(models: Sequence[Perceptron], loss: str, n_outputs: int) -> Form:
    """What of a group is traced, but for its rules.

    Args:
        models: Of the group.
        loss: Keras' name of it.
        n_outputs: Of a model.
    """
    import keras

    n_layers = max(len(model.units) for model in models)
    deep = [[model for model in models if len(model.units) > layer] for layer in range(n_layers)]
    return Form(
        loss=loss,
        n_outputs=n_outputs,
        activations=tuple(tuple(sorted({one.activations[layer] for one in deep[layer]})) for layer in range(n_layers)),
        drops=tuple(any(one.dropouts[layer] for one in deep[layer]) for layer in range(n_layers)),
        has_flat=not all(model.units for model in models),
        rules=(),
        has_penalty=any(model.l2 for model in models),
        floatx=str(keras.config.floatx()),
    )


def _variable(array: Any) -> Any:
    import tensorflow as tf

    return tf.Variable(array, trainable=False)
