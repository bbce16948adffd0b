import os
import sys
import threading
import time

import pytest

from hpo_spark import SparkExecutor


def where(_):
    return os.getpid(), os.environ.get("OMP_NUM_THREADS"), os.environ.get("TF_NUM_INTRAOP_THREADS")


def test_slots_are_the_clusters_and_more_jobs_are_in_flight(spark):
    with SparkExecutor(spark) as executor:
        assert executor.slots == 2
        assert 3 <= executor.window <= 6
    with SparkExecutor(spark.sparkContext, slots=5) as executor:
        assert executor.slots == 5


def test_map_is_one_job_in_the_spark_workers(spark):
    tracker = spark.sparkContext.statusTracker()
    with SparkExecutor(spark) as executor:
        before = len(tracker.getJobIdsForGroup(None))
        outcomes = list(executor.map(where, range(20)))
        assert len(outcomes) == 20
        assert len(tracker.getJobIdsForGroup(None)) == before
        assert all(threads == ("1", "1") for _, *threads in outcomes for threads in [tuple(threads)])
        (group,) = {
            f"{executor._name}-map-{n}" for n in range(10_000) if tracker.getJobIdsForGroup(f"{executor._name}-map-{n}")
        }
        assert len(tracker.getJobIdsForGroup(group)) == 1


def test_each_submission_is_a_job_group_of_its_own(spark):
    tracker = spark.sparkContext.statusTracker()
    with SparkExecutor(spark) as executor:
        futures = [executor.submit(abs, -n) for n in range(4)]
        assert [future.result(timeout=60) for future in futures] == [0, 1, 2, 3]
        groups = [executor._group(task) for task in executor._tasks.values()]
        assert [len(tracker.getJobIdsForGroup(group)) for group in groups] == [1] * 4


def test_the_session_and_the_jobs_of_others_are_left_alone(spark):
    context = spark.sparkContext
    done = []

    def foreign_job():
        context.setJobGroup("foreign", "somebody else's")
        done.append(context.parallelize([1], 1).map(lambda _: time.sleep(2)).count())

    thread = threading.Thread(target=foreign_job)
    thread.start()
    with SparkExecutor(spark) as executor:
        future = executor.submit(time.sleep, 30)
        time.sleep(1)
        executor.cancel(future)
        assert future.exception(timeout=60) is not None
    thread.join(60)
    assert done == [1]
    assert context.parallelize(range(10), 2).sum() == 45


def test_properties_of_the_callers_thread_hold_for_its_jobs(spark):
    context = spark.sparkContext
    context.setLocalProperty("spark.scheduler.pool", "search")
    try:
        with SparkExecutor(spark) as executor:
            assert executor.submit(pool_of_task, 0).exception(timeout=60) is None
            assert list(executor.map(pool_of_task, [0])) == ["search"]
    finally:
        context.setLocalProperty("spark.scheduler.pool", None)


def pool_of_task(_):
    from pyspark import TaskContext

    context = TaskContext.get()
    return context.getLocalProperty("spark.scheduler.pool") if context else None


def test_workers_run_the_drivers_python(spark):
    with SparkExecutor(spark) as executor:
        assert os.path.realpath(executor.submit(python, 0).result(timeout=60)) == os.path.realpath(sys.executable)


def python(_):
    return sys.executable


def test_many_functions_leave_few_broadcasts(spark):
    with SparkExecutor(spark) as executor:
        for n in range(20):
            assert executor.submit(lambda x, n=n: x + n, 1).result(timeout=60) == 1 + n
        assert len(executor._broadcasts) <= 9


def test_large_maps_keep_their_order(spark):
    with SparkExecutor(spark) as executor:
        assert list(executor.map(str, range(50_000))) == [str(n) for n in range(50_000)]


def test_what_is_no_session_is_refused():
    with pytest.raises(TypeError, match=r"SparkSession or SparkContext, got str"):
        SparkExecutor("local[2]")


def test_a_bad_chunksize_is_refused(spark):
    with SparkExecutor(spark) as executor, pytest.raises(ValueError, match="chunksize=0"):
        executor.map(abs, [1], chunksize=0)
