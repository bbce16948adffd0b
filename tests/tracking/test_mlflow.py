"""What a real tracking server has of a search, whatever happened to it meanwhile."""

import io
import json
import math
import subprocess
import sys

import joblib
import numpy as np
import pytest
from boards import hparams, scalars
from sklearn.tree import DecisionTreeClassifier

from hpo_spark import Callback, Choice, Float, Int, SearchSpace, SerialExecutor, SklearnObjective, Study
from hpo_spark.cli import main
from hpo_spark.journal import read_trials
from hpo_spark.tracking import follower

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

NASTY = "<b>\"n'ä\u2028/..;" + "x" * 300
SPACE = SearchSpace(
    lr=Float(1e-4, 1e-1, log=True),
    units=Int(4, 64),
    optimizer=Choice(["sgd", "adam", ""]),
    momentum=Float(0.0, 0.9, when={"optimizer": "sgd"}),
    **{NASTY: Choice([None, "ü" * 9000, [1, 2]])},
)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(follower, "_FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr(follower, "_LAST_PAUSE_S", 0.2)


@pytest.fixture
def client(server):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=server.url)


def objective(params, context):
    if params["units"] % 5 == 0:
        raise ValueError("fives are bad")
    for epoch in range(1, 4):
        context.report(epoch, params["lr"] * epoch)
    return {"value": params["lr"], "accuracy": 0.5, "nothing": math.nan, "name": "not a number"}


def search(out, server, n=8, resume=False, callbacks=(), name=None, **options):
    tracking = {"mlflow": {"uri": server.url, "experiment": "tests", **options}}
    study = Study(
        SPACE, objective, "random", "maximize", 3, out, callbacks, tracking=tracking, resume=resume, name=name
    )
    with SerialExecutor() as executor:
        return study.run(executor, max_trials=n)


def runs_of(client, name):
    """The study's run, and those of its trials by number; each once."""
    experiment = client.get_experiment_by_name("tests")
    studies = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")
    assert len(studies) == 1
    nested = client.search_runs(
        [experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{studies[0].info.run_id}'", max_results=1000
    )
    by_number = {int(run.data.tags["number"]): run for run in nested}
    assert len(by_number) == len(nested)
    return studies[0], by_number


def history(client, run, key):
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key)]


def check(client, out, name):
    """The server has every trial of the journal once and whole, and nothing twice."""
    parent, runs = runs_of(client, name)
    trials = read_trials(out)
    assert set(runs) == {trial.number for trial in trials}
    for trial in trials:
        run = runs[trial.number]
        assert run.info.status == ("FINISHED" if trial.values else "FAILED")
        assert run.data.params["lr"] == str(trial.params["lr"])
        assert run.data.params["optimizer"] == trial.params["optimizer"]
        assert len(run.data.params) == len(trial.params)
        assert run.data.tags["state"] == str(trial.state)
        assert run.data.tags["host"] == trial.host
        assert run.data.tags["attempt"] == "1"
        assert history(client, run, "seconds") == [(3 if trial.values else 0, trial.seconds)]
        if trial.values:
            assert history(client, run, "value") == [(3, trial.value)]
            assert history(client, run, "reported") == [(step, value) for step, value in trial.curve]
        else:
            assert run.data.tags["error"] == "ValueError: fives are bad"
    best, improvements = -math.inf, []
    for step, trial in enumerate(trials, 1):
        if trial.values and trial.value > best:
            best = trial.value
            improvements.append((step, best))
    assert history(client, parent, "best_value") == improvements
    return parent


class Reports(Callback):
    """Stands for whatever adds a report to the run folder."""

    def on_study_written(self, study, result):
        study.out.write("report.html", f"<p>{len(result.trials)} trials".encode())


def test_a_run_for_the_study_and_nested_ones_for_its_trials(server, client, tmp_path):
    search(tmp_path / "run", server, name="plain", callbacks=[Reports()])
    parent = check(client, tmp_path / "run", "plain")
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["state"] == "finished"
    assert parent.data.params["direction"] == "maximize"
    assert parent.data.metrics["trials"] == 8
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert files == {"report.html", "study.yaml", "result.json", "trials.csv", "best"}
    state = json.loads((tmp_path / "run" / "tracking.json").read_text())
    assert state["mlflow"]["run_id"] == parent.info.run_id


class At(Callback):
    """Does something once so many trials have ended."""

    def __init__(self, n, action):
        self._n, self._action = n, action

    def on_trial_end(self, study, trial):
        self._n -= 1
        if self._n == 0:
            self._action()


