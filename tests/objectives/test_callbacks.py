import models
import pytest

from hpo_spark import KerasObjective, ProcessExecutor, Trial, TrialState
from hpo_spark.config import parse_study_file
from hpo_spark.errors import ConfigError
from hpo_spark.objectives.evaluate import Evaluation


@pytest.fixture(scope="module")
def pool():
    with ProcessExecutor(1) as executor:
        yield executor


def evaluate(pool, callbacks, epochs=6, params=None, number=0, **options):
    objective = KerasObjective(models.tiny, "digits", epochs=epochs, batch_size=128, callbacks=callbacks, **options)
    trial = Trial(number, {"learning_rate": 0.01, **(params or {})}, 5)
    return pool.submit(Evaluation(objective, 0, {}), trial).result(timeout=120).trial


def rates(params, context):
    """A callback that records the learning rate of each epoch."""
    import keras

    class Rates(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["rate"] = float(self.model.optimizer.learning_rate)
            logs["number"] = context.number

    return [Rates(), None]


def test_early_stopping_ends_a_trial_and_counts_the_epochs_that_were_trained(pool):
    trial = evaluate(pool, [{"early_stopping": {"min_delta": 100.0, "patience": 2}}])
    assert trial.state is TrialState.COMPLETED, trial.error
    assert trial.metrics["epochs"] == len(trial.curve) == 3


def test_weights_that_are_restored_bring_their_value_along(pool):
    stopping = {"early_stopping": {"min_delta": 100.0, "patience": 2, "restore_best_weights": True}}
    trial = evaluate(pool, [stopping], test_every_trial=True)
    assert trial.metrics["epochs"] == 3
    assert trial.value == trial.curve[0][1] != trial.curve[-1][1]
    assert (
        trial.metrics["test_accuracy"] == evaluate(pool, [], epochs=1, test_every_trial=True).metrics["test_accuracy"]
    )


def test_a_plateau_lowers_the_learning_rate_of_this_trial_only(pool):
    plateau = {"reduce_lr_on_plateau": {"min_delta": 100.0, "patience": 1, "factor": 0.5}}
    lowered = evaluate(pool, [plateau, rates], number=3)
    assert lowered.metrics["rate"] < 0.002
    assert lowered.metrics["number"] == 3
    assert evaluate(pool, [rates], epochs=1).metrics["rate"] == pytest.approx(0.01)


def test_tensorboard_writes_a_folder_a_trial(pool, tmp_path):
    for number in (4, 5):
        trial = evaluate(pool, [{"tensorboard": {"log_dir": str(tmp_path)}}], epochs=1, number=number)
        assert trial.state is TrialState.COMPLETED, trial.error
    assert {path.parent.parent.name for path in tmp_path.glob("*/validation/events*")} == {"trial-4", "trial-5"}


def test_without_a_validation_part_the_same_is_watched_in_training(pool):
    stopping = {"early_stopping": {"min_delta": 100.0, "patience": 1}}
    objective = KerasObjective(models.tiny, "digits", epochs=6, callbacks=[stopping]).on_all_data()
    trial = pool.submit(Evaluation(objective, 0, {}), Trial(0, {"learning_rate": 0.01}, 5)).result(timeout=120).trial
    assert trial.metrics["epochs"] == 2


@pytest.mark.parametrize(
    ("callbacks", "words"),
    [
        ("early_stopping", "must be a list"),
        (["stop_early"], "unknown name 'stop_early'"),
        ([{"early_stopping": {"patients": 3}}], "has no option 'patients'"),
        ([{"early_stopping": {"patience": 0.5}}], "patience is of the wrong type"),
        ([{"early_stopping": {}, "tensorboard": {}}], "one name"),
        ([{"tensorboard": {}}], "needs log_dir"),
        ([3], "got 3"),
    ],
)
def test_bad_callbacks_are_refused_at_once(callbacks, words):
    with pytest.raises((TypeError, ValueError), match=words):
        KerasObjective(models.tiny, "digits", callbacks=callbacks)


STUDY = """
space: {learning_rate: {float: [0.001, 0.1]}}
objective:
  keras: hpo_spark.objectives.mlp:build_model
  data: digits
  jit_compile: false
  callbacks: [early_stopping, {reduce_lr_on_plateau: {factor: 0.2}}, {tensorboard: {log_dir: logs}}]
"""


def objective_of(text):
    return parse_study_file(text.encode(), "study.yaml").objective


def test_a_study_file_names_callbacks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = objective_of(STUDY)
    assert found.jit_compile is False
    assert found.callbacks == [
        {"early_stopping": {}},
        {"reduce_lr_on_plateau": {"factor": 0.2}},
        {"tensorboard": {"log_dir": str(tmp_path / "logs")}},
    ]
    wrong = STUDY.replace("factor", "fact")
    with pytest.raises(ConfigError, match=r"study.yaml, line \d+: objective: callbacks: .* no option 'fact'"):
        objective_of(wrong)
