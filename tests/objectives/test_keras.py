import functools
import sys
from pathlib import Path

import models
import numpy as np
import pytest

from hpo_spark import (
    Choice,
    Float,
    Int,
    KerasObjective,
    ProcessExecutor,
    SearchSpace,
    SerialExecutor,
    SparkExecutor,
    Study,
    Trial,
    TrialState,
)
from hpo_spark.objectives.evaluate import Evaluation
from hpo_spark.seeds import derive_seed


@pytest.fixture(scope="module")
def pool():
    with ProcessExecutor(1) as executor:
        yield executor


def evaluate(pool, objective, params=None, number=0, study_seed=0, fidelity=None, n_values=1):
    evaluation = Evaluation(objective, study_seed, {}, ("maximize",) * n_values)
    params = {"learning_rate": 0.01} if params is None else params
    trial = Trial(number, params, derive_seed(study_seed, number), fidelity=fidelity)
    evaluated = pool.submit(evaluation, trial).result(timeout=120)
    return evaluated.trial, evaluated.model


def test_a_trial_trains_a_model_and_reports_each_epoch(pool):
    trial, model = evaluate(pool, KerasObjective(models.tiny, "digits", epochs=4))
    assert trial.state is TrialState.COMPLETED, trial.error
    assert trial.value == trial.metrics["val_accuracy"] == trial.curve[-1][1] > 0.7
    assert {"accuracy", "loss", "val_accuracy", "val_loss"} <= trial.metrics.keys()
    assert trial.metrics["epochs"] == 4
    assert [step for step, _ in trial.curve] == [1, 2, 3, 4]
    assert model.startswith(b"PK")


def test_the_kept_model_is_the_trained_one(pool):
    objective = KerasObjective(models.tiny, "digits", epochs=4)
    trial, model = evaluate(pool, objective)
    scores = pool.submit(objective.test, model, {"learning_rate": 0.01}, 0).result(timeout=120)
    assert scores.keys() == {"loss", "accuracy"}
    assert abs(scores["accuracy"] - trial.value) < 0.1


def test_the_test_part_is_recorded_for_every_trial_where_it_is_asked_for(pool):
    options = {"data": "digits", "epochs": 2}
    asked, model = evaluate(pool, KerasObjective(models.tiny, test_every_trial=True, **options))
    plain, _ = evaluate(pool, KerasObjective(models.tiny, **options))
    scores = pool.submit(KerasObjective(models.tiny, "digits").test, model, {"learning_rate": 0.01}, 0).result(120)
    found = {name: asked.metrics[f"test_{name}"] for name in scores}
    assert found == pytest.approx(scores)
    assert {name: value for name, value in asked.metrics.items() if not name.startswith("test_")} == plain.metrics


def test_without_a_test_part_none_can_be_recorded(pool):
    objective = KerasObjective(models.probe, line(), metric="val_loss", epochs=1, test_every_trial=True)
    trial, _ = evaluate(pool, objective, {})
    assert trial.state is TrialState.FAILED
    assert "needs data with a test part" in trial.reason


def test_a_model_comes_only_with_a_trial_that_may_lead(pool):
    evaluation = Evaluation(KerasObjective(models.tiny, "digits", epochs=1), 0, {})
    trial = Trial(0, {"learning_rate": 0.01}, 1)
    assert pool.submit(evaluation, trial, [[0.999]]).result(timeout=120).model is None
    assert pool.submit(evaluation, trial, [[0.001]]).result(timeout=120).model is not None


def test_equal_seeds_give_equal_trials_and_others_do_not(pool):
    objective = KerasObjective(models.tiny, "digits", epochs=2)
    first, again, other, study = (
        evaluate(pool, objective, number=number, study_seed=seed)[0]
        for number, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    assert first.metrics == again.metrics
    assert first.metrics["loss"] != other.metrics["loss"]
    assert first.metrics["loss"] != study.metrics["loss"]


def test_epochs_and_batch_size_may_be_parameters(pool):
    objective = KerasObjective(models.tiny, "digits", epochs=9)
    params = {"learning_rate": 0.01, "epochs": 2, "batch_size": 512}
    assert evaluate(pool, objective, params)[0].metrics["epochs"] == 2
    assert evaluate(pool, objective, fidelity=3)[0].metrics["epochs"] == 3
    small = evaluate(pool, objective, {"learning_rate": 0.01, "epochs": 2, "batch_size": 8})[0]
    assert small.metrics["loss"] < evaluate(pool, objective, params)[0].metrics["loss"]
    bad = evaluate(pool, objective, {"learning_rate": 0.01, "batch_size": 0})[0]
    assert bad.state is TrialState.FAILED
    assert "batch_size=0" in bad.reason


def line(rows=64, noise=True):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(rows, 1))
    y = 3 * x[:, 0] + (rng.normal(size=rows) if noise else 0)
    return x, y


