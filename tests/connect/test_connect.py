"""`ConnectExecutor` beyond the contract: real searches on a real server, and what is particular to Connect."""

import os
import threading
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from calls_there import hang, kill_the_worker, linear, reports_and_hangs

from hpo_spark import (
    ConfigError,
    ConnectExecutor,
    ExecutorLost,
    Float,
    FunctionObjective,
    KerasObjective,
    SearchSpace,
    SklearnObjective,
    SparkExecutor,
    Study,
    TaskCancelled,
    TaskNotRun,
    TaskTimeout,
    TrialState,
)

pytestmark = pytest.mark.connect

RATES = SearchSpace(learning_rate=Float(1e-3, 1.0, log=True))


def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 4)).astype("float32")
    return x, (x.sum(axis=1) > 0).astype(int)


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come true"
        time.sleep(0.02)


def ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_keras_search_leaves_its_best_model(remote_spark, tmp_path):
    study = Study(RATES, KerasObjective(linear, rows(), epochs=3), direction="maximize", seed=0, out=tmp_path / "run")
    with ConnectExecutor(remote_spark) as executor:
        result = study.run(executor, max_trials=4)
    assert [trial.error for trial in result.trials] == [None] * 4
    assert all(len(trial.curve) == 3 for trial in result.trials)
    assert result.best_trial.value > 0.5
    assert (tmp_path / "run" / "best" / "model.keras").exists()


def test_a_search_that_goes_on_repeats_no_trial(remote_spark, tmp_path):
    from sklearn.linear_model import LogisticRegression

    def run(max_trials, **options):
        objective = SklearnObjective(LogisticRegression(), rows(), cv=3)
        study = Study(SearchSpace(C=Float(1e-3, 1e3, log=True)), objective, seed=0, out=tmp_path / "run", **options)
        with ConnectExecutor(remote_spark) as executor:
            return study.run(executor, max_trials=max_trials)

    first, second = run(3), run(6, resume=True)
    assert [trial.state for trial in second.trials] == [TrialState.COMPLETED] * 6
    assert [(trial.number, trial.started) for trial in second.trials[:3]] == [
        (trial.number, trial.started) for trial in first.trials
    ]
    assert all(len(trial.metrics["scores"]) == 3 for trial in second.trials)


def test_a_trial_that_runs_too_long_is_ended_and_what_it_reported_is_kept(remote_spark, tmp_path):
    study = Study(SearchSpace(x=Float(0, 1)), FunctionObjective(reports_and_hangs), seed=0, out=tmp_path / "run")
    with ConnectExecutor(remote_spark, task_timeout_s=3) as executor:
        (trial,) = study.run(executor, max_trials=1, give_up_after=None).trials
        assert isinstance(executor.submit(time.sleep, 60).exception(timeout=60), TaskTimeout)
    assert trial.state == TrialState.TIMED_OUT
    assert [value for _, value in trial.curve] == [0.1, 0.2, 0.3]


def test_a_cancelled_task_goes_with_its_processes_and_alone(remote_spark, tmp_path):
    with ConnectExecutor(remote_spark) as executor:
        cancelled, other = (executor.submit(hang, str(tmp_path / name)) for name in ("cancelled", "other"))
        until(lambda: (tmp_path / "cancelled").exists() and (tmp_path / "other").exists())
        until(lambda: (tmp_path / "cancelled").read_text() and (tmp_path / "other").read_text())
        processes, others = (
            [int(pid) for pid in (tmp_path / name).read_text().split()] for name in ("cancelled", "other")
        )
        executor.cancel(cancelled)
        assert isinstance(cancelled.exception(timeout=30), TaskCancelled)
        until(lambda: all(map(ended, processes)), 15)
        assert not any(map(ended, others)) and not other.done()
        executor.cancel(other)
        assert isinstance(other.exception(timeout=30), TaskCancelled)
        assert executor.submit(abs, -1).result(timeout=60) == 1


def test_the_operations_of_others_in_the_session_are_left_alone(remote_spark):
    def slow(batches):
        import time

        time.sleep(3)
        yield from batches

    found = []

    def foreign():
        remote_spark.addTag("foreign")
        found.append(remote_spark.range(0, 5, 1, 1).mapInArrow(slow, "id long").toArrow().num_rows)

    thread = threading.Thread(target=foreign)
    thread.start()
    with ConnectExecutor(remote_spark) as executor:
        future = executor.submit(time.sleep, 60)
        until(future.running)
        executor.cancel(future)
        assert isinstance(future.exception(timeout=30), TaskCancelled)
    thread.join(60)
    assert found == [5]
    assert remote_spark.getTags() == set()
    assert remote_spark.range(10).count() == 10


def test_a_task_whose_worker_is_lost_is_begun_again_but_not_for_ever(remote_spark, tmp_path):
    with ConnectExecutor(remote_spark) as executor:
        assert executor.submit(kill_the_worker, str(tmp_path / "ran"), 2).result(timeout=120) == 2
        assert isinstance(
            executor.submit(kill_the_worker, str(tmp_path / "no"), 9).exception(timeout=180), ExecutorLost
        )
        assert executor.submit(abs, -1).result(timeout=60) == 1
    assert (tmp_path / "ran").exists() and not (tmp_path / "no").exists()


def test_slots_and_cores_are_the_servers(remote_spark):
    with ConnectExecutor(remote_spark, cpus=1) as executor:
        assert (executor.slots, executor.window) == (2, 4)
        assert executor.submit(os.getenv, "OMP_NUM_THREADS").result(timeout=60) == "1"
    with ConnectExecutor(remote_spark, slots=1) as executor:
        assert (executor.slots, executor.window) == (1, 1)
    with pytest.raises(ConfigError, match=r"cpus=2: the server gives a task spark\.task\.cpus=1.*--conf spark\.task"):
        ConnectExecutor(remote_spark, cpus=2)
    with pytest.raises(
        ConfigError, match=r"gpus=1: the server gives a task spark\.task\.resource\.gpu\.amount=0.*--conf"
    ):
        ConnectExecutor(remote_spark, gpus=1)


def test_another_python_on_the_workers_is_said(remote_spark, monkeypatch):
    """This client only says that it has another: the server's workers then refuse its functions."""
    from pyspark.sql.connect import udf

    monkeypatch.setattr(udf, "sys", SimpleNamespace(version_info=(3, 8)))
    with ConnectExecutor(remote_spark) as executor:
        error = executor.submit(abs, -1).exception(timeout=60)
    assert isinstance(error, TaskNotRun)
    assert "The server's workers run Python 3." in str(error) and "PYSPARK_PYTHON" in str(error)


def test_a_plan_that_is_too_large_is_said(remote_spark):
    with ConnectExecutor(remote_spark) as executor:
        error = executor.submit(len, os.urandom(140_000_000)).exception(timeout=120)
        assert isinstance(error, TaskNotRun)
        assert executor.submit(abs, -1).result(timeout=60) == 1


def test_each_executor_refuses_the_others_session(remote_spark):
    with pytest.raises(TypeError, match="with Spark Connect use ConnectExecutor"):
        SparkExecutor(remote_spark)
