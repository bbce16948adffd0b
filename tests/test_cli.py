"""The command line, as users and schedulers call it: in processes of its own, judged by exit code and words."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hpo_spark.cli import main

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

QUICK = """\
study: {seed: 1, max_trials: 6}
space:
  x: {float: [-1.0, 1.0]}
  n: {int: [1, 3]}
searcher: {name: genetic, population: 4}
objective:
  function: my_objective.py:score
report: false
"""
OBJECTIVE = """\
import time

def score(params):
    if params["n"] == 2:
        raise ValueError("two is bad")
    return -params["x"] ** 2

def fails(params):
    raise ArithmeticError("nothing works today")

def nan(params):
    return float("nan")

def slow(params):
    time.sleep(0.3)
    return params["x"]
"""


def test_a_run_folder_that_dies_with_the_process_is_refused(tmp_path, capsys):
    (tmp_path / "quick.yaml").write_text(QUICK)
    assert main(["run", str(tmp_path / "quick.yaml"), "--out", "memory://run"]) == 2
    assert "memory://run: is gone when this process ends" in capsys.readouterr().err


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_objective.py").write_text(OBJECTIVE)
    (tmp_path / "quick.yaml").write_text(QUICK)
    return tmp_path


def environment(**changes):
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "COLUMNS": "200", **changes}


def call(*command, cwd, timeout=150, **changes):
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def hpo(*words, cwd, **changes):
    return call(BIN / "hpo-spark", *words, cwd=cwd, **changes)


def read(folder):
    result = json.loads((folder / "result.json").read_text())
    with (folder / "trials.csv").open() as file:
        return result, list(csv.DictReader(file))


@pytest.mark.parametrize("executor", ["serial", "processes", "spark"])
def test_a_run_shows_progress_a_table_and_leaves_its_files(folder, executor):
    done = hpo("run", "quick.yaml", "--executor", executor, "--out", "runs/x", cwd=folder)
    assert done.returncode == 0, done.stderr
    result, rows = read(folder / "runs" / "x")
    assert result["state"] == "finished"
    assert len(rows) == result["trials"] == 6
    assert result["best_trial"]["params"].keys() == {"x", "n"}
    assert "two is bad" in done.stdout
    assert f"best trial {result['best_trial']['number']}:" in " ".join(done.stdout.split())
    assert "Hall of fame" in done.stdout
    assert "genetic: gen=0" in done.stdout
    assert "runs/x" in done.stdout
    assert "Traceback" not in done.stderr
    assert "FutureWarning" not in done.stderr
    names = {path.name for path in (folder / "runs" / "x").iterdir()}
    assert {"study.yaml", "journal.jsonl", "result.json", "trials.csv", "best", "logs"} <= names


@pytest.mark.long
def test_every_executor_gives_one_table(folder):
    tables = []
    for executor, options in (
        ("serial", ()),
        ("processes", ()),
        ("spark", ("--master", "local[2]")),
    ):
        out = f"runs/{executor}{len(tables)}"
        assert hpo("run", "quick.yaml", "--executor", executor, "--out", out, *options, cwd=folder).returncode == 0
        _, rows = read(folder / out)
        tables.append(
            [[row[key] for key in ("number", "param:x", "param:n", "seed", "state", "value")] for row in rows]
        )
    assert tables[0] == tables[1] == tables[2]


def test_a_run_begins_with_what_an_earlier_one_found(folder):
    run = ("run", "quick.yaml", "--executor", "processes", "--set", "searcher=evolution")
    assert hpo(*run, "--out", "runs/first", cwd=folder).returncode == 0
    first, _ = read(folder / "runs" / "first")
    (folder / "elsewhere").mkdir()
    second = hpo(run[0], "../quick.yaml", *run[2:], "--warm-start", "../runs/first", cwd=folder / "elsewhere")
    assert second.returncode == 0, second.stderr
    (out,) = (folder / "elsewhere" / "runs").iterdir()
    result, rows = read(out)
    assert result["trials"] == 6
    assert rows[0]["param:x"] == str(first["best_trial"]["params"]["x"])
    assert f"warm_start: {folder / 'runs' / 'first'}" in (out / "study.yaml").read_text()
    wrong = hpo(*run, "--warm-start", "runs/nothing", cwd=folder)
    assert wrong.returncode == 2
    assert "expected a run folder that holds a journal.jsonl, got" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.long
def test_a_deterministic_study_is_the_same_on_any_number_of_slots(folder):
    tables = []
    for where in (("serial",), ("processes",), ("spark", "--master", "local[4]")):
        out = f"runs/{len(tables)}"
        changes = ("--set", "study.deterministic=true", "--set", "study.max_trials=16", "--set", "searcher=evolution")
        done = hpo("run", "quick.yaml", *changes, "--out", out, "--executor", *where, cwd=folder)
        assert done.returncode == 0, done.stderr
        _, rows = read(folder / out)
        tables.append(
            [[row[key] for key in ("number", "param:x", "param:n", "seed", "state", "value")] for row in rows]
        )
    assert tables[0] == tables[1] == tables[2]
    assert len(tables[0]) == 16


def test_quiet_shows_logs_only(folder):
    done = hpo("run", "quick.yaml", "--executor", "processes", "--quiet", cwd=folder)
    assert done.returncode == 0
    assert done.stdout == ""
    assert "genetic: gen=0" in done.stderr
    (run,) = (folder / "runs").iterdir()
    assert run.name.startswith("quick-")


def test_a_terminal_gets_a_live_panel(folder):
    """In a pseudo-terminal, as a person sees it."""
    import pty

    master, slave = pty.openpty()
    process = subprocess.Popen(
        [
            BIN / "hpo-spark",
            "run",
            "quick.yaml",
            "--executor",
            "processes",
            "--set",
            "objective.function=my_objective.py:slow",
        ],
        cwd=folder,
        env=environment(TERM="xterm-256color"),
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the terminal closes with its last user
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    assert process.wait(timeout=60) == 0
    text = re.sub(r"\x1b\[[\d;?]*\w", "", shown.decode(errors="replace"))
    for words in ("of 6 done", "busy", "gone", "Hall of fame"):
        assert words in text


def test_when_all_fail_the_cause_is_printed_and_the_code_is_3(folder):
    for name, cause in (("fails", "nothing works today"), ("nan", "nan")):
        options = (
            "--executor",
            "processes",
            "--out",
            f"runs/{name}",
            "--set",
            f"objective.function=my_objective.py:{name}",
        )
        done = hpo("run", "quick.yaml", *options, cwd=folder)
        assert done.returncode == 3
        assert cause in done.stderr
        assert "6 of 6 trials failed" in done.stderr
        result, rows = read(folder / "runs" / name)
        assert result["state"] == "failed"
        assert result["counts"] == {"FAILED": 6}
        assert all(cause in row["error"] for row in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "missing.yaml"], "missing.yaml"),
        (["run", "quick.yaml", "--set", "study.max_trials=none"], "study.max_trials"),
        (["run", "quick.yaml", "--set", "study.typo=1"], "unknown key"),
        (["run", "quick.yaml", "--executor", "yarn"], "yarn"),
        (["run", "quick.yaml", "--executor", "serial", "--master", "local[1]"], "--master"),
        (["run", "quick.yaml", "--nonsense"], "nonsense"),
        (["run"], "STUDY.yaml"),
        (["walk"], "walk"),
        (["run", "quick.yaml", "--set", "objective.data=nowhere.npz"], "objective.data: The data file"),
        (["run", "quick.yaml", "--executor", "processes", "--out", "quick.yaml"], "cannot be written"),
        (["run", "quick.yaml", "--executor", "serial", "--set", "resources.timeout_s=3"], "resources.timeout_s"),
    ],
)
def test_wrong_arguments_end_with_2_before_spark_starts(folder, words, message):
    done = hpo(*words, cwd=folder, JAVA_HOME="/nowhere")
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "runs").exists()


def test_a_master_that_is_none_is_said(folder):
    done = hpo("run", "quick.yaml", "--master", "mesos-like", cwd=folder)
    assert done.returncode == 2
    assert "Spark could not start on master mesos-like" in done.stderr


def test_a_reader_that_leaves_does_not_end_the_search(folder):
    command = f"{BIN}/hpo-spark run quick.yaml --executor processes --out runs/x | head -1"
    subprocess.run(command, shell=True, cwd=folder, env=environment(), timeout=60, capture_output=True, check=False)
    result, _ = read(folder / "runs" / "x")
    assert result["trials"] == 6


def test_a_folder_with_a_study_is_refused_and_kept(folder):
    options = ("run", "quick.yaml", "--executor", "serial", "--out", "runs/x")
    assert hpo(*options, cwd=folder).returncode == 0
    before = {path: path.read_bytes() for path in (folder / "runs").rglob("*") if path.is_file()}
    done = hpo(*options, cwd=folder)
    assert done.returncode == 2
    assert "holds a study already" in done.stderr
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("java", ["missing", "old", "cut down"])
def test_a_java_that_will_not_do_is_said_in_one_sentence(folder, java):
    home = folder / "jdk"
    (home / "bin").mkdir(parents=True)
    script = home / "bin" / "java"
    if java != "missing":
        version = "1.8.0_292" if java == "old" else "17.0.1"
        script.write_text(
            f'#!/bin/sh\n[ "$1" = -version ] && echo \'openjdk version "{version}"\' >&2\necho java.base@17\n'
        )
        script.chmod(0o755)
    done = hpo("run", "quick.yaml", "--out", "runs/x", cwd=folder, JAVA_HOME=str(home))
    assert done.returncode == 2
    assert "Install a Java 17 or newer" in done.stderr
    assert "--executor processes" in done.stderr
    assert {"missing": "has no bin/java", "old": "version 8", "cut down": "jdk.incubator.vector"}[java] in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (folder / "runs" / "x" / "journal.jsonl").exists()


def test_the_job_runs_under_spark_submit_on_the_master_that_it_gives(folder):
    submit = (BIN / "spark-submit", "--master", "local[2]", "--conf", "spark.ui.enabled=false")
    done = call(*submit, ROOT / "jobs" / "tune.py", "run", "quick.yaml", "--out", "runs/x", cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    result, rows = read(folder / "runs" / "x")
    assert len(rows) == 6
    assert result["slots"] == 2
    refused = call(*submit, ROOT / "jobs" / "tune.py", "run", "quick.yaml", "--master", "local[1]", cwd=folder)
    assert refused.returncode == 2
    assert "give the master to spark-submit" in refused.stdout  # spark-submit joins the two


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("executor", ["processes", pytest.param("spark", marks=pytest.mark.long)])
def test_a_signal_ends_the_search_with_75_and_leaves_no_process(folder, number, executor):
    options = ["--executor", executor, "--out", "runs/x", "--set", "objective.function=my_objective.py:slow"]
    process = subprocess.Popen(
        [BIN / "hpo-spark", "run", "quick.yaml", *options, "--set", "study.max_trials=1000"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        journal = folder / "runs" / "x" / "journal.jsonl"
        wait_for(lambda: journal.exists() and '"tell"' in journal.read_text())
        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 75, output
        result, rows = read(folder / "runs" / "x")
        assert result["state"] == "interrupted"
        assert {"COMPLETED", "CANCELLED"} >= {row["state"] for row in rows}
        assert any(row["state"] == "COMPLETED" for row in rows)
        wait_for(lambda: not any(alive(pid) for pid in family))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition, timeout=60):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)


def test_help_and_version_are_told(folder):
    assert "STUDY.yaml" in hpo("run", "--help", cwd=folder).stdout
    from hpo_spark import __version__

    assert hpo("version", cwd=folder).stdout.strip() == __version__


@pytest.mark.long
@pytest.mark.parametrize(("executor", "n_trials"), [("spark", 24), ("processes", 12)])
def test_the_demo_finds_a_good_classifier(folder, executor, n_trials):
    options = ("--executor", executor, "--set", f"study.max_trials={n_trials}", "--out", "runs/demo")
    done = hpo("run", ROOT / "conf" / "digits.yaml", *options, cwd=folder, timeout=280)
    assert done.returncode == 0, done.stderr
    result, _ = read(folder / "runs" / "demo")
    assert result["best_trial"]["value"] >= 0.95
    assert result["test"]["accuracy"] >= 0.93
    assert (folder / "runs" / "demo" / "best" / "model.keras").stat().st_size > 1000