def test_a_server_that_is_stopped_and_started_again_has_all_in_the_end(server, client, tmp_path, caplog, capsys):
    one, other = tmp_path / "one", tmp_path / "other"
    result = search(one, server, n=10, name="one", callbacks=[At(4, server.stop)])
    assert server.process is None  # it was away when the search had ended
    assert result.state == "finished"
    assert len(result.trials) == 10
    assert "cannot be written to" in caplog.text
    assert f"hpo-spark track {one}" in caplog.text
    assert main(["track", str(one)]) == 2
    assert "cannot be written to" in capsys.readouterr().err

    # Another search begins without it, and finds it in its middle.
    search(other, server, n=20, name="other", callbacks=[At(10, server.start)])
    assert check(client, other, "other").info.status == "FINISHED"

    assert main(["track", str(one)]) == 0
    assert "which now has all" in capsys.readouterr().out
    assert check(client, one, "one").info.status == "FINISHED"
    (one / "tracking.json").unlink()  # the runs are found again by their tags
    assert main(["track", str(one)]) == 0
    assert "0 of 10 trial(s) are new" in capsys.readouterr().out
    check(client, one, "one")


def test_what_was_written_in_part_is_completed(server, client, tmp_path, capsys):
    from mlflow.entities import Metric

    out = tmp_path / "run"
    search(out, server, n=4, name="partly")
    _, runs = runs_of(client, "partly")
    whole = next(trial for trial in read_trials(out) if trial.values)
    run = runs[whole.number]
    client.delete_run(run.info.run_id)
    torn = client.create_run(
        run.info.experiment_id,
        tags={tag: value for tag, value in run.data.tags.items() if not tag.startswith("mlflow.run")},
    )
    client.log_batch(torn.info.run_id, metrics=[Metric("reported", value, 5, step) for step, value in whole.curve[:2]])
    assert main(["track", str(out)]) == 0
    assert "1 of 4 trial(s) are new" in capsys.readouterr().out
    check(client, out, "partly")


def test_a_search_that_goes_on_has_one_run(server, client, tmp_path):
    search(tmp_path / "run", server, n=3, name="resumed")
    search(tmp_path / "run", server, n=6, name="resumed", resume=True)
    parent = check(client, tmp_path / "run", "resumed")
    assert parent.data.metrics["trials"] == 6


def test_many_params_and_metrics_go_in_parts(server, client, tmp_path):
    wide = SearchSpace(**{f"p{index}": Float(0.0, 1.0) for index in range(230)})

    def reports(params, context):
        for step in range(2500):
            context.report(step, step)
        return {"value": 1.0, **{f"m{index}": index for index in range(300)}}

    tracking = [{"mlflow": {"uri": server.url, "experiment": "tests"}}]
    with SerialExecutor() as executor:
        Study(wide, reports, "random", out=tmp_path / "run", name="wide", tracking=tracking).run(executor, 1)
    _, runs = runs_of(client, "wide")
    assert len(runs[0].data.params) == 230
    assert runs[0].data.metrics["m299"] == 299
    assert len(history(client, runs[0], "reported")) == 2500


def test_the_environment_says_where_and_passwords_stay_there(server, client, tmp_path, monkeypatch, caplog, capfd):
    secret = "cor-rect!horse"
    away, here = f"http://ann:{secret}@127.0.0.1:1", server.url.replace("//", f"//ann:{secret}@")
    out = tmp_path / "run"
    study = Study(SPACE, objective, "random", "maximize", 3, out, name="secret", tracking={"mlflow": {"uri": away}})
    with SerialExecutor() as executor:
        study.run(executor, 2)
    assert "mlflow at http://ann:***@127.0.0.1:1 lacks 2 trial(s)" in caplog.text
    monkeypatch.setenv("MLFLOW_TRACKING_URI", here)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tests")
    assert main(["track", str(out)]) == 0
    check(client, out, "secret")
    printed = capfd.readouterr()
    parent, runs = runs_of(client, "secret")
    files = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    for text in (*files, caplog.text, printed.out, printed.err, *(str(run.data) for run in (parent, *runs.values()))):
        assert secret not in text


def test_in_memory_too(server, client):
    search(None, server, n=2, name="memory")
    parent, runs = runs_of(client, "memory")
    assert set(runs) == {0, 1}
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert files == {"study.yaml", "result.json", "trials.csv"}


