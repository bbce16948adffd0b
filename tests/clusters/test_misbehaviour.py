"""Whatever a trial does becomes that trial's result, on real clusters; the trials beside it go on."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster import all_gone, is_gone, wait_for
from misbehaviour import CRASHES, FAILURES, HANGS, MEMORY, Misbehaves, NeedsArguments, Sleeps, pids

from hpo_spark import Float, SearchSpace, SparkExecutor, Study, TaskNotPicklable
from hpo_spark.journal import read_trials

pytestmark = pytest.mark.cluster

SPACE = SearchSpace(x=Float(0.0, 1.0))
# Seconds that a time-out may take beyond its limit.
GRACE_S = 5.0


@pytest.fixture(autouse=True)
def unharmed(cluster):
    """No executor is lost, whatever its trials do."""
    before = sorted(executor.pid for executor in cluster.executors())
    yield
    assert sorted(executor.pid for executor in cluster.executors()) == before


def search(cluster, objective, folder, max_trials=3, **options):
    """The first trial, which misbehaves; the others are checked here."""
    study = Study(SPACE, objective, "random", "minimize", 0, out=folder / "run")
    with SparkExecutor(cluster.spark, **options) as executor:
        result = study.run(executor, max_trials=max_trials)
    first, *others = result.trials
    assert [trial.number for trial in result.trials] == list(range(max_trials))
    assert [trial.state for trial in others] == ["COMPLETED"] * (max_trials - 1)
    assert read_trials(folder / "run" / "journal.jsonl") == result.trials
    return first


@pytest.mark.parametrize("how", FAILURES)
def test_what_is_raised_or_returned_fails_the_trial_once(cluster, tmp_path, how):
    objective = Misbehaves(how, tmp_path)
    trial = search(cluster, objective, tmp_path)
    assert trial.state == "FAILED"
    assert FAILURES[how][1] in trial.reason
    assert "\n" in trial.error.strip() or how == "raises what cannot be printed"  # the traceback follows
    assert trial.host
    assert trial.seconds >= 0
    assert trial.attempt == 1
    assert len(objective.calls()) == 1


@pytest.mark.parametrize("how", CRASHES)
def test_a_trial_that_kills_its_process_gets_one_more(cluster, tmp_path, how):
    objective = Misbehaves(how, tmp_path)
    trial = search(cluster, objective, tmp_path)
    assert trial.state == "CRASHED"
    assert CRASHES[how][1] in trial.reason
    assert trial.attempt == 2
    processes = [pid for pid, _ in objective.calls()]
    assert len(processes) == len(set(processes)) == 2
    assert all(is_gone(pid) for pid in pids(tmp_path))


@pytest.mark.parametrize("how", HANGS)
def test_a_trial_past_its_time_is_killed_with_all_that_it_started(cluster, tmp_path, how):
    limit = 2.0
    ended = []

    class Watch:
        def on_trial_end(self, study, trial):
            if trial.number == 0:
                ended.append((time.time(), [pid for pid in pids(tmp_path) if not is_gone(pid)]))

    objective = Misbehaves(how, tmp_path)
    study = Study(SPACE, objective, "random", "minimize", 0, callbacks=[Watch()])
    with SparkExecutor(cluster.spark, task_timeout_s=limit) as executor:
        first, *others = study.run(executor, max_trials=3).trials
    assert first.state == "TIMED_OUT"
    assert "2 s" in first.reason
    assert first.attempt == 1
    assert [trial.state for trial in others] == ["COMPLETED"] * 2
    ((_, began),) = objective.calls()
    ((when, left),) = ended
    assert not left
    assert limit <= when - began <= limit + GRACE_S


@pytest.mark.parametrize("how", MEMORY)
def test_a_trial_beyond_its_memory_fails_and_is_not_tried_again(cluster, tmp_path, how):
    objective = Misbehaves(how, tmp_path)
    trial = search(cluster, objective, tmp_path, memory_mb=400, task_timeout_s=60)
    assert trial.state == "FAILED"
    assert "MemoryExceeded" in trial.reason
    assert "memory_mb=400" in trial.reason
    assert trial.attempt == 1
    assert trial.seconds < 30
    assert len(objective.calls()) == 1
    assert all(is_gone(pid) for pid in pids(tmp_path))


def test_a_mapped_file_is_not_memory_of_the_trial(cluster, tmp_path):
    trial = search(cluster, Misbehaves("maps a file", tmp_path), tmp_path, memory_mb=400)
    assert trial.state == "COMPLETED", trial.error
    assert trial.attempt == 1


@pytest.mark.parametrize("how", ["sleeps with children", "sleeps without signals"])
def test_a_cancelled_trial_ends_with_all_that_it_started(cluster, tmp_path, how):
    objective = Misbehaves(how, tmp_path)
    study = Study(SPACE, objective, "random", "minimize", 0)
    with SparkExecutor(cluster.spark) as executor, ThreadPoolExecutor(1) as pool:
        running = pool.submit(study.run, executor, max_trials=3)
        n_processes = 6 if "children" in how else 1
        wait_for(lambda: len(pids(tmp_path)) >= n_processes, "the trial to begin", 60)
        assert study.cancel(0)
        first, *others = running.result(timeout=60).trials
        assert all_gone(pids(tmp_path))
    assert first.state == "CANCELLED"
    assert first.attempt == 1
    assert [trial.state for trial in others] == ["COMPLETED"] * 2
    assert len(objective.calls()) == 1


def test_a_stopped_search_ends_what_waits_and_keeps_what_runs(cluster, tmp_path):
    study = Study(SPACE, Sleeps(3.0, tmp_path), "random", "minimize", 0, out=tmp_path / "run")
    with SparkExecutor(cluster.spark) as executor, ThreadPoolExecutor(1) as pool:
        running = pool.submit(study.run, executor, max_trials=50)
        wait_for(lambda: len(study.objective.began()) >= 2, "two trials to begin", 60)
        study.stop()
        trials = running.result(timeout=60).trials
    assert {"COMPLETED"} <= {trial.state for trial in trials} <= {"COMPLETED", "CANCELLED"}
    completed = [trial for trial in trials if trial.state == "COMPLETED"]
    assert len(completed) >= 2
    # What has not run is in no journal as ended: a resumed search runs it.
    assert read_trials(tmp_path / "run" / "journal.jsonl") == completed


def test_a_closure_that_cannot_travel_is_named_and_nothing_is_submitted(cluster, tmp_path):
    lock = threading.Lock()

    def objective(params):
        with lock:
            return params["x"]

    before = n_jobs(cluster.spark)
    with SparkExecutor(cluster.spark) as executor:
        study = Study(SPACE, objective, "random", "minimize", 0, out=tmp_path / "run")
        with pytest.raises(TaskNotPicklable, match=r"objective.*'lock'"):
            study.run(executor, max_trials=3)
        with pytest.raises(TaskNotPicklable, match=r"objective.*'lock'"):
            executor.submit(objective, {"x": 1.0}).result(timeout=60)
    assert study.trials == []
    assert not (tmp_path / "run").exists()
    assert n_jobs(cluster.spark) == before


def n_jobs(spark):
    return spark.sparkContext._jsc.sc().dagScheduler().nextJobId()


def test_an_exception_that_cannot_be_loaded_reaches_the_one_who_submitted(cluster):
    with SparkExecutor(cluster.spark) as executor:
        raised = executor.submit(throw, NeedsArguments, 7, "custom").exception(timeout=60)
        assert "NeedsArguments: custom (7)" in f"{type(raised).__name__}: {raised}"
        assert "in throw" in str(raised.__cause__)


def throw(kind, *arguments):
    raise kind(*arguments)


def test_isolated_trials_have_a_process_each(cluster):
    with SparkExecutor(cluster.spark, isolation="trial") as executor:
        processes = [executor.submit(os.getpid).result(timeout=60) for _ in range(4)]
        assert len(set(processes)) == 4
        assert all_gone(processes[:-1])