def probe_objective(**options):
    return KerasObjective(models.probe, line(), metric="val_loss", batch_size=4, epochs=2, validation=0.25, **options)


def test_batches_come_in_an_order_of_the_studys_seed(pool):
    """The probe starts at zero, so that only the data and its order tell two trials apart."""
    losses = {}
    for number, seed in ((0, 0), (1, 0), (0, 1)):
        losses[number, seed] = evaluate(pool, probe_objective(), {}, number=number, study_seed=seed)[0].metrics["loss"]
    assert losses[0, 0] == losses[1, 0]
    assert losses[0, 0] != losses[0, 1]


def test_batches_equal_a_plain_loop_over_the_order_that_is_documented(pool):
    from hpo_spark.objectives.training import batch_order

    objective = probe_objective()
    dataset = objective.data.load(0)
    x, y = dataset.train.x[:, 0].astype(np.float32), dataset.train.y.astype(np.float32)
    weight = np.float32(0)
    for epoch in range(2):
        order = batch_order(len(y), 0, epoch)
        for start in range(0, len(y), 4):
            rows = order[start : start + 4]
            weight -= np.float32(0.1) * np.mean(2 * (weight * x[rows] - y[rows]) * x[rows])
    expected = np.mean((weight * dataset.validation.x[:, 0] - dataset.validation.y) ** 2)
    assert evaluate(pool, objective, {})[0].value == pytest.approx(expected, rel=1e-4)


def test_sample_weights_pass_through(pool):
    x, y = line()
    y[:32] = -100.0
    weight = np.where(y == -100.0, 0.0, 1.0)
    options = {"metric": "val_loss", "epochs": 20, "batch_size": 4, "validation": "last 0.25"}
    given = KerasObjective(models.probe, (x, y), sample_weight=weight, **options)
    brought = KerasObjective(models.probe, (x, y, weight), **options)
    plain = KerasObjective(models.probe, (x, y), **options)
    values = [evaluate(pool, objective, {})[0].value for objective in (given, brought, plain)]
    assert values[0] == values[1] < 3 < values[2]


def test_class_weights_pass_through(pool):
    def objective(weight):
        return KerasObjective(models.tiny, "digits", epochs=2, metric="val_loss", class_weight=weight)

    heavy = evaluate(pool, objective({digit: 100.0 if digit == 3 else 1.0 for digit in range(10)}))[0]
    plain = evaluate(pool, objective(None))[0]
    assert heavy.value > plain.value * 1.2


def test_class_weights_may_leave_classes_out_and_meet_sample_weights(pool):
    def loss(**options):
        objective = KerasObjective(models.tiny, "digits", epochs=2, metric="val_loss", **options)
        trial, _ = evaluate(pool, objective)
        assert trial.state is TrialState.COMPLETED, trial.error
        return trial.value

    whole = loss(class_weight={digit: 5.0 if digit == 3 else 1.0 for digit in range(10)})
    assert loss(class_weight={3: 5.0}) == whole
    assert loss(class_weight={3: 5.0}, sample_weight=np.ones(1438)) == pytest.approx(whole)
    assert loss(class_weight={3: 5.0}, sample_weight=np.full(1438, 0.01)) != pytest.approx(whole)


@pytest.mark.parametrize(
    ("builder", "name"), [(models.with_own_parts, "model.keras"), (models.not_savable, "model.weights.h5")]
)
def test_models_that_keras_cannot_load_are_kept_and_tested_all_the_same(pool, tmp_path, builder, name):
    study = Study(SearchSpace(x=Int(1, 2)), KerasObjective(builder, "digits", epochs=3), "random", seed=0, out=tmp_path)
    result = study.run(pool, max_trials=2)
    assert result.counts == {"COMPLETED": 2}, result.first_cause()
    assert result.test["accuracy"] > 0.7
    assert [path.name for path in (tmp_path / "best").glob("model*")] == [name]


def test_streams_that_shuffle_do_so_alike_in_every_trial(pool):
    objective = KerasObjective(models.tiny, models.shuffled_streams, epochs=2)
    first, second, again = (evaluate(pool, objective, number=number)[0].metrics["loss"] for number in (0, 1, 0))
    assert first == again != second


def test_a_builder_may_ask_for_the_context(pool):
    trial, _ = evaluate(pool, KerasObjective(models.by_shape, "digits", epochs=1), {"x": 1})
    assert trial.state is TrialState.COMPLETED, trial.error


def test_several_metrics_are_several_objectives(pool):
    objective = KerasObjective(models.tiny, "digits", epochs=1, metric=["val_accuracy", "val_loss"])
    trial, _ = evaluate(pool, objective, n_values=2)
    assert trial.values == [trial.metrics["val_accuracy"], trial.metrics["val_loss"]]


