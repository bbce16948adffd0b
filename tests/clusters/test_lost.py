"""Executors, workers and Spark's own processes are lost in the middle of a search; every trial has one result."""

import json
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from cluster import all_gone, local, standalone, wait_for
from misbehaviour import Misbehaves, Sleeps, note

from hpo_spark import Float, SearchSpace, SparkExecutor, Study
from hpo_spark.preflight import preflight

pytestmark = pytest.mark.cluster

SPACE = SearchSpace(x=Float(0.0, 1.0))


def check_records(result, folder, n):
    """Each trial has one record here and one in the journal, and all have completed."""
    assert [trial.number for trial in result.trials] == list(range(n))
    assert [(trial.state, trial.error) for trial in result.trials] == [("COMPLETED", None)] * n
    records = [json.loads(line) for line in (folder / "run" / "journal.jsonl").read_text().splitlines()]
    told = [record for record in records if record["kind"] == "tell"]
    assert sorted(record["number"] for record in told) == list(range(n))
    assert {record["number"]: record["attempt"] for record in told} == {t.number: t.attempt for t in result.trials}


def check_attempts(result, objective):
    """Whoever began more than once says so."""
    began = Counter(number for number, _ in objective.began())
    assert all(trial.attempt >= began[trial.number] for trial in result.trials)
    assert max(trial.attempt for trial in result.trials) > 1


def one_running(objective):
    """Process id of a trial that has just begun."""
    before = len(objective.began())
    wait_for(lambda: len(objective.began()) > before and objective.running(), "a trial to begin", 90)
    return objective.running()[-1][1]


def test_a_search_outlives_an_executor_and_a_worker(tmp_path):
    objective = Sleeps(1.5, tmp_path)
    study = Study(SPACE, objective, "random", "minimize", 0, out=tmp_path / "run")
    with (
        standalone(tmp_path / "cluster", cores=2) as cluster,
        SparkExecutor(cluster.spark, task_timeout_s=60) as executor,
        ThreadPoolExecutor(1) as pool,
    ):
        searching = pool.submit(study.run, executor, max_trials=24)
        wait_for(lambda: len(study.trials) >= 3, "three trials", 90)
        for lost, seconds in ((cluster.executor_of, 5), (cluster.worker_of, 10)):
            pid = one_running(objective)
            killed = lost(pid)
            family = psutil.Process(killed).children(recursive=True)
            os.kill(killed, signal.SIGKILL)
            # What ran there ends with its executor, and not when it likes.
            assert all_gone([process.pid for process in family], within_s=seconds)
            n_told = len(study.trials)
            wait_for(lambda n_told=n_told: len(study.trials) >= n_told + 4, "the search to go on", 90)
        result = searching.result(timeout=200)
        assert cluster.n_alive() == 1
        assert not objective.running()
    check_records(result, tmp_path, 24)
    check_attempts(result, objective)


def test_without_any_worker_nothing_waits_for_ever(tmp_path):
    objective = Sleeps(1.0, tmp_path)
    study = Study(SPACE, objective, "random", "minimize", 0, out=tmp_path / "run")
    with standalone(tmp_path / "cluster", n_workers=0) as cluster:
        began = time.monotonic()
        with SparkExecutor(cluster.spark) as executor:
            seen = preflight(executor, objective, patience_s=3.0)
            assert "No worker has answered" in seen.problems[0]
            result = study.run(executor, max_trials=10, timeout_s=3)
        assert time.monotonic() - began < 30
    assert result.state == "failed"
    assert result.reason.startswith("timeout_s=3")
    assert {trial.state for trial in result.trials} == {"CANCELLED"}


def test_tasks_wait_for_a_worker_when_the_last_one_dies(tmp_path, caplog):
    objective = Sleeps(1.0, tmp_path)
    study = Study(SPACE, objective, "random", "minimize", 0, out=tmp_path / "run")
    with (
        standalone(tmp_path / "cluster", n_workers=1) as cluster,
        SparkExecutor(cluster.spark) as executor,
        ThreadPoolExecutor(1) as pool,
    ):
        searching = pool.submit(study.run, executor, max_trials=6)
        os.kill(cluster.worker_of(one_running(objective)), signal.SIGKILL)
        wait_for(lambda: "no executor is left" in caplog.text, "a warning", 60)
        cluster.add_worker()
        result = searching.result(timeout=120)
    check_records(result, tmp_path, 6)
    check_attempts(result, objective)


@pytest.mark.parametrize("master", ["local[2]", "local[2,3]", "local-cluster[2,1,1024]"])
def test_a_search_outlives_python_workers_of_spark(tmp_path, master):
    objective = Sleeps(1.0, tmp_path)
    study = Study(SPACE, objective, "random", "minimize", 0, out=tmp_path / "run")
    with (
        local(master, tmp_path) as cluster,
        SparkExecutor(cluster.spark) as executor,
        ThreadPoolExecutor(1) as pool,
    ):
        searching = pool.submit(study.run, executor, max_trials=10)
        wait_for(lambda: len(study.trials) >= 2, "two trials", 90)
        for _ in range(2):
            pid = one_running(objective)
            os.kill(cluster.python_worker_of(pid), signal.SIGKILL)
            assert all_gone([pid], within_s=5)
        result = searching.result(timeout=120)
        assert not objective.running()
    check_records(result, tmp_path, 10)
    check_attempts(result, objective)


