import itertools
import os
import socket
import sys
import threading
import time

import pytest

from hpo_spark import SparkExecutor
from hpo_spark.executors import spark_task
from hpo_spark.versions import versions


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
        futures = [executor.submit(time.sleep, 0.2) for _ in range(4)]
        groups = [executor._group(task) for task in list(executor._tasks.values())]
        assert [future.result(timeout=60) for future in futures] == [None] * 4
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


def test_an_executor_has_a_scheduler_pool_of_its_own(spark):
    """Where the caller's thread names none."""
    with SparkExecutor(spark) as first, SparkExecutor(spark) as second:
        pools = {*first.map(pool_of_task, range(3)), *second.map(pool_of_task, range(3))}
    assert pools == {first._name, second._name}


def test_workers_run_the_drivers_python(spark):
    with SparkExecutor(spark) as executor:
        assert os.path.realpath(executor.submit(python, 0).result(timeout=60)) == os.path.realpath(sys.executable)


def python(_):
    return sys.executable


def test_versions_that_differ_are_said_once_a_worker_and_once_a_driver(spark, monkeypatch, caplog):
    monkeypatch.setattr(spark_task, "_checked", False)
    first, second = (spark_task._first_check({**versions(), "keras": "0.1"}) for _ in range(2))
    assert first.endswith("driver 0.1.")
    assert second is None
    with SparkExecutor(spark) as executor:
        for _ in range(2):
            executor._outcome(None, first)
    assert [record.message for record in caplog.records] == [first]


def test_many_functions_leave_few_broadcasts(spark):
    with SparkExecutor(spark) as executor:
        for n in range(20):
            assert executor.submit(lambda x, n=n: x + n, 1).result(timeout=60) == 1 + n
        assert len(executor._broadcasts) <= 9


def test_large_maps_keep_their_order(spark):
    with SparkExecutor(spark) as executor:
        assert list(executor.map(str, range(50_000))) == [str(n) for n in range(50_000)]


def test_fewer_slots_than_the_cluster_has_are_kept(spark):
    with SparkExecutor(spark, slots=1) as executor:
        spans = [future.result(timeout=60) for future in [executor.submit(span, 0.4) for _ in range(4)]]
    ordered = sorted(spans)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ordered))


def span(seconds):
    began = time.time()
    time.sleep(seconds)
    return began, time.time()


def test_map_takes_a_function_as_it_is_now(spark):
    factor = [1]
    with SparkExecutor(spark) as executor:
        closure = lambda x: factor[0] * x  # noqa: E731
        assert list(executor.map(closure, [1, 2])) == [1, 2]
        factor[0] = 10
        assert list(executor.map(closure, [1, 2])) == [10, 20]


def test_executors_share_a_session_and_return_what_they_changed(spark):
    before = spark.sparkContext.pythonExec
    first, second = SparkExecutor(spark), SparkExecutor(spark)
    first.shutdown()
    first.shutdown()
    assert second.submit(abs, -3).result(timeout=60) == 3
    second.shutdown()
    assert spark.sparkContext.pythonExec == before


def test_shutdown_waits_for_a_map(spark, tmp_path):
    def touch(name):
        time.sleep(0.5)
        (tmp_path / name).touch()

    with SparkExecutor(spark) as executor:
        executor.map(touch, ["a", "b", "c"])
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}


def test_what_is_no_session_is_refused():
    with pytest.raises(TypeError, match=r"SparkSession or SparkContext, got builtins.str"):
        SparkExecutor("local[2]")


def test_a_bad_chunksize_is_refused(spark):
    with SparkExecutor(spark) as executor, pytest.raises(ValueError, match="chunksize=0"):
        executor.map(abs, [1], chunksize=0)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone holds acknowledgements back")
def test_acknowledging_at_once_leaves_descriptors_as_they_are():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as connection:
        connection.settimeout(None)
        # Where a mapped function has set this, each new socket object unblocks what it stands for.
        socket.setdefaulttimeout(5)
        try:
            before = sorted(os.listdir("/proc/self/fd"))
            spark_task._acknowledge_at_once()
            assert sorted(os.listdir("/proc/self/fd")) == before
        finally:
            socket.setdefaulttimeout(None)
        assert os.get_blocking(connection.fileno()) and os.get_blocking(server.fileno())


def test_an_empty_task_after_a_default_timeout_was_set_ends_well(spark):
    with SparkExecutor(spark) as executor:
        list(executor.map(socket.setdefaulttimeout, [5.0] * 8))
        try:
            assert list(executor.map(abs, range(-20, 0))) == list(range(20, 0, -1))
            assert [executor.submit(abs, -n).result(timeout=60) for n in range(4)] == list(range(4))
        finally:
            list(executor.map(socket.setdefaulttimeout, [None] * 8))


def test_the_jvm_of_a_local_session_has_one_compiler(spark):
    management = spark._jvm.java.lang.management.ManagementFactory
    assert "-XX:TieredStopAtLevel=1" in list(management.getRuntimeMXBean().getInputArguments())