def test_datasets_of_tensorflow_come_as_they_are(pool):
    objective = KerasObjective(models.tiny, models.streams, epochs=2)
    trial, model = evaluate(pool, objective)
    assert trial.state is TrialState.COMPLETED, trial.error
    assert "accuracy" in pool.submit(objective.test, model, {"learning_rate": 0.01}, 0).result(timeout=120)
    batched = evaluate(pool, objective, {"learning_rate": 0.01, "batch_size": 8})[0]
    assert "batched already" in batched.reason


@pytest.mark.parametrize(
    ("builder", "options", "words"),
    [
        (models.not_compiled, {}, "not compiled"),
        (models.no_model, {}, "must return a compiled Keras model, got str"),
        (models.tiny, {"metric": "val_auc"}, "metric='val_auc'"),
        (models.explodes, {"metric": "val_loss", "epochs": 3}, "finite number"),
    ],
)
def test_what_is_wrong_with_a_model_is_said(pool, builder, options, words):
    trial, model = evaluate(pool, KerasObjective(builder, "digits", **{"epochs": 1, **options}))
    assert trial.state is TrialState.FAILED
    assert words in trial.reason
    assert model is None


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch_size": -1}, {"epochs": 1.5}])
def test_bad_options_are_refused_at_once(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        KerasObjective(models.tiny, "digits", **options)


def test_nothing_of_a_trial_is_left_for_the_next(pool):
    """The same trial, alone in a new process and after others, gives the same."""
    seen = [evaluate(pool, KerasObjective(models.tiny, "digits", epochs=1), number=n)[0].metrics for n in (3, 4, 3)]
    with ProcessExecutor(1) as fresh:
        alone = evaluate(fresh, KerasObjective(models.tiny, "digits", epochs=1), number=3)[0].metrics
    assert seen[0] == seen[2] == alone


def test_a_process_loads_its_data_once(pool):
    objective = KerasObjective(models.tiny, models.counted, epochs=1)
    before = pool.submit(models.counted).result(timeout=60) and evaluate(pool, models.loads)[0].value
    for number in range(3):
        assert evaluate(pool, objective, number=number)[0].state is TrialState.COMPLETED
    assert evaluate(pool, models.loads)[0].value == before + 1


def test_tensorflow_gets_as_many_threads_as_the_task_has_cores(pool):
    evaluate(pool, KerasObjective(models.tiny, "digits", epochs=1))
    trial, _ = evaluate(pool, models.threads)
    assert (trial.metrics["intra"], trial.metrics["inter"]) == (1, 1)


def table(result):
    return [(t.number, t.params, t.fidelity, t.seed, t.state, t.values) for t in result.trials]


def test_a_search_gives_one_table_whatever_runs_it(spark, tmp_path):
    """Serially in this process, in trial processes, and on one and two Spark slots."""
    space = SearchSpace(
        learning_rate=Float(1e-3, 1e-1, log=True),
        hidden_layers=Int(1, 2),
        optimizer=Choice(["sgd", "adam"]),
        momentum=Float(0.0, 0.9, when={"optimizer": "sgd"}),
    )
    from hpo_spark.objectives.mlp import build_model

    def search(executor, out=None):
        objective = KerasObjective(build_model, "digits", epochs=2)
        # Alone: how many train together, with one dropout, depends on the slots.
        options = {"seed": 3, "out": out, "fixed": {"dropout": 0.2}, "fuse": "off"}
        study = Study(space, objective, {"name": "genetic", "population": 4}, **options)
        with executor:
            return study.run(executor, max_trials=9)

    before = set(sys.modules)
    on_two = search(SparkExecutor(spark), tmp_path / "run")
    on_one = search(SparkExecutor(spark, slots=1))
    in_processes = search(ProcessExecutor(2))
    assert table(on_two) == table(on_one) == table(in_processes)
    assert len(on_two.trials) == 9
    assert (tmp_path / "run" / "best" / "model.keras").read_bytes() == on_two.best_model
    assert on_two.test == in_processes.test
    assert on_two.test["accuracy"] > 0.3
    # TensorFlow stays out of this process: the serial search runs in a trial process as a whole.
    with ProcessExecutor(1) as executor:
        in_series = executor.submit(functools.partial(search, SerialExecutor())).result(timeout=240)
    assert table(in_series) == table(on_two)
    assert "tensorflow" not in set(sys.modules) - before


def test_models_travel_from_a_file_by_value(spark, tmp_path):
    source = Path(models.__file__).read_text()
    (tmp_path / "models_elsewhere.py").write_text(source)
    from hpo_spark.symbols import load_symbol

    builder = load_symbol(f"{tmp_path}/models_elsewhere.py:tiny")
    sys.path.remove(str(tmp_path))
    with SparkExecutor(spark) as executor:
        trial, _ = evaluate(executor, KerasObjective(builder, "digits", epochs=1))
    assert trial.state is TrialState.COMPLETED, trial.error
