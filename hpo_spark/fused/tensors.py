"""The tensors that tell a program about its group: places, rates, and who does what."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from hpo_spark.fused.layout import Layout
from hpo_spark.fused.network import Form
from hpo_spark.fused.rules import NUMBERS, Rule, numbers_of

__all__ = ["Section", "rows_of", "specs_of", "tensors_of"]

# A rule with the members that follow it, in their order in the tensors; the last has what is spare, too.
Section = tuple[Rule, slice]


def specs_of(form: Form) -> dict[str, Any]:
    """The shapes and types of a group's tensors, by name."""
    import tensorflow as tf

    def whole(*shape: int | None) -> Any:
        return tf.TensorSpec(shape, tf.int32)

    def real(*shape: int | None) -> Any:
        return tf.TensorSpec(shape, form.floatx)

    def choice(*shape: int | None) -> Any:
        return tf.TensorSpec(shape, tf.bool)

    n_rules, n_layers = len(form.rules), form.n_layers
    specs: dict[str, Any] = {
        "width": whole(),
        "n_rows": whole(n_rules),
        "n_members": whole(n_rules),
        "there": whole(None),
        "back": whole(None),
        "rest_sizes": whole(2 * n_layers),
        "rates": real(None, 1),
        "row_rates": real(None, 1),
        "momenta": real(n_rules),
    }
    if form.has_flat:
        specs |= {"direct": whole(None), "direct_back": whole(None), "is_flat": choice(None, 1, 1)}
    for layer, (names, drops) in enumerate(zip(form.activations, form.drops, strict=True)):
        specs[f"uses_{layer}"] = choice(len(names), *((None, None, 1) if layer else (None, 1)))
        if layer:
            specs[f"has_{layer}"] = choice(None, 1, 1)
        if drops:
            specs[f"drops_{layer}"] = real(None, 1, 1)
    for index, name in enumerate(form.rules):
        if name in NUMBERS:
            specs |= {f"numbers_{kind}_{index}": real(NUMBERS[name], None, 1) for kind in range(2)}
    if form.has_penalty:
        specs |= {"penalties": real(None), "member_of_row": whole(None)}
        for kind in range(2):
            specs[f"is_kernel_{kind}"] = real(None)
            specs |= {f"penalties_{kind}_{index}": real(None, 1) for index in range(n_rules)}
    return specs


def tensors_of(layout: Layout, form: Form, rates: Sequence[float], sections: Sequence[Section]) -> dict[str, Any]:
    """A group's tensors.

    Args:
        layout: Of its members.
        form: What of it is traced.
        rates: Learning rates, in the order of the members.
        sections: Its rules.
    """
    import tensorflow as tf

    members, depths, room = layout.members, layout.depths, layout.room
    n_spare = room.members - len(members)
    member_of_row = np.zeros(room.rows, int)
    member_of_row[: layout.first_ends[-1]] = np.repeat(np.arange(len(members)), layout.first_widths)
    is_used = np.arange(room.rows) < layout.first_ends[-1]
    own_rates = np.array([*rates, *[1.0] * n_spare])
    n_rows, n_members = ([rows.stop - rows.start for rows in rows_of(layout, sections, kind)] for kind in range(2))
    there, back = layout.packing(deep=True)
    found: dict[str, Any] = {
        "width": room.width,
        "n_rows": n_rows,
        "n_members": n_members,
        "there": there,
        "back": back,
        "rest_sizes": layout.rest_sizes,
        "rates": own_rates[:, None],
        "row_rates": own_rates[member_of_row, None],
        "momenta": [rule.momentum for rule, _ in sections],
    }
    if form.has_flat:
        found["direct"], found["direct_back"] = layout.packing(deep=False)
        found["is_flat"] = (depths == 0)[:, None, None]
    for layer, (names, drops) in enumerate(zip(form.activations, form.drops, strict=True)):
        own = [member.activations[layer] if len(member.units) > layer else None for member in members]
        uses = np.array([[name == one for one in [*own, *[None] * n_spare]] for name in names])
        if layer:
            units = [member.units[layer] if len(member.units) > layer else 0 for member in members]
            is_unit = np.arange(room.width) < np.array([*units, *[0] * n_spare])[:, None]
            found[f"uses_{layer}"] = (uses[:, :, None] & is_unit)[..., None]
            found[f"has_{layer}"] = (depths > layer)[:, None, None]
        else:
            found["uses_0"] = (uses[:, member_of_row] & is_used)[..., None]
        if drops:
            shares = [member.dropouts[layer] if len(member.units) > layer else 0.0 for member in members]
            found[f"drops_{layer}"] = np.reshape([*shares, *[0.0] * n_spare], (-1, 1, 1))
    for index, (rule, those) in enumerate(sections):
        if rule.name in NUMBERS:
            numbers = np.array([numbers_of(one, rule.name) for one in members[those]]).T
            of_rows = np.repeat(numbers, layout.first_widths[those], axis=1)
            for kind, (values, n) in enumerate(((of_rows, n_rows[index]), (numbers, n_members[index]))):
                found[f"numbers_{kind}_{index}"] = _filled(values, n)[..., None]
    if form.has_penalty:
        # Keras makes single precision of it on the way.
        penalties = np.array([np.float32(member.l2) for member in members], float)
        found |= {"penalties": _filled(penalties, room.members), "member_of_row": member_of_row}
        found["is_kernel_0"] = [1.0] * layout.inputs.n + [0.0]
        found["is_kernel_1"] = np.repeat(np.arange(len(layout.rest_sizes)) % 2 == 0, layout.rest_sizes)
        # The derivative of a weight's square, of a weight that is stored divided by its rate.
        slopes = 2 * penalties * rates
        for index, (_, those) in enumerate(sections):
            of_rows = np.repeat(slopes[those], layout.first_widths[those])
            for kind, (values, n) in enumerate(((of_rows, n_rows[index]), (slopes[those], n_members[index]))):
                found[f"penalties_{kind}_{index}"] = _filled(values, n)[:, None]
    specs = specs_of(form)
    assert specs.keys() == found.keys()
    return {
        name: tf.constant(np.asarray(found[name]), spec.dtype, shape=np.shape(found[name]))
        for name, spec in specs.items()
    }


def rows_of(layout: Layout, sections: Sequence[Section], kind: int) -> list[slice]:
    """The rows of each section in ``first`` (0) or in ``rest`` (1)."""
    ends = [0, *layout.first_ends] if kind == 0 else range(len(layout.members) + 1)
    bounds = [*(int(ends[those.start]) for _, those in sections), (layout.room.rows, layout.room.members)[kind]]
    return [slice(start, end) for start, end in pairwise(bounds)]


def _filled(values: Any, n: int) -> Any:
    """With zeros at the end of the last axis, up to a length."""
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, n - values.shape[-1])])
