"""``jobs/standalone.py``: a command on a cluster of this machine, of which nothing is left, however it ends."""

import json
import signal
import subprocess
import sys

import psutil
import pytest
from cluster import ROOT

from jobs.standalone import MARK, end_marked, marked, wait_for

pytestmark = pytest.mark.cluster

PROGRAM = [sys.executable, ROOT / "jobs" / "standalone.py", "--workers", "1"]
# Says that it runs, waits, and answers a signal in its own way.
WAITS = ["/bin/sh", "-c", 'trap "exit 75" INT TERM HUP; echo waiting; sleep 600 & wait']


@pytest.fixture
def start(tmp_path):
    """Start it with a command; what both print is in the file ``log``."""
    started = []

    def start(command):
        with (tmp_path / "log").open("wb") as log:
            started.append(subprocess.Popen([*PROGRAM, *command], stdout=log, stderr=log, start_new_session=True))
        return started[0]

    yield start
    for process in started:
        for mark in marks(process):
            for left in marked(mark):
                left.kill()
        process.kill()
        process.wait()


def marks(process):
    """The mark of the cluster that it has started; nothing before it has started anything."""
    try:
        return {child.environ()[MARK] for child in psutil.Process(process.pid).children() if MARK in child.environ()}
    except psutil.Error:
        return set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_goes_to_the_command_and_then_all_is_gone(start, tmp_path, number):
    process = start(WAITS)
    wait_for(lambda: "waiting" in (tmp_path / "log").read_text(), "the command", 200, (tmp_path / "log").read_text)
    (mark,) = marks(process)
    assert len(marked(mark)) >= 4  # a master, a worker, the command, and what it started
    process.send_signal(number)
    assert process.wait(timeout=120) == 75  # what the command has started, and left, gets a while of its own
    assert marked(mark) == []


def test_a_signal_while_it_starts_leaves_nothing(start):
    process = start(WAITS)
    (mark,) = wait_for(lambda: marks(process), "the master", 60)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130
    assert marked(mark) == []


def test_what_was_started_ends_with_a_program_that_is_killed(tmp_path):
    program = (
        "import os, sys\nfrom jobs.standalone import Standalone\ncluster = Standalone(sys.argv[1])\n"
        "cluster.spawn(['sleep', '600'])\nprint(cluster.mark, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    mark = ended.stdout.strip()
    try:
        wait_for(lambda: not marked(mark), "the end of what it started", 30)
    finally:
        end_marked(mark)


def test_the_demo_ends_with_a_report(start, tmp_path, monkeypatch):
    monkeypatch.delenv("HPO_SPARK_REPORT")  # which other tests set to do without
    run = tmp_path / "run"
    small = ["--set", "study.max_trials=2", "--set", "objective.epochs=1", "--out", run]
    process = start([ROOT / "conf" / "standalone" / "installed.sh", "run", ROOT / "conf" / "digits.yaml", *small])
    (mark,) = wait_for(lambda: marks(process), "the master", 60)
    assert process.wait(timeout=280) == 0, (tmp_path / "log").read_text()
    assert marked(mark) == []
    assert json.loads((run / "result.json").read_text())["counts"] == {"COMPLETED": 2}
    assert (run / "report.html").stat().st_size > 1e6


def test_a_command_is_asked_for():
    ended = subprocess.run(PROGRAM, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "a command is missing" in ended.stderr
