"""The training loop against `Model.fit`, and compiled loops that trials share. All of it runs in one trial process."""

import pytest
import trainings

from hpo_spark import ProcessExecutor


@pytest.fixture(scope="module")
def pool():
    with ProcessExecutor(1) as executor:
        yield executor


def in_trial_process(pool, function, *arguments):
    return pool.submit(function, *arguments).result(timeout=280)


def test_a_training_is_what_fit_makes_of_the_same_batches(pool):
    found = in_trial_process(pool, trainings.differences_from_fit)
    assert {name: far for name, far in found.items() if not far < 1e-5} == {}


@pytest.mark.long
def test_other_models_train_as_by_fit_too(pool):
    found = in_trial_process(pool, trainings.other_models)
    assert {name: far for name, far in found.items() if not far < 1e-5} == {}


@pytest.mark.parametrize(
    "names",
    [trainings.SOME, pytest.param([*trainings.OPTIMIZERS], marks=[pytest.mark.storm, pytest.mark.timeout(600)])],
    ids=["some", "all"],
)
def test_a_trial_after_another_of_its_structure_is_as_if_it_were_the_first_and_compiles_nothing(pool, names):
    found = in_trial_process(pool, trainings.reuse, names)
    assert {name: far for name, (far, _) in found.items() if far != 0} == {}
    builds = {name: n_builds for name, (_, n_builds) in found.items()}
    assert builds.pop("Nadam") == 2  # it has state that it does not tell of
    assert set(builds.values()) == {1}


def test_what_is_not_keras_own_is_not_shared(pool):
    assert in_trial_process(pool, trainings.kept) == {
        **dict.fromkeys(trainings.SHARED, 1),
        **dict.fromkeys(trainings.NOT_SHARED, 0),
    }


def test_stopping_and_going_on_equals_one_run(pool):
    assert in_trial_process(pool, trainings.going_on) < 1e-6


def test_bytes_become_numbers_batch_by_batch(pool):
    assert max(in_trial_process(pool, trainings.bytes_and_floats)) < 1e-5


def test_any_array_will_do(pool):
    assert max(in_trial_process(pool, trainings.other_arrays)) < 1e-6


@pytest.mark.parametrize("at_each_batch", [False, True])
def test_callbacks_hear_what_fit_would_tell_them(pool, at_each_batch):
    here, by_fit = in_trial_process(pool, trainings.heard, at_each_batch)
    assert here == by_fit
    assert [event for event in here if event[0] == "epoch begins"] == [("epoch begins", 0), ("epoch begins", 1)]
    assert sum(event[0] == "batch ends" for event in here) == (10 if at_each_batch else 0)


def test_a_model_that_a_callback_has_changed_is_not_left_to_the_next(pool):
    assert in_trial_process(pool, trainings.meddling) == 0
