"""A search in which every fifth trial misbehaves, in every way there is, also while parts of its cluster die."""

import contextlib
import json
import os
import signal
import threading
import time
import uuid

import psutil
import pytest
from cluster import MARK, environ, is_gone, local, marked, standalone, wait_for
from misbehaviour import CRASHES, FAILURES, HANGS, LONG_S, MEMORY, WAYS, note, note_pids, notes, pids

from hpo_spark import Int, ProcessExecutor, SearchSpace, SparkExecutor, Study

pytestmark = [pytest.mark.storm, pytest.mark.timeout(1200)]

N, SEED = 200, 8  # this seed draws every misdeed
SPACE = SearchSpace(n=Int(0, 10_000))
LIMITS = {"task_timeout_s": 4.0, "memory_mb": 400}
MISDEEDS = (
    *("raises", "raises what cannot be loaded", "raises what cannot be pickled", "exits politely"),
    *("returns NaN", "returns infinity", "returns a text", "returns a lock", "returns a lock as a metric"),
    *("os._exit", "segfault", "SIGKILL", "dies and leaves a child"),
    *("sleeps with children", "sleeps in native code"),
    *("at once", "in children"),
    "waits to be cancelled",
)
STATES = {
    **dict.fromkeys(FAILURES, "FAILED"),
    **dict.fromkeys(MEMORY, "FAILED"),
    **dict.fromkeys(CRASHES, "CRASHED"),
    **dict.fromkeys(HANGS, "TIMED_OUT"),
    "waits to be cancelled": "CANCELLED",
}


def misdeed(params):
    """What a trial with these params does wrong; None for nothing."""
    n = params["n"]
    return MISDEEDS[n // 5 % len(MISDEEDS)] if n % 5 == 0 else None


class Storm:
    """The objective of the storm."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, params, context):
        note_pids(self.folder, os.getpid())
        how = misdeed(params)
        if how == "waits to be cancelled":
            note(self.folder, "to cancel", context.number)
            time.sleep(LONG_S)
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


@contextlib.contextmanager
def dying_cluster(folder):
    """Two workers, of which an executor's JVM and then a Python worker of Spark are killed again and again."""
    over = threading.Event()
    lost = []

    def kill(cluster):
        while not over.wait(8):
            with contextlib.suppress(psutil.Error, StopIteration, IndexError):
                if len(lost) % 2:
                    lost.append(cluster.kill_executor())
                else:
                    worker = cluster.python_worker_of(cluster.trial_processes()[0].pid)
                    os.kill(worker, signal.SIGKILL)
                    lost.append(worker)

    with standalone(folder / "cluster", cores=2) as cluster:
        killer = threading.Thread(target=kill, args=(cluster,))
        with SparkExecutor(cluster.spark, slots=4, **LIMITS) as executor:
            killer.start()
            try:
                yield executor
            finally:
                over.set()
                killer.join()
        assert len(lost) >= 3
        cluster.spark.stop()
        wait_for(lambda: not cluster.trial_processes(), "all processes to go", 10, cluster.trial_processes)


@contextlib.contextmanager
def cancelling(study, folder):
    """Cancel each trial that asks for it."""
    over = threading.Event()

    def cancel():
        while not over.wait(0.1):
            for number in set(map(int, notes(folder, "to cancel"))):
                study.cancel(number)

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("make", [processes, spark, dying_cluster])
def test_a_storm_leaves_one_record_a_trial_and_no_process(tmp_path, make):
    study = Study(SPACE, Storm(tmp_path), "random", "minimize", seed=SEED, out=tmp_path / "run")
    with make(tmp_path) as executor:
        with cancelling(study, tmp_path):
            result = study.run(executor, max_trials=N)
        assert result.state == "finished"
        # Slots count as free only when a process is gone, so at the end of the search only reused ones are left, and
        # one that Spark is still ending.
        wait_for(lambda: sum(not is_gone(pid) for pid in set(pids(tmp_path))) <= 4, "the slots to be free", 10)
    assert all(is_gone(pid) for pid in pids(tmp_path))

    expected = {trial.number: STATES.get(misdeed(trial.params), "COMPLETED") for trial in result.trials}
    assert not [(trial, expected[trial.number]) for trial in result.trials if trial.state != expected[trial.number]]
    assert sorted(expected) == list(range(N))
    assert 35 <= N - list(expected.values()).count("COMPLETED") <= 50
    assert {misdeed(trial.params) for trial in result.trials} == {None, *MISDEEDS}  # this seed draws them all

    records = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    told = [record["number"] for record in records if record["kind"] == "tell"]
    assert sorted(told) == list(range(N))
    for trial in result.trials:
        how = misdeed(trial.params)
        attempts = 2 if how in CRASHES else 1
        assert trial.attempt == attempts or (make is dying_cluster and trial.attempt > attempts), trial
        if how in FAILURES:
            assert FAILURES[how][1] in trial.reason
        elif how in CRASHES:
            assert CRASHES[how][1] in trial.reason
        elif how in MEMORY:
            assert "memory_mb=400" in trial.reason
        assert (tmp_path / "run" / "logs" / f"trial-{trial.number}.log").exists() == (
            trial.state not in ("COMPLETED", "CANCELLED")
        )
