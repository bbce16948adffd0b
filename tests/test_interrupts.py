"""Signals in the middle of a search: nothing that was asked is lost, and what was there before is given back."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from hpo_spark import Float, ProcessExecutor, SearchSpace, SerialExecutor, Study

SPACE = SearchSpace(x=Float(0.0, 1.0))
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def quick(params):
    time.sleep(0.002)
    return params["x"]


def interrupted_after(seconds, executor, folder):
    """A search that somebody interrupts, and whether each trial that was asked for is told once."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))

    class Start:
        def on_study_start(self, study):
            timer.start()

    study = Study(SPACE, quick, "random", "minimize", 0, out=folder, callbacks=[Start()])
    result = study.run(executor, max_trials=100_000)
    timer.join()
    records = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    counts = {kind: Counter(r["number"] for r in records if r["kind"] == kind) for kind in ("ask", "tell")}
    assert counts["ask"] == counts["tell"]
    assert [trial.number for trial in result.trials] == sorted(counts["ask"])
    return result


@pytest.mark.parametrize(
    "make",
    [lambda: ProcessExecutor(2), lambda: ThreadPoolExecutor(2), SerialExecutor],
    ids=["processes", "threads", "serial"],
)
def test_no_record_is_lost_whenever_it_comes(make, tmp_path):
    draws = random.Random(0)
    before = [signal.getsignal(number) for number in SIGNALS]
    with make() as executor:
        executor.submit(abs, 1).result()
        for attempt in range(15):
            began = time.monotonic()
            result = interrupted_after(0.02 + 0.2 * draws.random(), executor, tmp_path / str(attempt))
            assert result.state == "interrupted"
            assert time.monotonic() - began < 5
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_programs_own_handlers_stay(tmp_path):
    came = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        study = Study(SPACE, quick, "random", "minimize", 0)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        with SerialExecutor() as executor:
            assert study.run(executor, max_trials=100).state == "finished"
        assert came == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_study_in_another_thread_sets_no_handler(tmp_path):
    before = [signal.getsignal(number) for number in SIGNALS]
    seen = []

    def run():
        study = Study(SPACE, quick, "random", "minimize", 0, callbacks=[lambda *_: seen.append(
            [signal.getsignal(number) for number in SIGNALS])])  # fmt: skip
        with SerialExecutor() as executor:
            study.run(executor, max_trials=3)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert seen == [before] * 3


STUDY = """\
study: {seed: 1, max_trials: 20}
report: false
space:
  x: {float: [0.0, 1.0]}
searcher: random
objective:
  function: my_objective.py:slow
"""
OBJECTIVE = """\
import time

def slow(params):
    time.sleep(0.2)
    return params["x"]
"""


def test_a_program_that_a_shell_started_outlives_it(tmp_path):
    """Also one that finds what spark-submit leaves in the environment of its program, and of what that starts."""
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "my_objective.py").write_text(OBJECTIVE)
    run = f"{Path(sys.executable).parent}/hpo-spark run study.yaml --out run --executor processes"
    shell = subprocess.Popen(
        ["sh", "-c", f"nohup {run} > log 2>&1 & read line"],
        stdin=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYSPARK_GATEWAY_PORT": "1"},
    )
    journal, result = tmp_path / "run" / "journal.jsonl", tmp_path / "run" / "result.json"
    program = None
    try:
        wait_for(lambda: journal.exists() and '"tell"' in journal.read_text())
        (program,) = psutil.Process(shell.pid).children()
        shell.communicate(b"\n", timeout=60)
        assert not result.exists()
        wait_for(result.exists)
        assert json.loads(result.read_text())["counts"] == {"COMPLETED": 20}
    finally:
        shell.kill()
        if program is not None:
            psutil.wait_procs([program], timeout=60)
            if program.is_running():
                program.kill()


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


PROGRAM = """\
import sys, time
from hpo_spark import Float, ProcessExecutor, SearchSpace, Study

def objective(params):
    time.sleep(0.5)
    return params["x"]

study = Study(SearchSpace(x=Float(0.0, 1.0)), objective, "random", "minimize", 0, out=sys.argv[1],
              callbacks=[lambda *_: print("told", flush=True)])
with ProcessExecutor(1) as executor:
    study.run(executor, max_trials=1000)
print("never said")
"""


def test_sigterm_ends_a_program_once_its_search_is_written(tmp_path):
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout.readline() == "told\n"
    program.terminate()
    rest, _ = program.communicate(timeout=60)
    assert program.returncode == -signal.SIGTERM
    assert "never said" not in rest
    assert json.loads((tmp_path / "run" / "result.json").read_text())["state"] == "interrupted"
