"""A search in which every fifth trial misbehaves, in every way there is."""

import contextlib
import json
import os
import time
import uuid

import pytest
from cluster import MARK, environ, is_gone, local, marked, wait_for
from misbehaviour import CRASHES, FAILURES, HANGS, MEMORY, WAYS, note_pids, pids

from hpo_spark import Int, ProcessExecutor, SearchSpace, SparkExecutor, Study

pytestmark = [pytest.mark.storm, pytest.mark.timeout(1200)]

N = 200
SPACE = SearchSpace(n=Int(0, 10_000))
LIMITS = {"task_timeout_s": 4.0, "memory_mb": 400}
MISDEEDS = (
    *("raises", "raises what cannot be loaded", "raises what cannot be pickled", "exits politely"),
    *("returns NaN", "returns infinity", "returns a text", "returns a lock", "returns a lock as a metric"),
    *("os._exit", "segfault", "SIGKILL", "dies and leaves a child"),
    *("sleeps with children", "sleeps in native code"),
    *("at once", "in children"),
)
STATES = {
    **dict.fromkeys(FAILURES, "FAILED"),
    **dict.fromkeys(MEMORY, "FAILED"),
    **dict.fromkeys(CRASHES, "CRASHED"),
    **dict.fromkeys(HANGS, "TIMED_OUT"),
}


def misdeed(params):
    """What a trial with these params does wrong; None for nothing."""
    n = params["n"]
    return MISDEEDS[n // 5 % len(MISDEEDS)] if n % 5 == 0 else None


class Storm:
    """The objective of the storm."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, params):
        note_pids(self.folder, os.getpid())
        how = misdeed(params)
        if how is not None:
            return WAYS[how](self.folder)
        time.sleep(0.05)
        return float(params["n"])


@contextlib.contextmanager
def processes(folder):
    mark = uuid.uuid4().hex
    with environ({MARK: mark}):
        with ProcessExecutor(4, **LIMITS) as executor:
            yield executor
        wait_for(lambda: not marked(mark), "all processes to go", 10, lambda: marked(mark))


@contextlib.contextmanager
def spark(folder):
    with local("local[4]", folder) as cluster:
        driver = [process.pid for process in cluster.executors()]
        with SparkExecutor(cluster.spark, **LIMITS) as executor:
            yield executor
        assert [process.pid for process in cluster.executors()] == driver
        assert cluster.spark.sparkContext.parallelize(range(8), 4).sum() == 28  # every slot is as it was
        cluster.spark.stop()
        wait_for(lambda: not cluster.trial_processes(), "all processes to go", 10, cluster.trial_processes)


@pytest.mark.parametrize("make", [processes, spark])
def test_a_storm_leaves_one_record_a_trial_and_no_process(tmp_path, make):
    study = Study(SPACE, Storm(tmp_path), "random", "minimize", seed=1, out=tmp_path / "run")
    with make(tmp_path) as executor:
        result = study.run(executor, max_trials=N)
        assert result.state == "finished"
        # Slots count as free only when a process is gone, so at the end of the search only reused ones are left.
        n_left = sum(not is_gone(pid) for pid in set(pids(tmp_path)))
        assert n_left <= 4
    assert all(is_gone(pid) for pid in pids(tmp_path))

    expected = {trial.number: STATES.get(misdeed(trial.params), "COMPLETED") for trial in result.trials}
    assert {trial.number: str(trial.state) for trial in result.trials} == expected
    assert sorted(expected) == list(range(N))
    assert 35 <= N - list(expected.values()).count("COMPLETED") <= 50
    assert {misdeed(trial.params) for trial in result.trials} == {None, *MISDEEDS}  # this seed draws them all

    records = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    told = [record["number"] for record in records if record["kind"] == "tell"]
    assert sorted(told) == list(range(N))
    for trial in result.trials:
        how = misdeed(trial.params)
        assert trial.attempt == (2 if how in CRASHES else 1), trial
        if how in FAILURES:
            assert FAILURES[how][1] in trial.reason
        elif how in CRASHES:
            assert CRASHES[how][1] in trial.reason
        elif how in MEMORY:
            assert "memory_mb=400" in trial.reason
        assert (tmp_path / "run" / "logs" / f"trial-{trial.number}.log").exists() == (trial.state != "COMPLETED")
