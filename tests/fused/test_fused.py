"""Models that train as one program against each alone, with `KerasObjective`. All of it runs in one trial process."""

import pickle

import fusings
import pytest
from fusings import MLPS, in_trial_process
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpo_spark import CannotFuse, KerasObjective
from hpo_spark.fused import memory, why_alone
from hpo_spark.fused.network import ELEMENTWISE
from hpo_spark.objectives.mlp import build_model

mlps = st.builds(
    lambda units, activations, **others: {
        "hidden_layers": len(units),
        **{f"hidden_units_{layer}": width for layer, width in enumerate(units, 1)},
        **{f"activation_{layer}": name for layer, name in enumerate(activations[: len(units)], 1)},
        **others,
    },
    units=st.lists(st.integers(1, 40), max_size=3),
    activations=st.lists(st.sampled_from(sorted(ELEMENTWISE - {"exponential"})), min_size=3, max_size=3),
    l2=st.sampled_from([0.0, 1e-4, 1e-2]),
    optimizer=st.sampled_from(["sgd", "adam", "rmsprop"]),
    learning_rate=st.floats(-4, -1.3).map(lambda exponent: 10.0**exponent),
    momentum=st.sampled_from([0.0, 0.5, 0.8, 0.9, 0.95]),
    nesterov=st.booleans(),
)
groups = st.lists(mlps, min_size=1, max_size=6)
data = st.fixed_dictionaries(
    {"kind": st.sampled_from(["classes", "shares", "number", "numbers"]), "weighted": st.booleans()}
)
quiet = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def check_group(pool, members, data, batch_size, floatx, with_xla=False):
    found = in_trial_process(pool, fusings.distances, members, floatx, data, with_xla, batch_size=batch_size)
    if floatx == "float64":
        assert [row for row in found if not row[0] < 1e-6] == []
    else:
        apart = [number for number, row in enumerate(found) if row[1] < row[2] and not row[0] < 1e-3]
        # Some trainings double any rounding every few steps, and come no nearer to themselves: those are let be.
        options = {"floatx": floatx, "data": data, "batch_size": batch_size}
        own = [in_trial_process(pool, fusings.unsteadiness, number, members[number], **options) for number in apart]
        assert [pair for pair in zip(apart, own, strict=True) if pair[1] < 1e-4] == []


@pytest.mark.long
def test_steady_trainings_are_told_from_others(pool):
    layers = {"hidden_layers": 3, "hidden_units": [19, 6, 5], "activation": ["softplus", "silu", "log_sigmoid"]}
    unsteady = {**layers, "optimizer": "rmsprop", "learning_rate": 0.019}
    data = {"kind": "numbers"}
    far, near = (
        in_trial_process(pool, fusings.unsteadiness, 1, one, "float32", data, batch_size=10)
        for one in (unsteady, MLPS[1])
    )
    assert near < 1e-4 < far


@pytest.mark.parametrize("with_xla", [False, True])
def test_members_train_as_each_alone_and_one_that_is_no_number_any_more_disturbs_nobody(pool, with_xla):
    broken = {"hidden_layers": 2, "hidden_units": 6, "optimizer": "sgd", "momentum": 0.9}
    members = [
        *({**broken, "activation": "exponential", "learning_rate": 1e6}, *MLPS),
        {**broken, "activation": "elu", "learning_rate": 1e200},
    ]
    first, *found, last = in_trial_process(pool, fusings.distances, members, "float64", with_xla=with_xla)
    assert [row for row in found if not row[0] < 1e-6] == []
    for distance, loss, _ in (first, last):
        assert loss != loss  # not a number, together as alone
        assert distance < 1e-6


@pytest.mark.parametrize("data", [{}, {"kind": "shares", "weighted": True}, {"dtype": "float32"}], ids=repr)
def test_rows_of_whole_words_are_the_same_to_xla(pool, data):
    data = {"n_features": 8, **data}
    found = in_trial_process(pool, fusings.distances, MLPS[:4], "float64", data, with_xla=True)
    assert [row for row in found if not row[0] < 1e-6] == []


@pytest.mark.parametrize("floatx", ["float32", pytest.param("float64", marks=pytest.mark.long)])
@settings(max_examples=1, **quiet)
@given(members=groups, data=data, batch_size=st.sampled_from([7, 10]))
def test_some_members_of_the_space_train_as_each_alone(pool, members, data, batch_size, floatx):
    check_group(pool, members[:2], data, batch_size, floatx)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("floatx", ["float64", "float32"])
@settings(max_examples=10, **quiet)
@given(members=groups, data=data, batch_size=st.sampled_from([7, 10, 32]), with_xla=st.booleans())
def test_any_members_of_the_space_train_as_each_alone(pool, members, data, batch_size, floatx, with_xla):
    check_group(pool, members, data, batch_size, floatx, with_xla)


