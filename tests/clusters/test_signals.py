"""A search under spark-submit on a real master, ended by a signal as schedulers send it."""

import json
import signal
import subprocess
import sys

import psutil
import pytest
from cluster import ROOT, SPARK_HOME, StandaloneCluster, wait_for, words

pytestmark = pytest.mark.cluster

STUDY = """\
study: {seed: 1, max_trials: 1000}
space:
  x: {float: [-1.0, 1.0]}
searcher: random
objective:
  function: my_objective.py:slow
"""
OBJECTIVE = """\
import subprocess
import time

def slow(params):
    subprocess.Popen(["sleep", "600"])
    time.sleep(2.0)
    return params["x"]
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_search_and_every_process_of_its_trials(tmp_path, number):
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "my_objective.py").write_text(OBJECTIVE)
    journal = tmp_path / "run" / "journal.jsonl"
    with StandaloneCluster(tmp_path / "cluster") as cluster:
        conf = {"spark.executor.memory": "512m", "spark.driver.host": "127.0.0.1", "spark.ui.enabled": "false"}
        options = [word for key, value in conf.items() for word in ("--conf", f"{key}={value}")]
        program = [str(ROOT / "jobs" / "tune.py"), "run", "study.yaml", "--out", "run"]
        with (tmp_path / "log").open("wb") as log:
            submitted = cluster.spawn(
                [str(SPARK_HOME / "bin" / "spark-submit"), "--master", cluster.url, *options, *program],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=tmp_path,
            )
        wait_for(
            lambda: journal.exists() and '"tell"' in journal.read_text(), "a trial", 120, (tmp_path / "log").read_text
        )
        (driver,) = [
            process
            for process in psutil.Process(submitted.pid).children(recursive=True)
            if words(process).startswith(sys.executable) and "tune.py" in words(process)
        ]
        driver.send_signal(number)
        assert submitted.wait(timeout=60) == 75, (tmp_path / "log").read_text()
        wait_for(lambda: not cluster.trial_processes(), "trial processes to go", 15, lambda: cluster.trial_processes())
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    asked = [record["number"] for record in records if record["kind"] == "ask"]
    told = {record["number"]: record["state"] for record in records if record["kind"] == "tell"}
    assert sorted(told) == sorted(set(asked))
    assert set(told.values()) == {"COMPLETED", "CANCELLED"}
    assert json.loads((tmp_path / "run" / "result.json").read_text())["state"] == "interrupted"
