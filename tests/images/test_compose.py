"""The Compose file as a user has it, run by podman-compose: a search, and one beside MLflow and an S3 server."""

import contextlib
import json
import os

import pytest
from engine import DOCKER, UID

pytestmark = pytest.mark.images

_PORTS = ("MASTER", "HISTORY", "MLFLOW", "S3")


@contextlib.contextmanager
def composed(engine, runs, **environment):
    """A call for podman-compose with these settings; what it has started ends with the block."""
    settings = {
        "HPO_SPARK_TAG": "test",
        "HPO_SPARK_RUNS": str(runs),
        **{f"HPO_SPARK_{name}_PORT": "" for name in _PORTS},  # any that is free
        **environment,
    }

    def call(*words, timeout=120):
        return engine.run("podman-compose", "--file", DOCKER / "compose.yaml", *words, timeout=timeout, **settings)

    try:
        yield call
    finally:
        call("--profile", "mlflow", "--profile", "s3", "down", "--volumes", "--timeout", "0")


def container(engine, service):
    return engine.podman("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.service={service}")


def test_up_ends_with_a_report(engine, full, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    with composed(engine, runs) as compose:
        compose("up", "--detach")
        code, said = engine.await_end(container(engine, "submit"), 600)
        assert code == 0, said[-6000:]
        assert len(container(engine, "worker").split()) == 2
        history = container(engine, "history")
        engine.await_health(history)
        (application,) = engine.page(history, "http://localhost:18080/api/v1/applications")
        assert application["attempts"][0]["completed"]
    result = json.loads((runs / "digits" / "result.json").read_text())
    assert (result["state"], result["trials"], result["counts"]) == ("finished", 24, {"COMPLETED": 24})
    assert result["best_trial"]["value"] > 0.9
    assert (runs / "digits" / "report.html").stat().st_size > 1_000_000
    assert (runs / "digits" / "best" / "model.keras").stat().st_uid == UID


def test_mlflow_and_s3_stand_beside_it(engine, full, servers, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    settings = {
        "HPO_SPARK_OUT": "s3://runs/digits",
        "HPO_SPARK_OPTIONS": "--set tracking=mlflow --set study.max_trials=3 --set report=false",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "AWS_ENDPOINT_URL": "http://s3:9000",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
    }
    with composed(engine, runs, **settings) as compose:
        profiles = ("--profile", "mlflow", "--profile", "s3")
        compose(*profiles, "up", "--detach", "mlflow", "s3")
        engine.await_health(container(engine, "mlflow"), container(engine, "s3"))
        compose(*profiles, "up", "--detach")
        code, said = engine.await_end(container(engine, "submit"), 400)
        assert code == 0, said[-6000:]
        assert "results in s3://runs/digits" in said
        worker, _ = container(engine, "worker").split()
        read = "import fsspec; print(fsspec.open('s3://runs/digits/result.json', 'r').open().read())"
        result = json.loads(engine.python(worker, read))
        assert (result["state"], result["counts"]) == ("finished", {"COMPLETED": 3})
        count = (
            "from mlflow import MlflowClient\n"
            "experiments = [e.experiment_id for e in MlflowClient().search_experiments()]\n"
            "print(len(MlflowClient().search_runs(experiments)))"
        )
        assert int(engine.python(worker, count)) == 4  # the study and its trials
    assert os.listdir(runs) == []
