"""Looking before a search, and stopping one that runs, from the command line."""

import json
import subprocess
import sys
import time

import pytest
from test_cli import BIN, OBJECTIVE, QUICK, environment, hpo, read

from hpo_spark.journal import read_trials

SLOW = """\

def sleep(params):
    time.sleep(1.0)
    return params["x"]

def hang(params, context):
    time.sleep(300 if context.number == 1 else 0.2)
    return params["x"]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_objective.py").write_text(OBJECTIVE + SLOW)
    (tmp_path / "quick.yaml").write_text(QUICK)
    return tmp_path


class Search:
    """A search in a process of its own."""

    def __init__(self, folder, objective, *options):
        self.folder = folder / "run"
        command = [BIN / "hpo-spark", "run", "quick.yaml", "--out", "run", "--executor", "processes", "--set",
                   f"objective.function=my_objective.py:{objective}", *options]  # fmt: skip
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def wait_until(self, condition):
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if (self.folder / "journal.jsonl").exists() and condition(read_trials(self.folder / "journal.jsonl")):
                return
            time.sleep(0.1)
        raise AssertionError("it never came to that")


def test_a_search_that_runs_can_be_stopped(folder):
    with Search(folder, "sleep", "--set", "study.max_trials=300") as search:
        search.wait_until(lambda trials: len(trials) >= 2)
        stopped = hpo("stop", "run", cwd=folder)
        assert stopped.returncode == 0, stopped.stderr
        assert search.process.wait(timeout=60) == 0
    result, rows = read(folder / "run")
    assert result["reason"] == "stopped by the user"
    assert 2 <= len(rows) < 100
    assert not (folder / "run" / "control").exists()
    again = hpo("stop", "run", cwd=folder)
    assert again.returncode == 2
    assert "has ended already; its state is 'finished'" in again.stderr


def test_one_trial_of_a_search_can_be_cancelled(folder):
    options = ["--set", "study.max_trials=8", "--set", "searcher=random"]
    with Search(folder, "hang", *options) as search:
        search.wait_until(lambda trials: len(trials) >= 1)
        assert hpo("stop", "run", "--trial", 77, cwd=folder).returncode == 2
        cancelled = hpo("stop", "run", "--trial", 1, cwd=folder)
        assert cancelled.returncode == 0, cancelled.stderr
        assert search.process.wait(timeout=60) == 0
    result, _ = read(folder / "run")
    assert result["counts"] == {"COMPLETED": 7, "CANCELLED": 1}


@pytest.mark.long
def test_stopping_what_does_not_run_says_so(folder):
    (folder / "run").mkdir()
    missing = hpo("stop", "run", cwd=folder)
    assert missing.returncode == 2
    assert "is no run folder" in missing.stderr
    record = {"kind": "study", "format": 1}
    (folder / "run" / "journal.jsonl").write_text(json.dumps(record) + "\n")
    dead = hpo("stop", "run", cwd=folder)
    assert dead.returncode == 2
    assert "No search answers" in dead.stderr
    assert not list((folder / "run").glob("control/*"))


@pytest.mark.parametrize("executor", ["processes", "spark", "serial"])
def test_a_check_names_the_workers_and_says_that_the_study_can_be_run(folder, executor):
    done = hpo("check", "quick.yaml", "--executor", executor, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "can be run" in done.stdout
    assert sys.version.split()[0] in done.stdout
    assert "1 executor(s)" in done.stdout
    assert not (folder / "runs").exists()


def test_a_check_finds_an_objective_that_cannot_be_loaded_on_the_workers(folder):
    # It can be imported on the driver only: the variable is not there on the workers.
    (folder / "my_objective.py").write_text(
        "import os\n"
        "class OnlyHere:\n"
        "    def __reduce__(self):\n"
        "        return load, ()\n"
        "def load():\n"
        "    raise ModuleNotFoundError(\"No module named 'company_models'\")\n"
        "only_here = OnlyHere()\n"
        "def score(params):\n"
        "    return float(bool(only_here))\n"
    )
    for command in ("check", "run"):
        done = hpo(command, "quick.yaml", "--executor", "processes", cwd=folder)
        assert done.returncode == 2
        assert "The workers are not ready" in done.stderr
        assert "No module named 'company_models'" in done.stderr
    assert not list(folder.glob("runs/*/journal.jsonl"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "resources.gpus=1", "--master", "local[2]"], "gpus=1: the master local[2] gives tasks no GPUs"),
        (["--executor", "processes", "--set", "resources.gpus=1"], "gpus=1: CUDA_VISIBLE_DEVICES names no devices"),
        (["--executor", "serial", "--set", "resources.gpus=0.5"], "resources.gpus: the executor 'serial'"),
        (["--executor", "serial", "--set", "resources.memory_mb=100"], "resources.memory_mb: the executor 'serial'"),
        (["--executor", "serial", "--set", "resources.isolation=trial"], "resources.isolation: the executor 'serial'"),
        (["--set", "resources.isolation=thread"], "resources.isolation"),
        (["--set", "resources.memory_mb=-1"], "resources.memory_mb"),
    ],
)
def test_resources_that_cannot_be_had_are_refused(folder, options, words):
    done = hpo("check", "quick.yaml", *options, cwd=folder)
    assert done.returncode == 2
    assert words in done.stderr
