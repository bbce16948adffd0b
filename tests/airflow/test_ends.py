"""How searches end that do not succeed: what is tried again, and what is left behind."""

import json
import signal
import sys
import time
from collections import Counter

import pytest
from installed import ROOT

from hpo_spark.journal import read_record

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

STUDY = """\
study: {{seed: 1, max_trials: 8}}
report: false
space:
  x: {{float: [-1.0, 1.0]}}
searcher: random
objective:
  function: my_objective.py:{objective}
"""
OBJECTIVE = """\
import time
from pathlib import Path

GATE = Path({gate!r})

def fails(params):
    raise ArithmeticError("nothing works today")

def gated(params, context):
    while context.number >= 3 and not (GATE / "open").exists():
        (GATE / "waits").touch()
        time.sleep(0.05)
    return params["x"]
"""
# What spark-submit does in cluster mode, as far as Airflow sees it: the driver runs elsewhere, and all that
# spark-submit says of its failure is 1 on YARN, and nothing where it does not wait for the driver's end.
SPARK_SUBMIT = """\
#!/bin/sh
while [ "$1" != {tune} ]; do shift; done
{python} "$@" --executor processes || exit {code}
"""


@pytest.fixture
def folder(airflow, tmp_path):
    (tmp_path / "my_objective.py").write_text(OBJECTIVE.format(gate=str(tmp_path)))
    for objective in ("fails", "gated"):
        (tmp_path / f"{objective}.yaml").write_text(STUDY.format(objective=objective))
    (tmp_path / "wrong.yaml").write_text("space: {x: {float: [1.0, 0.0]}}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("dag", "study", "reason"),
    [
        ("submitted", "wrong.yaml", "the study file, the arguments or Spark's environment are wrong"),
        ("submitted", "fails.yaml", "no trial succeeded"),
        ("local", "wrong.yaml", "the study file, the arguments or Spark's environment are wrong"),
    ],
)
def test_what_would_end_alike_is_not_tried_again(airflow, folder, dag, study, reason):
    done = airflow.test(dag, study_file=str(folder / study))
    assert done.returncode != 0
    assert airflow.tasks(dag)["search"] == ("failed", 1), done.stdout[-8000:]
    assert f"is not tried again: {reason}" in done.stdout


@pytest.mark.parametrize("code", [1, 0])
def test_in_cluster_mode_the_run_folder_tells(airflow, folder, code):
    """spark-submit is a stand-in here, for there is no YARN; all else is real."""
    binary = airflow.folder / "bin" / "spark-submit"
    binary.parent.mkdir()
    binary.write_text(SPARK_SUBMIT.format(tune=ROOT / "jobs" / "tune.py", python=sys.executable, code=code))
    binary.chmod(0o755)
    try:
        done = airflow.test("in_cluster_mode", study_file=str(folder / "fails.yaml"))
    finally:
        binary.unlink()
        binary.parent.rmdir()
    assert done.returncode != 0
    assert airflow.tasks("in_cluster_mode")["search"] == ("failed", 1), done.stdout[-8000:]
    assert "is not tried again: no trial succeeded" in done.stdout


@pytest.mark.parametrize("dag", ["submitted", "local"])
def test_an_interrupted_search_and_one_that_times_out_leave_no_process_and_go_on(airflow, folder, dag):
    log, waits = folder / "log", folder / "waits"
    run = airflow.begin(dag, log, study_file=str(folder / "gated.yaml"))

    def processes_at_the_gate():
        wait_for(lambda: waits.exists() or run.poll() is not None, log)
        assert run.poll() is None, log.read_text()[-8000:]
        return airflow.spark_processes()

    try:
        first = processes_at_the_gate()
        (driver,) = (process for process in first if is_driver(process))
        driver.terminate()
        wait_for(lambda: none_lives(first), log)
        waits.unlink()  # whoever waits from here on belongs to the second try

        second = processes_at_the_gate()
        wait_for(lambda: sorted(ended_trials(airflow, dag)) == [0, 1, 2], log)  # the others wait at the gate
        ended = ended_trials(airflow, dag)
        run.send_signal(signal.SIGALRM)  # the alarm of the task's execution_timeout, before its time
        wait_for(lambda: none_lives(second), log)
        wait_for(lambda: "Process timed out" in log.read_text(), log)

        (folder / "open").touch()
        assert run.wait(timeout=400) == 0, log.read_text()[-8000:]
    finally:
        run.kill()
        run.wait()
    assert airflow.tasks(dag)["search"] == ("success", 3)
    record = read_record(airflow.run_folder(dag))
    completed = {trial.number: trial for trial in record.ended}
    assert sorted(completed) == list(range(8))
    assert {number: completed[number] for number in ended} == ended
    lines = map(json.loads, (airflow.run_folder(dag) / "journal.jsonl").read_text().splitlines())
    tells = Counter(line["number"] for line in lines if line["kind"] == "tell" and line["state"] == "COMPLETED")
    assert tells == dict.fromkeys(range(8), 1)
    assert airflow.spark_processes() == []


def ended_trials(airflow, dag):
    return {trial.number: trial for trial in read_record(airflow.run_folder(dag)).ended}


def is_driver(process):
    words = process.cmdline()
    return words[0] == sys.executable and str(ROOT / "jobs" / "tune.py") in words


def none_lives(processes):
    return not any(process.is_running() and process.status() != "zombie" for process in processes)


def wait_for(condition, log):
    deadline = time.monotonic() + 400
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-8000:]
        time.sleep(0.1)