def test_an_attempt_that_was_cut_off_and_ends_later_changes_nothing(tmp_path):
    """An executor freezes; its trial runs on, another attempt runs elsewhere, and then the executor thaws."""
    objective = Sleeps(4.0, tmp_path)
    study = Study(SPACE, objective, "random", "minimize", 0, out=tmp_path / "run")
    conf = {
        "spark.network.timeout": "10s",
        "spark.network.timeoutInterval": "2s",
        "spark.executor.heartbeatInterval": "2s",
        "spark.storage.blockManagerHeartbeatTimeoutMs": "10000",
    }
    with (
        standalone(tmp_path / "cluster", conf=conf) as cluster,
        SparkExecutor(cluster.spark) as executor,
        ThreadPoolExecutor(1) as pool,
    ):
        searching = pool.submit(study.run, executor, max_trials=12)
        wait_for(lambda: len(study.trials) >= 1, "a trial", 90)
        pid = one_running(objective)
        (number,) = [number for number, other in objective.began() if other == pid][-1:]
        frozen = cluster.executor_of(pid)
        os.kill(frozen, signal.SIGSTOP)
        try:
            again = lambda: [other for begun, other in objective.began() if begun == number and other != pid]  # noqa: E731
            wait_for(again, "another attempt", 60)
            assert (number, pid) in objective.ended()  # the first one went on all the same
        finally:
            os.kill(frozen, signal.SIGCONT)
        result = searching.result(timeout=200)
    check_records(result, tmp_path, 12)
    assert result.trials[number].attempt > 1


class KillsItsExecutor(Misbehaves):
    """The first trial kills the JVM that it works for, at every attempt."""

    def __call__(self, params, context):
        if context.number == 0:
            note(self.folder, "calls", f"{os.getpid()} {time.time()}")
            for parent in psutil.Process().parents():
                if "CoarseGrainedExecutorBackend" in " ".join(parent.cmdline()):
                    parent.kill()
            time.sleep(60)
        time.sleep(0.5)
        return params["x"]


def test_a_trial_under_which_executor_after_executor_is_lost_is_given_up(tmp_path):
    objective = KillsItsExecutor("kills its executor", tmp_path)
    study = Study(SPACE, objective, "random", "minimize", 0, out=tmp_path / "run")
    with standalone(tmp_path / "cluster") as cluster, SparkExecutor(cluster.spark) as executor:
        first, *others = study.run(executor, max_trials=12).trials
    assert first.state in ("FAILED", "CRASHED")
    assert "ExecutorLost" in first.reason
    assert 2 <= first.attempt == len(objective.calls()) <= 10
    assert [trial.state for trial in others] == ["COMPLETED"] * 11


def test_a_result_beyond_what_spark_takes_fails_the_trial(tmp_path):
    """``spark.driver.maxResultSize`` aborts the job on the driver; the trial is at fault, and not its worker."""
    conf = {"spark.driver.maxResultSize": "1m"}
    study = Study(SPACE, LargeMetrics(tmp_path), "random", "minimize", 0)
    with local("local[2,3]", tmp_path, conf=conf) as cluster, SparkExecutor(cluster.spark) as executor:
        first, *others = study.run(executor, max_trials=4).trials
    assert first.state == "FAILED"
    assert "maxResultSize" in first.error
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    assert [trial.state for trial in others] == ["COMPLETED"] * 3


class LargeMetrics:
    def __init__(self, folder):
        self.folder = Path(folder)

    def __call__(self, params, context):
        if context.number > 0:
            return params["x"]
        note(self.folder, "calls", os.getpid())
        return {"value": params["x"], "text": "".join(map(str, range(600_000)))}


def test_a_foreign_job_group_that_is_cancelled_takes_no_trial_with_it(tmp_path):
    """And the other way round: ``cancelAllJobs`` of somebody else ends the trials, which then run again or are told."""
    objective = Sleeps(1.0, tmp_path)
    study = Study(SPACE, objective, "random", "minimize", 0, out=tmp_path / "run")
    with (
        local("local[2,3]", tmp_path) as cluster,
        SparkExecutor(cluster.spark) as executor,
        ThreadPoolExecutor(1) as pool,
    ):
        searching = pool.submit(study.run, executor, max_trials=8)
        one_running(objective)
        cluster.spark.sparkContext.cancelJobGroup("somebody else's")
        one_running(objective)
        cluster.spark.sparkContext.cancelAllJobs()
        result = searching.result(timeout=120)
    assert [trial.number for trial in result.trials] == list(range(8))
    assert {trial.state for trial in result.trials} <= {"COMPLETED", "CANCELLED"}
    assert sum(trial.state == "COMPLETED" for trial in result.trials) >= 2