@pytest.mark.long
def test_every_activation_is_the_same_to_xla(pool):
    shapes = {"hidden_layers": 2, "hidden_units": 4, "learning_rate": 1e-3}
    members = [{**shapes, "activation": name} for name in sorted(ELEMENTWISE - {"exponential"})]
    check_group(pool, members, {}, 10, "float64", with_xla=True)


@pytest.mark.long
@pytest.mark.parametrize("with_xla", [False, True])
def test_dropout_is_of_the_same_masks_for_all_members(pool, with_xla):
    members = [
        {**MLPS[0], "dropout": [0.3, 0.0]},
        {**MLPS[2], "dropout": 0.5},
        {**MLPS[3], "dropout": 0.1},
        MLPS[4],
    ]
    found = in_trial_process(pool, fusings.distances_with_dropout, members, "float64", with_xla)
    # In a layer that is not Keras' own the objective leaves rates as Keras compiles them, in single precision.
    assert max(far for far, _ in found) < 1e-5


@pytest.mark.parametrize(
    ("name", "floatx"),
    [
        ("normalization", "float64"),
        *(
            pytest.param(name, floatx, marks=pytest.mark.long)
            for name in sorted(fusings.MODELS)
            for floatx in ("float64", "float32")
        ),
    ],
)
def test_models_of_a_user_train_as_each_alone(pool, name, floatx):
    found = in_trial_process(pool, fusings.distances_of_model, name, fusings.USERS, floatx)
    assert [row for row in found if not row[0] < (1e-6 if floatx == "float64" else 1e-3)] == []


@pytest.mark.parametrize("with_xla", [None, True])
def test_each_member_has_its_own_callbacks(pool, with_xla):
    callbacks = [
        {"early_stopping": {"monitor": "val_loss", "patience": 1, "min_delta": 0.02, "restore_best_weights": True}},
        {"reduce_lr_on_plateau": {"monitor": "val_accuracy", "patience": 1, "factor": 0.5}},
    ]
    both = fusings.callbacks_alone_and_together
    distances, epochs = in_trial_process(pool, both, callbacks, MLPS[1:4], jit_compile=with_xla)
    assert max(distances) < 1e-3
    assert len(set(epochs)) > 1


def test_a_member_that_is_pruned_or_fails_leaves_the_others_as_they_are(pool):
    ends, curves, pruned, lengths = in_trial_process(pool, fusings.with_troubles, MLPS, 1, 3)
    assert pruned == "others are better"
    assert (ends[1], ends[3]) == ("TrialPruned", "OSError")
    assert max(ends[number] for number in (0, 2, 4)) < 1e-5
    assert curves == [4, 2, 4, 3, 4] and lengths == [4] * 5


@pytest.mark.parametrize(
    "build_model",
    [None, pytest.param(fusings.residual, marks=pytest.mark.long)],
    ids=["mlp", "residual"],
)
def test_kept_models_and_checkpoints_are_those_of_each_alone(pool, build_model):
    members = MLPS[::2] if build_model is None else fusings.USERS
    found = in_trial_process(pool, fusings.models_and_checkpoints, build_model, members, test_every_trial=True)
    assert max(found) < 1e-3


def test_only_the_model_that_no_member_beats_is_made(pool):
    losses, made = in_trial_process(pool, fusings.keeps_few, MLPS)
    assert made == [loss == min(losses) for loss in losses]


def test_programs_serve_groups_of_other_sizes(pool):
    wider = [{**member, "learning_rate": 0.007} for member in MLPS] + [{**MLPS[0], "hidden_units": [12, 30]}]
    assert in_trial_process(pool, fusings.programs_of, MLPS, wider) == [1, 0]
    again = [{**member, "rate": 0.03} for member in fusings.USERS]
    model = fusings.with_embedding
    assert in_trial_process(pool, fusings.programs_of, fusings.USERS, again, fusings.USERS[:2], build_model=model) == [
        1,
        0,
        1,
    ]


@pytest.mark.parametrize("with_xla", [False, True])
def test_a_batch_may_be_larger_than_the_data(pool, with_xla):
    found = in_trial_process(pool, fusings.distances, MLPS[:2], "float64", with_xla=with_xla, batch_size=300)
    assert [row for row in found if not row[0] < 1e-6] == []


def test_a_group_leaves_its_kernels_but_no_draws_to_the_next_task(pool):
    first, _ = in_trial_process(pool, fusings.draws_and_clearings)
    *_, before = in_trial_process(pool, fusings.draws_and_clearings)
    for _ in range(2):
        in_trial_process(pool, fusings.epochs_of_a_group, MLPS[:2])
    drawn, after = in_trial_process(pool, fusings.draws_and_clearings)
    assert drawn == first and after == before + 2  # twice by the task that drew before, and by no group
    assert in_trial_process(pool, fusings.draws_and_clearings)[0] == first


