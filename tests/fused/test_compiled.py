"""Groups of perceptrons that XLA compiles: what it reads, when it pays, and whom a program serves."""

import compiled
import fusings
import numpy as np
import pytest
from fusings import MLPS, in_trial_process

from hpo_spark.fused import program

# Data of which XLA's programs read a part, where no weights decay.
SOME_EMPTY = {"n_features": 100, "n_empty": 40}


@pytest.mark.parametrize("data", [{}, {"weighted": True, "dtype": "float32"}], ids=repr)
def test_inputs_that_are_always_zero_in_training_still_count_elsewhere(pool, data):
    data = {**SOME_EMPTY, **data}
    broken = {"hidden_units": 6, "optimizer": "sgd", "activation": "elu", "learning_rate": 1e200}
    (_, its_loss, _), *found = in_trial_process(
        pool, fusings.distances, [broken, *MLPS[1:]], "float64", data, with_xla=True
    )
    assert its_loss != its_loss and [row for row in found if not row[0] < 1e-6] == []
    (is_trimmed, *trimmed), (_, *whole) = (
        in_trial_process(pool, compiled.trained_by_xla, MLPS[1:], trims, **data) for trims in (True, False)
    )
    assert is_trimmed
    (states, kernels, logs), (expected, _, its_logs) = trimmed, whole
    for state, other, kernel in zip(states, expected, kernels, strict=True):
        for value, its in zip(state, other, strict=True):
            np.testing.assert_allclose(value, its, rtol=1e-9, atol=1e-12)
        assert np.array_equal(state[0][59:99], kernel[59:99]) and not np.array_equal(state[0][:59], kernel[:59])
    for name, values in logs.items():
        np.testing.assert_allclose(values, its_logs[name], rtol=1e-9)


def test_a_program_serves_data_of_which_other_inputs_are_always_zero(pool):
    few, many = (
        in_trial_process(pool, compiled.shapes_for_xla, MLPS[1:3], n_features=100, n_empty=n_empty)
        for n_empty in (38, 41)
    )
    assert few == many and few[0] == (200, 64)


def test_inputs_that_decay_are_all_read(pool):
    is_trimmed, *_ = in_trial_process(pool, compiled.trained_by_xla, MLPS[:2], True, **SOME_EMPTY)
    assert not is_trimmed
    found = in_trial_process(pool, fusings.distances, MLPS[:2], "float64", SOME_EMPTY, with_xla=True)
    assert [row for row in found if not row[0] < 1e-6] == []


@pytest.mark.parametrize(
    ("jit_compile", "n_epochs", "leaves_after", "by_xla"),
    [
        (None, 4, None, [True] * 4),
        (None, 2, None, [False] * 2),
        (False, 4, None, [False] * 4),
        (True, 1, None, [True]),
        (None, 8, 0, [True, False, False, *[True] * 5]),
        (None, 4, 0, [True, False, False, False]),
    ],
)
def test_xla_compiles_what_trains_long_enough(pool, jit_compile, n_epochs, leaves_after, by_xla):
    assert in_trial_process(pool, compiled.epochs_by_xla, jit_compile, n_epochs, leaves_after) == by_xla


def test_a_group_that_xla_cannot_compile_trains_without_it(pool):
    first, second, plain, n_asked = in_trial_process(pool, compiled.where_xla_refuses)
    assert first == pytest.approx(plain, rel=1e-5) and second == plain and n_asked == 1


def test_models_and_checkpoints_have_weights_of_inputs_that_were_not_read(pool):
    options = {"jit_compile": True, "data": fusings.dataset(**SOME_EMPTY), "test_every_trial": True}
    found = in_trial_process(pool, fusings.models_and_checkpoints, None, MLPS[1:4], **options)
    assert max(found) < 1e-3


def test_tensors_that_xla_has_compiled_for_serve_groups_that_are_not_much_smaller(pool):
    large, other, small = (
        MLPS[:4],
        MLPS[:3],
        [{**MLPS[2], "hidden_units": units} for units in (9, 10)],
    )
    huge = [{"hidden_layers": 3, "hidden_units": 32}] * 12
    found = in_trial_process(pool, compiled.tensors_for_xla, large, other, small, huge, large)
    assert found[0] == found[1] == found[2] == found[4] != found[3]
    form, room = found[3]
    assert form.covers(found[0][0])  # also what came before
    assert room.rows >= 12 * 32 and room.members >= 12
    alone = in_trial_process(pool, compiled.tensors_for_xla, large, other, small, huge, large, deterministic=True)
    assert alone[0] == alone[4] and len({alone[1], alone[2], alone[3], alone[4]}) == 4


def test_no_program_is_made_where_another_serves(pool):
    many = [{"hidden_layers": 2, "activation": name} for name in ("relu", "tanh", "elu", "softplus")]
    one = [{"activation": "sigmoid"}] * 2
    assert in_trial_process(pool, compiled.n_programs_made, many, one) == 2
    assert in_trial_process(pool, compiled.n_programs_made, many, one, many) == 2


def test_groups_get_tensors_of_their_own_once_they_have_lost_as_much_in_larger_ones(pool):
    member = {"hidden_layers": 3, "hidden_units": 16}
    large, small = [member] * 4, [member] * 2
    (_, wide), (_, narrow) = in_trial_process(pool, compiled.tensors_for_xla, large, small, deterministic=True)
    n_in_vain = wide.n_numbers(6, 4) - narrow.n_numbers(6, 4)
    for share, n_shared in ((0.3, 3), (0.6, 1), (1.2, 0)):  # of what a compilation takes, for each group
        n_steps = int(share * program._COMPILE_S / (n_in_vain * program._WEIGHT_S))
        found = in_trial_process(pool, compiled.tensors_for_xla, large, *[small] * 4, n_steps=n_steps)
        assert [room for _, room in found] == [wide] * (1 + n_shared) + [narrow] * (4 - n_shared)


@pytest.mark.parametrize(
    ("before", "members", "n_rooms"),
    [
        ([{**member, "hidden_units": 16, "l2": 1e-3} for member in MLPS], MLPS[:3], 1),
        (MLPS[:4], [{**MLPS[1], "learning_rate": 0.1 / n} for n in range(1, 13)], 2),
    ],
    ids=["smaller", "without hidden layers"],
)
def test_members_train_as_each_alone_where_another_group_was_compiled(pool, before, members, n_rooms):
    before = [{**member, "n_classes": 10} for member in before]
    members = [{**member, "n_classes": 10} for member in members]
    data = {"n_features": 100}
    found, layers = in_trial_process(pool, compiled.distances_after, before, members, "float64", data)
    assert [row for row in found if not row[0] < 1e-6] == []
    assert layers == [3] * n_rooms
