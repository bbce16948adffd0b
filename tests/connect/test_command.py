"""``executor: connect`` on the command line, against a real server."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.connect

STUDY = """\
study: {seed: 1, max_trials: 3}
space:
  C: {float: [0.01, 100.0], log: true}
objective:
  sklearn: sklearn.linear_model:LogisticRegression
  data: {format: parquet, path: table.parquet, label: y}
  cv: 3
executor: connect
report: false
"""


def hpo(*words, cwd, **changes):
    command = [sys.executable, "-c", "from hpo_spark.cli import run_and_exit; run_and_exit()", *words]
    environment = {**os.environ, "COLUMNS": "200", **changes}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 2)).astype("float32")
    table = pa.table({"a": x[:, 0], "b": x[:, 1], "y": (x.sum(axis=1) > 0).astype("int64")})
    pq.write_table(table, tmp_path / "table.parquet")
    (tmp_path / "study.yaml").write_text(STUDY.replace("table.parquet", str(tmp_path / "table.parquet")))
    return tmp_path


def test_a_study_runs_and_goes_on(folder, connect_url):
    done = hpo("run", "study.yaml", "--set", f"remote={connect_url}", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "RETRIES" not in done.stderr
    done = hpo("resume", "run", "--set", "study.max_trials=5", cwd=folder)  # the server is that of the file by now
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "run" / "result.json").read_text())
    assert (result["state"], result["counts"]) == ("finished", {"COMPLETED": 5})
    assert result["best_trial"]["value"] > 0.8


def test_check_looks_at_the_workers(folder, connect_url):
    done = hpo("check", "study.yaml", cwd=folder, SPARK_REMOTE=connect_url)
    assert done.returncode == 0, done.stderr
    assert "can be run" in done.stdout


def test_a_server_is_started_where_the_url_is_a_local_master(folder):
    done = hpo("run", "study.yaml", "--set", "remote=local[2]", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "run" / "result.json").read_text())["state"] == "finished"
