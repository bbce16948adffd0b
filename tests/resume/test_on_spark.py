"""The same on Spark: its driver is killed in the middle, and nothing of the search or of Spark is left behind."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import storm

from hpo_spark.errors import ConfigError
from hpo_spark.journal import read_record

PROGRAM = Path(__file__).with_name("on_spark.py")
BINARIES = Path(sys.executable).parent


def ended_in(folder):
    try:
        return {trial.number: storm.table([trial]) for trial in read_record(folder / "run").ended}
    except ConfigError:
        return {}


def killed_and_resumed(folder, n_kills, n_trials):
    """Kills the driver n times, each time some moments after it has gone on; then lets it end."""
    draws = random.Random(0)
    command = [sys.executable, PROGRAM, folder, str(n_trials)]
    ended = {}
    for _ in range(n_kills):
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        try:
            deadline = time.monotonic() + 120
            while len(ended_in(folder)) <= len(ended) and time.monotonic() < deadline and driver.poll() is None:
                time.sleep(0.02)
            time.sleep(draws.uniform(0.0, 0.1))
            family = [driver, *psutil.Process(driver.pid).children(recursive=True)]
        finally:
            os.kill(driver.pid, signal.SIGKILL)
            driver.communicate()
        _, alive = psutil.wait_procs(family[1:], timeout=20)
        assert not [process for process in alive if process.is_running() and process.status() != "zombie"]
        now = ended_in(folder)
        assert {number: now.get(number) for number in ended} == ended
        assert len(ended) < len(now) < n_trials + 1, "it was over before the kill"
        ended = now
    last = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert last.returncode == 0, last.stderr
    lines = [json.loads(line) for line in (folder / "run" / "journal.jsonl").read_text().splitlines()]
    assert set(Counter(line["number"] for line in lines if line["kind"] == "tell").values()) == {1}
    with storm.make_executor("serial") as pool:
        whole = storm.make_study(folder, "evolution", folder / "whole").run(pool, n_trials)
    assert storm.table(read_record(folder / "run").trials) == storm.table(whole.trials)


def test_a_driver_killed_three_times_loses_nothing(tmp_path):
    killed_and_resumed(tmp_path, 3, 120)


@pytest.mark.faults
def test_a_driver_killed_fifty_times_loses_nothing(tmp_path):
    killed_and_resumed(tmp_path, 50, 1500)


STUDY = """\
study: {seed: 1, max_trials: 24, deterministic: true}
report: false
space:
  x: {float: [-1.0, 1.0]}
objective:
  function: my_objective.py:slow
"""
OBJECTIVE = """\
import time

def slow(params):
    time.sleep(0.4)
    return params["x"]
"""


def start(folder, under_submit, *options):
    """The search as a process, in a session of its own, once some of its trials have ended."""
    (folder / "study.yaml").write_text(STUDY)
    (folder / "my_objective.py").write_text(OBJECTIVE)
    begin = [BINARIES / "hpo-spark"]
    if under_submit:
        begin = [BINARIES / "spark-submit", "--master", "local[2]", "--conf", "spark.ui.enabled=false",
                 Path(__file__).parents[2] / "jobs" / "tune.py"]  # fmt: skip
    master = [] if under_submit else ["--master", "local[2]"]
    command = [*begin, "run", "study.yaml", "--out", "run", "--resume", *master, *options]
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True, **place(folder)
        )
    deadline = time.monotonic() + 120
    while len(ended_in(folder)) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    return process


def place(folder):
    path = f"{BINARIES}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SPARK_LOCAL_IP": "127.0.0.1"}
    return {"cwd": folder, "env": environment, "stdin": subprocess.DEVNULL}


@pytest.mark.parametrize(
    "target",
    ["hpo-spark", "driver", pytest.param("jvm", marks=pytest.mark.long), pytest.param("group", marks=pytest.mark.long)],
)
def test_sigterm_ends_in_15_s_and_the_search_is_resumed(tmp_path, target):
    """Whoever gets it: the command; or under spark-submit its Python driver, its JVM, or all that it started."""
    process = start(tmp_path, target != "hpo-spark")
    with all_end_in_15_s(process, tmp_path) as family:
        if target == "driver":
            (driver,) = [
                child for child in family if "python" in child.name() and "tune.py" in " ".join(child.cmdline())
            ]
            driver.send_signal(signal.SIGTERM)
        elif target == "group":
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.send_signal(signal.SIGTERM)
    if target in ("hpo-spark", "driver"):
        assert process.returncode == 75, (tmp_path / "errors").read_text()
    assert_resumed(tmp_path)


@pytest.mark.parametrize("executor", ["processes", pytest.param("spark", marks=pytest.mark.long)])
def test_a_killed_spark_submit_leaves_no_process_and_the_search_is_resumed(tmp_path, executor):
    """With trials in processes the driver never talks to Spark, and learns of it by the kernel's signal alone."""
    process = start(tmp_path, True, "--executor", executor)
    with all_end_in_15_s(process, tmp_path):
        process.kill()
    assert_resumed(tmp_path)


@contextlib.contextmanager
def all_end_in_15_s(process, folder):
    """See that whoever belongs to a process ends with it; whoever does not is killed."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    try:
        began = time.monotonic()
        yield family
        process.wait(timeout=60)
        _, alive = psutil.wait_procs(family, timeout=15)
        seconds = time.monotonic() - began
        assert not [child for child in alive if child.is_running() and child.status() != "zombie"], (
            folder / "errors"
        ).read_text()
        assert seconds < 15
    finally:
        for left in family:
            if left.is_running():
                left.kill()


def assert_resumed(folder):
    """An interrupted search goes on without losing or repeating what has ended."""
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["state"] == "interrupted", (folder / "errors").read_text()
    before = ended_in(folder)
    assert 3 <= len(before) < 24
    again = subprocess.run([BINARIES / "hpo-spark", "resume", "run", "--executor", "processes"], capture_output=True,
                           text=True, timeout=200, check=False, **place(folder))  # fmt: skip
    assert again.returncode == 0, again.stderr
    after = ended_in(folder)
    assert sorted(after) == list(range(24))
    assert {number: after[number] for number in before} == before