def test_what_tensorflow_cannot_stack_is_said_before_anything_is_trained(pool):
    reason = in_trial_process(pool, fusings.reason_against, fusings.convolution, fusings.USERS)
    assert "TensorFlow cannot stack the layer" in reason


def test_members_that_fail_or_have_no_company_leave_the_others_together(pool):
    odd = [{"depth": 0.0}, {"depth": 2.0}, {"depth": 1.0, "bounded": 1.0}, {"depth": 1.0, "raw": 1.0}]
    members = [{"rate": 0.1, **one} for one in ({"depth": 1.0}, *odd, {"depth": 1.0})]
    same, (failed, lonely, bounded, raw), expected = in_trial_process(pool, fusings.mixed, members)
    assert max(same) < 1e-3
    assert (repr(failed), repr(raw)) == (repr(expected[0]), repr(expected[-1]))
    assert "ArithmeticError" in repr(failed) and "not compiled" in repr(raw)
    assert isinstance(lonely, CannotFuse) and "no other model" in str(lonely)
    assert isinstance(bounded, CannotFuse) and "a constraint" in str(bounded)
    assert not lonely.for_key and not bounded.for_key


def test_a_refusal_stays_what_it_is_on_its_way():
    error = pickle.loads(pickle.dumps(CannotFuse("too large", for_key=False)))
    assert (str(error), error.for_key) == ("too large", False)
    assert CannotFuse("too large").for_key


def test_what_goes_for_a_group_only_is_told_from_what_goes_for_its_key(pool):
    lonely = in_trial_process(pool, fusings.refusal, fusings.residual, [{**fusings.USERS[0]}])
    assert (str(lonely), lonely.for_key) == ("no other model of the group has the same structure", False)
    assert in_trial_process(pool, fusings.refusal, fusings.convolution, fusings.USERS).for_key


def test_the_largest_layer_of_a_users_model_counts(pool):
    assert in_trial_process(pool, fusings.widest_layer, fusings.with_normalization, fusings.USERS[0]) == 12
    assert in_trial_process(pool, fusings.widest_layer, fusings.with_embedding, fusings.USERS[0]) == 24


def test_a_key_needs_neither_models_nor_data():
    objective = KerasObjective(build_model, data="nowhere.npz", epochs=5)
    keys = [objective.fuse_key(params) for params in MLPS]
    assert keys[0] is not None and set(keys) == {keys[0]}
    assert objective.fuse_key({"epochs": 6}) != keys[0] != objective.fuse_key({"batch_size": 8})
    assert objective.fuse_key({"n_classes": 3}) != keys[0]
    widths = [objective.fuse_key({"hidden_units": units}) for units in (8, 32, 33, 64, [64, 9], 65)]
    assert len(set(widths)) == 3 and len(set(widths[:2])) == len(set(widths[2:5])) == 1
    own = KerasObjective(fusings.residual, data="nowhere.npz")
    assert own.fuse_key({"rate": 0.1, "units": 3}) == own.fuse_key({"rate": 0.2, "units": 3})
    assert own.fuse_key({"rate": 0.1, "units": 3}) != own.fuse_key({"rate": 0.1, "units": 4})


def test_the_memory_of_a_group_is_told_before_and_bounded():
    objective = KerasObjective(build_model, data="digits")
    small, large = (objective.fuse_bytes({"hidden_units": units}) for units in (8, 1024))
    n_weights = 64 * 1024 + 1024 + 1024 * 10 + 10
    assert 0 < small < large / 20 and large > 4 * 4 * n_weights
    assert KerasObjective(fusings.residual, data="digits").fuse_bytes({"rate": 0.1}) > 1e6
    assert memory.bytes_of_model(0, 5) >= 4 * 5 * 1024  # a batch of evaluation
    assert memory.bytes_of_model(7, 5, 8) == 2 * memory.bytes_of_model(7, 5)
    assert [*memory.in_stacks(range(5), 1)] == [range(5)]
    assert [*memory.in_stacks(range(5), memory._MAX_STACK_BYTES // 2)] == [range(1), range(1, 3), range(3, 5)]


@pytest.mark.parametrize(
    ("options", "params", "words"),
    [
        ({"callbacks": [{"tensorboard": {"log_dir": "logs"}}]}, {}, "the callback tensorboard"),
        ({"callbacks": [lambda params: None]}, {}, "the callback <lambda>"),
        ({}, {"activation": "softmax", "hidden_layers": 1}, "softmax"),
    ],
)
def test_why_a_trial_is_trained_alone(options, params, words):
    objective = KerasObjective(build_model, data="digits", **options)
    assert words in why_alone(objective, params)
    assert objective.fuse_key(params) is None
