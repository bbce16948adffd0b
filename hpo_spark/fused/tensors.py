"""The tensors that tell a program about its group: places, rates, and who does what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hpo_spark.fused.layout import Layout
from hpo_spark.fused.network import Form
from hpo_spark.fused.rules import Rule

__all__ = ["Section", "specs_of", "tensors_of"]

# A rule with the members that follow it, in the order of storage.
Section = tuple[Rule, slice]


def specs_of(form: Form) -> dict[str, Any]:
    """The shapes and types of a group's tensors, by name."""
    import tensorflow as tf

    def whole(*shape: int | None) -> Any:
        return tf.TensorSpec(shape, tf.int32)

    def real(*shape: int | None) -> Any:
        return tf.TensorSpec(shape, form.floatx)

    n_rules, n_layers = len(form.rules), form.n_layers
    specs: dict[str, Any] = {
        "width": whole(),
        "n_rows": whole(n_rules),
        "n_members": whole(n_rules),
        "by_depth": whole(None),
        "by_storage": whole(None),
        "n_of_depth": whole(n_layers),
        "there": whole(None),
        "back": whole(None),
        "direct": whole(None),
        "rest_sizes": whole(2 * n_layers),
        "rates": real(None, 1),
        "row_rates": real(None, 1),
        "momenta": real(n_rules),
    }
    for layer, (names, drops) in enumerate(zip(form.activations, form.drops, strict=True)):
        shape = (None, 1) if layer == 0 else (None, None, 1)
        specs[f"uses_{layer}"] = tf.TensorSpec((len(names), *shape), tf.bool)
        if drops:
            specs[f"drops_{layer}"] = real(None, 1, 1)
    if "momenta" in form.rules:
        specs |= {f"momenta_{kind}": real(2, None) for kind in range(2)}
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
        form: What of it is compiled.
        rates: Learning rates, in the order of storage.
        sections: Its rules.
    """
    import tensorflow as tf

    members, depths, by_depth = layout.members, layout.depths, layout.by_depth
    member_of_row = np.repeat(np.arange(len(members)), layout.first_widths)
    there, back = layout.packing
    found: dict[str, Any] = {
        "width": layout.width,
        "n_rows": [int(layout.first_widths[those].sum()) for _, those in sections],
        "n_members": [those.stop - those.start for _, those in sections],
        "by_depth": by_depth,
        "by_storage": np.argsort(by_depth),
        "n_of_depth": [layout.n_members_of_depth(layer + 1) for layer in range(layout.n_layers)],
        "there": there,
        "back": back,
        "direct": layout.direct,
        "rest_sizes": layout.rest_sizes,
        "rates": np.reshape(rates, (-1, 1)),
        "row_rates": np.take(rates, member_of_row)[:, None],
        "momenta": [rule.momentum for rule, _ in sections],
    }
    for layer, (names, drops) in enumerate(zip(form.activations, form.drops, strict=True)):
        own = [member.activations[layer] if len(member.units) > layer else None for member in members]
        uses = np.array([[name == one for one in own] for name in names])
        if layer:
            deep = by_depth[: layout.n_members_of_depth(layer + 1)]
            is_unit = np.array([np.arange(layout.width) < members[number].units[layer] for number in deep])
            found[f"uses_{layer}"] = (uses[:, deep, None] & is_unit)[..., None]
        else:
            found["uses_0"] = uses[:, member_of_row, None]
        if drops:
            deep = by_depth[: layout.n_members_of_depth(layer + 1)]
            found[f"drops_{layer}"] = np.reshape([members[number].dropouts[layer] for number in deep], (-1, 1, 1))
    if "momenta" in form.rules:
        (those,) = (those for rule, those in sections if rule.name == "momenta")
        of_members = np.array([(one.momentum, float(one.nesterov and one.momentum > 0)) for one in members[those]]).T
        found |= {"momenta_0": np.repeat(of_members, layout.first_widths[those], axis=1), "momenta_1": of_members}
    if form.has_penalty:
        # Keras makes single precision of it on the way.
        penalties = np.array([np.float32(member.l2) for member in members], float)
        found |= {"penalties": penalties, "member_of_row": member_of_row}
        found["is_kernel_0"] = [1.0] * layout.n_inputs + [0.0]
        found["is_kernel_1"] = np.repeat(np.arange(len(layout.rest_sizes)) % 2 == 0, layout.rest_sizes)
        # The derivative of a weight's square, of a weight that is stored divided by its rate.
        slopes = 2 * penalties * rates
        for index, (_, those) in enumerate(sections):
            found[f"penalties_1_{index}"] = slopes[those][:, None]
            found[f"penalties_0_{index}"] = np.repeat(slopes[those], layout.first_widths[those])[:, None]
    specs = specs_of(form)
    assert specs.keys() == found.keys() and all(depths >= 0)
    return {
        name: tf.constant(np.asarray(found[name]), spec.dtype, shape=np.shape(found[name]))
        for name, spec in specs.items()
    }