def test_a_model_that_keras_cannot_load_is_a_plain_file(server, client, tmp_path):
    def trains(params, context):
        context.keep_model(b"weights")
        return params["x"]

    tracking = {"mlflow": {"uri": server.url, "experiment": "tests"}}
    study = Study(
        SearchSpace(x=Float(0.0, 1.0)), trains, "random", out=tmp_path / "run", name="file", tracking=tracking
    )
    with SerialExecutor() as executor:
        study.run(executor, 2)
    parent, _ = runs_of(client, "file")
    files = {file.path for file in client.list_artifacts(parent.info.run_id, "best")}
    assert files == {"best/params.yaml", "best/model.weights.h5"}


def on_curve(params, context):
    """Reports values that a pruner compares, the worse the later."""
    for epoch in range(1, 4):
        context.report(epoch, params["x"] * epoch)
    return {"value": params["x"], "epochs": 3}


def test_repeats_improve_no_best_value_and_are_told_apart(server, client, tmp_path):
    """The repeats are all better than the search's best, which is what the study's run must go on to show."""

    def rises(params, context):
        return params["x"] + (10 if context.number >= 4 else 0)

    tracking = {"mlflow": {"uri": server.url, "experiment": "tests"}}
    study = Study(
        SearchSpace(x=Float(0.0, 1.0)), rises, "random", seed=3, out=tmp_path / "run", name="repeats",
        tracking=tracking, confirm={"top_k": 1, "repeats": 3},
    )  # fmt: skip
    with SerialExecutor() as executor:
        result = study.run(executor, 4)
    parent, runs = runs_of(client, "repeats")
    assert len(runs) == 7
    best = max(trial.value for trial in result.trials if trial.repeat is None)
    told = history(client, parent, "best_value")
    assert max(value for _, value in told) == best < 10 < result.best_trial.value
    again = [run for number, run in runs.items() if number >= 4]
    assert {run.data.tags["repeat"] for run in again} == {"1", "2", "3"}
    assert {run.data.tags["repeat_of"] for run in again} == {str(result.confirmed[0].original.number)}


def test_pruned_trials_and_fidelities_are_what_they_are_called(server, client, tmp_path):
    tracking = ["tensorboard", {"mlflow": {"uri": server.url, "experiment": "tests"}}]
    study = Study(
        SearchSpace(x=Float(0.0, 1.0)), on_curve, "random", seed=3, out=tmp_path / "run", name="fidelities",
        tracking=tracking, pruner={"name": "median", "start": 2}, fidelity={"min": 1, "max": 4, "eta": 2},
    )  # fmt: skip
    with SerialExecutor() as executor:
        result = study.run(executor, 16)
    assert {"PRUNED", "COMPLETED"} <= set(result.counts)
    _, runs = runs_of(client, "fidelities")
    assert set(runs) == {trial.number for trial in result.trials}
    _, groups = hparams(tmp_path / "run" / "tensorboard")
    folders = {
        int(path.name.split(",")[0].removeprefix("trial-")): path for path in tmp_path.glob("run/tensorboard/*/")
    }
    for trial in result.trials:
        run = runs[trial.number]
        assert run.info.status == "FINISHED"
        assert run.data.tags["state"] == str(trial.state)
        assert run.data.tags["fidelity"] == str(trial.fidelity)
        assert run.data.tags.get("parent") == (None if trial.parent is None else str(trial.parent))
        reported = [(step, pytest.approx(value, rel=1e-6)) for step, value in trial.curve]
        assert history(client, run, "reported") == reported
        assert ("value" in run.data.metrics) == bool(trial.values)
        read = scalars(folders[trial.number])
        assert read["reported"] == reported
        assert ("value" in read) == bool(trial.values)
        assert groups[f"trial-{trial.number}"][2] == {"STATUS_SUCCESS"}


def cross_validated(server, out, name, **options):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    objective = SklearnObjective(DecisionTreeClassifier, (x, (x[:, 0] > 0).astype(int)), cv=2)
    tracking = {"mlflow": {"uri": server.url, "experiment": "tests", **options}}
    study = Study(SearchSpace(max_depth=Int(1, 5)), objective, "random", seed=0, out=out, name=name, tracking=tracking)
    with SerialExecutor() as executor:
        return study.run(executor, 2)


