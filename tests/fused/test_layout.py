"""Where weights lie in the tensors of a program: what goes in comes out, and what is spare is zero."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hpo_spark.fused.inputs import Inputs
from hpo_spark.fused.layout import Layout, Room
from hpo_spark.objectives.mlp import read_params

N_INPUTS, N_OUTPUTS = 3, 2
ALL = Inputs(N_INPUTS)
groups = st.lists(st.lists(st.integers(1, 5), max_size=3), min_size=1, max_size=4)
spare = st.builds(Room, *[st.integers(0, 3)] * 4)


def layout_of(units, spare, inputs=ALL):
    models = tuple(read_params({"hidden_layers": len(widths), "hidden_units": widths or 1}) for widths in units)
    need = Room.of(models, N_OUTPUTS)
    sizes = (need.rows + spare.rows, need.members + spare.members, need.width + spare.width)
    return Layout(models, inputs, N_OUTPUTS, Room(*sizes, need.n_layers + spare.n_layers)), need


def weights_of(units, rng):
    sizes = [N_INPUTS, *units, N_OUTPUTS]
    return [(rng.normal(size=(before, after)), rng.normal(size=after)) for before, after in pairwise(sizes)]


@given(units=groups, spare=spare, inputs=st.sampled_from([ALL, Inputs(N_INPUTS, np.array([0, 2]))]))
def test_weights_come_back_from_any_room(units, spare, inputs):
    layout, need = layout_of(units, spare, inputs)
    assert layout.room.holds(need) and need.rounded().holds(need)
    rng = np.random.default_rng(0)
    members = [weights_of(widths, rng) for widths in units]
    first, rest = layout.pack(members, "float64")
    assert first.size + rest.size == layout.room.n_numbers(inputs.n_columns, N_OUTPUTS)
    read = [[(kernel[inputs.places], bias), *others] for (kernel, bias), *others in members]
    assert np.count_nonzero(first) + np.count_nonzero(rest) == sum(w.size + b.size for own in read for w, b in own)
    for number, own in enumerate(read):
        for (kernel, bias), (its_kernel, its_bias) in zip(own, layout.unpack(first, rest, number), strict=True):
            assert np.array_equal(kernel, its_kernel) and np.array_equal(bias, its_bias)


@given(units=groups, spare=spare)
def test_rows_go_to_their_members_and_back(units, spare):
    layout, _ = layout_of(units, spare)
    room = layout.room
    rows = np.append(np.arange(1, room.rows + 1), 0)
    for deep, n_places in ((True, room.width), (False, N_OUTPUTS)):
        there, back = layout.packing(deep)
        placed = rows[there].reshape(room.members, n_places)
        n_before = 0
        for widths, own in zip(units, placed, strict=False):
            n_first = widths[0] if widths else N_OUTPUTS
            n_own = n_first if bool(widths) == deep else 0
            assert np.array_equal(own[:n_own], rows[n_before : n_before + n_own]) and not own[n_own:].any()
            n_before += n_first
        assert not placed[len(units) :].any()
        returned = np.append(rows[there], 0)[back]
        assert set(returned[returned > 0]) == set(placed[placed > 0])
        assert np.all((returned == rows[:-1]) | (returned == 0))
