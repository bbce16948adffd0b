"""Models that are trained again: where the best value was given, and on request."""

import json
from pathlib import Path

import pytest

from hpo_spark import Choice, ConfigError, Float, KerasObjective, ProcessExecutor, SearchSpace, SparkExecutor, Study
from hpo_spark.cli import main
from hpo_spark.journal import Lease, read_record
from hpo_spark.models import MAX_RETURNED_BYTES
from hpo_spark.refit import refit
from hpo_spark.storage import open_storage

SPACE = SearchSpace(learning_rate=Float(1e-3, 1e-2, log=True))


def small(params):
    import keras

    model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    model.compile(
        keras.optimizers.Adam(params["learning_rate"]), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def wide(params):
    import keras

    layers = [keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(6_000, "relu")]
    model = keras.Sequential([*layers, keras.layers.Dense(10, "softmax")])
    model.compile(
        keras.optimizers.Adam(params["learning_rate"]), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def validated(model, params, study_seed, source):
    """What a model's file predicts on the validation part."""
    import tempfile

    import keras

    with tempfile.NamedTemporaryFile(suffix=".keras") as file:
        file.write(model)
        file.flush()
        loaded = keras.saving.load_model(file.name)
    part = source.load(study_seed).validation
    return loaded.evaluate(part.x, part.y, verbose=0, return_dict=True)["accuracy"]


@pytest.fixture(scope="module")
def pool():
    with ProcessExecutor(1) as executor:
        yield executor


def said(folder):
    return json.loads((folder / "result.json").read_text())


def study(out, objective=None, **options):
    objective = objective or KerasObjective(small, "digits", epochs=1)
    return Study(SPACE, objective, "random", "maximize", 0, out=out, **options)


def test_a_best_trial_whose_value_was_given_is_trained_at_the_end(pool, tmp_path):
    given = [{"params": {"learning_rate": 0.005}, "value": 0.99}]
    result = study(tmp_path, x0=given).run(pool, max_trials=2)
    assert result.best_trial.number == 0
    assert result.best_trial.value == 0.99
    assert result.best_trial.seconds is None
    told = said(tmp_path)["refit"]
    assert (told["trial"], told["full"]) == (0, False)
    assert "was given" in told["reason"]
    assert 0.05 < told["value"] < 0.99
    assert result.test["accuracy"] > 0.05
    model = (tmp_path / "best" / "model.keras").read_bytes()
    assert result.best_model == model
    again = study(tmp_path, x0=given, resume=True).run(pool, max_trials=2)
    assert (again.refit["trial"], again.test) == (0, result.test)
    assert (tmp_path / "best" / "model.keras").read_bytes() == model


def test_the_test_part_is_touched_once_however_often_a_search_goes_on(pool, tmp_path, monkeypatch):
    first = study(tmp_path).run(pool, max_trials=1)
    monkeypatch.setattr("hpo_spark.winner.score_test_part", lambda *args: pytest.fail("the test part was touched"))
    assert study(tmp_path, resume=True).run(pool, max_trials=1).test == first.test


def test_trained_again_it_is_the_same(pool, tmp_path):
    objective = KerasObjective(small, "digits", epochs=2)
    result = study(tmp_path, objective, deterministic=True, lookahead=1).run(pool, max_trials=2)
    (tmp_path / "best" / "model.keras").unlink()
    before = sorted(path.name for path in (tmp_path / "models").iterdir())
    seconds = read_record(tmp_path).seconds
    done = refit(tmp_path, objective, pool)
    assert done.values == result.best_trial.values
    assert done.test == result.test
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == before
    told = said(tmp_path)
    assert (told["refit"]["full"], told["refit"]["value"], told["test"]) == (False, done.values[0], done.test)
    assert (tmp_path / "best" / "model.keras").exists()
    assert read_record(tmp_path).seconds == seconds  # the search did not run meanwhile


def test_a_full_model_stays_until_a_better_trial_comes(pool, tmp_path):
    objective = KerasObjective(small, "digits", epochs=1)
    first = study(tmp_path, objective).run(pool, max_trials=1)
    done = refit(tmp_path, objective, pool, full=True)
    assert done.values is None
    assert not any(name.startswith("val_") for name in done.metrics)
    full = (tmp_path / "best" / "model.keras").read_bytes()
    assert full != first.model_of(first.best_trial)
    same = study(tmp_path, objective, resume=True).run(pool, max_trials=1)
    assert (same.best_model, same.refit["full"], same.test) == (full, True, done.test)
    more = study(tmp_path, objective, resume=True).run(pool, target=first.best_trial.value + 1e-9, max_trials=30)
    assert more.best_trial.number > 0
    assert more.refit is None
    assert more.best_model == more.model_of(more.best_trial) != full


def test_another_trial_can_be_meant(pool, tmp_path):
    objective = KerasObjective(small, "digits", epochs=1)
    result = study(tmp_path, objective).run(pool, max_trials=2)
    other = next(trial for trial in result.trials if trial.number != result.best_trial.number)
    assert refit(tmp_path, objective, pool, trial=other.number).trial.number == other.number
    assert said(tmp_path)["refit"]["trial"] == other.number
    with pytest.raises(ConfigError, match="no trial 7"):
        refit(tmp_path, objective, pool, trial=7)


def plain(params):
    return params["learning_rate"]


def test_what_cannot_be_trained_again_is_said(pool, tmp_path):
    study(tmp_path, plain).run(pool, max_trials=2)
    with pytest.raises(ConfigError, match="keeps none"):
        refit(tmp_path, plain, pool)
    with pytest.raises(ConfigError, match="full"):
        refit(tmp_path, plain, pool, full=True)
    lease = Lease(open_storage(tmp_path))
    lease.acquire(waits=False)
    try:
        with pytest.raises(ConfigError, match="runs this search"):
            refit(tmp_path, plain, pool)
    finally:
        lease.release()


FILE = """\
study: {name: again, seed: 3, max_trials: 1}
report: false
space:
  learning_rate: {float: [1.0e-3, 1.0e-2], log: true}
objective: {keras: "hpo_spark.objectives.mlp:build_model", data: digits, epochs: 1}
executor: processes
"""


def test_the_command_trains_again_and_shows_a_table(tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(FILE)
    out = str(tmp_path / "run")
    assert main(["run", str(tmp_path / "study.yaml"), "--out", out, "--quiet"]) == 0
    capsys.readouterr()
    assert main(["refit", out, "--full"]) == 0
    shown = capsys.readouterr().out
    for words in ("trial", "train and validation part together", "test accuracy", "learning_rate", "best/model.keras"):
        assert words in shown
    assert main(["refit", out, "--trial", "8"]) == 2
    assert main(["refit", str(tmp_path)]) == 2


def test_on_spark_a_worker_writes_a_large_model(spark, tmp_path):
    space = SearchSpace(learning_rate=Float(1e-3, 1e-2, log=True), kind=Choice(["wide"]))
    objective = KerasObjective(wide, "digits", epochs=1)
    with SparkExecutor(spark) as executor:
        result = Study(space, objective, "random", seed=0, out=tmp_path).run(executor, max_trials=2)
        model = Path(tmp_path / "best" / "model.keras").read_bytes()
        assert len(model) > MAX_RETURNED_BYTES
        assert len(list((tmp_path / "models").iterdir())) == 1
        assert result.test["accuracy"] > 0.5
        found = executor.submit(validated, model, {}, 0, objective.data).result(timeout=120)
    assert found == pytest.approx(result.best_trial.value, abs=1e-6)