@pytest.mark.tracking
@pytest.mark.parametrize("in_memory", [False, True])
def test_the_best_estimator_is_one_that_mlflow_loads_and_is_registered(server, client, tmp_path, in_memory):
    import mlflow

    name = f"trees-{in_memory}"
    result = cross_validated(server, None if in_memory else tmp_path / "run", name, register=name)
    parent, _ = runs_of(client, name)
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert version.run_id == parent.info.run_id
    mlflow.set_tracking_uri(server.url)
    try:
        loaded = mlflow.sklearn.load_model(f"models:/{name}/1")
    finally:
        mlflow.set_tracking_uri(None)
    x = np.random.default_rng(1).normal(size=(20, 3))
    assert loaded.predict(x).tolist() == joblib.load(io.BytesIO(result.best_model)).predict(x).tolist()


SKINNY = """
import re, sys
from importlib.metadata import packages_distributions, requires
ours = {"mlflow-skinny", "mlflow-tracing", "numpy", "scipy"}
needed = {re.split(r"[^\\w.-]", line)[0].lower() for line in requires("mlflow") if "extra" not in line} - ours
for module, names in packages_distributions().items():
    if {name.lower() for name in names} & needed and module not in ("mlflow",):
        sys.modules[module] = None
assert sys.modules["pandas"] is None and sys.modules["sqlalchemy"] is None and sys.modules["flask"] is None
from hpo_spark import Float, SearchSpace, SerialExecutor, Study
import logging
logging.basicConfig(level="WARNING")
def trains(params, context):
    context.report(1, params["x"])
    context.keep_model(bytes([128]) + b"pickled")
    return params["x"]
tracking = {"mlflow": {"uri": sys.argv[1], "experiment": "tests", "register": "skinny"}}
study = Study(SearchSpace(x=Float(0.0, 1.0)), trains, "random", seed=1, name="skinny", tracking=tracking)
with SerialExecutor() as executor:
    study.run(executor, 3)
"""


@pytest.mark.tracking
def test_the_small_package_of_mlflow_is_enough(server, client, tmp_path):
    """As with mlflow-skinny alone: what only the whole of MLflow brings cannot be imported."""
    done = subprocess.run([sys.executable, "-c", SKINNY, server.url], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    parent, runs = runs_of(client, "skinny")
    assert parent.info.status == "FINISHED"
    assert set(runs) == {0, 1, 2}
    assert history(client, runs[0], "reported") == history(client, runs[0], "value")
    assert {file.path for file in client.list_artifacts(parent.info.run_id, "best")} == {"best/model.joblib"}
    assert "not registered as 'skinny', since it is a plain file there: its form in MLflow needs sklearn" in done.stderr


def test_a_model_that_cannot_be_registered_is_said(server, client, tmp_path, caplog):
    search(tmp_path / "none", server, n=2, name="none", register="nothing")
    assert "there is no model to register as 'nothing'" in caplog.text

    def trains(params, context):
        context.keep_model(b"weights")
        return params["x"]

    tracking = {"mlflow": {"uri": server.url, "experiment": "tests", "register": "weights"}}
    study = Study(SearchSpace(x=Float(0.0, 1.0)), trains, "random", out=tmp_path / "file", tracking=tracking)
    with SerialExecutor() as executor:
        study.run(executor, 1)
    assert "not registered as 'weights', since it is a plain file there: Keras could not save it whole" in caplog.text


@pytest.mark.tracking
def test_the_best_model_is_one_that_mlflow_loads_and_is_registered_once(server, client, tmp_path, monkeypatch):
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    path = tmp_path / "model.keras"
    model.save(path)
    content = path.read_bytes()

    def trains(params, context):
        context.keep_model(content)
        return params["x"]

    out = tmp_path / "run"
    tracking = {"mlflow": {"uri": server.url, "experiment": "tests", "register": "digits"}}
    study = Study(SearchSpace(x=Float(0.0, 1.0)), trains, "random", out=out, name="model", tracking=tracking)
    with SerialExecutor() as executor:
        study.run(executor, 2)
    for _ in range(2):
        (version,) = client.search_model_versions("name = 'digits'")
        parent, _ = runs_of(client, "model")
        assert version.run_id == parent.info.run_id
        assert main(["track", str(out)]) == 0
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    mlflow.set_tracking_uri(server.url)
    try:
        loaded = mlflow.keras.load_model("models:/digits/1")
        x = np.ones((3, 2))
        assert loaded.predict(x, verbose=0) == pytest.approx(model.predict(x, verbose=0))
    finally:
        mlflow.set_tracking_uri(None)
