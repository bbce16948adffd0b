"""Slots follow the cluster: executors that join under dynamic allocation, and a worker that joins or is lost."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster import standalone, wait_for
from misbehaviour import Sleeps

from hpo_spark import Float, SearchSpace, SparkExecutor, Study

pytestmark = pytest.mark.cluster

SPACE = SearchSpace(x=Float(0.0, 1.0))


def dynamic(least, most=2):
    return {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.minExecutors": str(least),
        "spark.dynamicAllocation.initialExecutors": str(least),
        "spark.dynamicAllocation.maxExecutors": str(most),
        "spark.dynamicAllocation.schedulerBacklogTimeout": "1s",
        "spark.dynamicAllocation.executorIdleTimeout": "5s",
        "spark.executor.cores": "1",
    }


def most_at_once(objective, study, running):
    """How many trials ran at the same time at most, until the search ended."""
    most = 0
    while not running.done():
        most = max(most, len(objective.running()))
        time.sleep(0.1)
    return most


@pytest.mark.parametrize("least", [0, 1])
def test_the_backlog_makes_the_cluster_grow_and_the_slots_with_it(tmp_path, least):
    objective = Sleeps(1.5, tmp_path)
    study = Study(SPACE, objective, "random", "minimize", 0)
    with standalone(tmp_path / "cluster", conf=dynamic(least)) as cluster:
        cluster.await_executors(least)
        with SparkExecutor(cluster.spark) as executor, ThreadPoolExecutor(1) as pool:
            assert executor.slots == 1  # also where no executor is there yet
            assert executor.window >= 2  # else there is no backlog
            running = pool.submit(study.run, executor, max_trials=16)
            wait_for(lambda: executor.slots == 2, "a second slot", 60)
            assert cluster.n_registered() == 2
            assert 3 <= executor.window <= 6
            assert most_at_once(objective, study, running) == 2
            result = running.result(timeout=60)
            cluster.await_executors(least)  # idle ones go, and the slots say so with the next task
            assert executor.submit(abs, -1).result(timeout=60) == 1
            wait_for(lambda: executor.slots == 1, "the slots to follow", 10)
    assert result.counts == {"COMPLETED": 16}
    assert {trial.attempt for trial in result.trials} == {1}


def test_slots_that_were_asked_for_win(tmp_path):
    with (
        standalone(tmp_path / "cluster", conf=dynamic(0)) as cluster,
        SparkExecutor(cluster.spark, slots=2) as executor,
    ):
        assert executor.slots == 2
        futures = [executor.submit(time.sleep, 1.0) for _ in range(6)]
        assert all(future.exception(timeout=90) is None for future in futures)
        assert executor.slots == 2


def test_a_worker_that_joins_in_the_middle_gets_trials_and_one_that_is_lost_takes_its_slot(tmp_path):
    objective = Sleeps(1.5, tmp_path)
    study = Study(SPACE, objective, "random", "minimize", 0)
    with (
        standalone(tmp_path / "cluster", n_workers=1) as cluster,
        SparkExecutor(cluster.spark) as executor,
        ThreadPoolExecutor(1) as pool,
    ):
        assert executor.slots == 1
        before = executor.window
        running = pool.submit(study.run, executor, max_trials=40)
        wait_for(lambda: len(study.trials) >= 2, "two trials", 60)
        cluster.add_worker()
        wait_for(lambda: executor.slots == 2, "a second slot", 60)
        assert executor.window > before
        wait_for(lambda: len(objective.running()) == 2, "trials on both", 30)
        cluster.kill_worker()
        wait_for(lambda: executor.slots == 1, "the slot to go", 60)
        n_told = len(study.trials)
        wait_for(lambda: len(study.trials) >= n_told + 4, "the search to go on", 60)
        study.stop()
        result = running.result(timeout=60)
    assert {trial.state for trial in result.trials} <= {"COMPLETED", "CANCELLED"}
    assert result.counts["COMPLETED"] >= 6
