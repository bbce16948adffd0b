"""Cores and GPUs of a trial on real masters; the GPUs are simulated with a discovery script."""

import itertools
import os
import time
from concurrent.futures import Future

import pytest
from cluster import gpu_script, local, standalone

from hpo_spark import ConfigError, SparkExecutor

pytestmark = pytest.mark.cluster


def held(seconds=1.0):
    """What a task holds, and from when to when."""
    began = time.time()
    time.sleep(seconds)
    return os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS"), began, time.time()


def hold(executor, n, seconds=1.0):
    futures = [executor.submit(held, seconds) for _ in range(n)]
    return [future.result(timeout=90) for future in futures]


def most_at_once(spans):
    """How many of these spans of time overlap at most."""
    return max(sum(began <= moment < ended for began, ended in spans) for moment, _ in spans)


@pytest.fixture(scope="module", params=["local-cluster", "standalone"])
def gpus(request, tmp_path_factory):
    """Opens a session on one worker with two cores, and two GPUs that its executor has whole."""
    folder = tmp_path_factory.mktemp("gpus")
    script = gpu_script(folder)
    of_worker = {
        "spark.worker.resource.gpu.amount": "2",
        "spark.worker.resource.gpu.discoveryScript": str(script),
    }
    of_executor = {"spark.executor.resource.gpu.amount": "2", "spark.executor.cores": "4"}

    def open_session(name, conf=None):
        conf = {**of_executor, **(conf or {})}
        if request.param == "local-cluster":
            return local("local-cluster[1,4,1024]", folder / name, conf={**of_worker, **conf})
        options = " ".join(f"-D{key}={value}" for key, value in of_worker.items())
        return standalone(folder / name, n_workers=1, cores=4, worker_opts=options, conf=conf)

    return open_session


def test_tasks_at_the_same_time_see_gpus_of_their_own(gpus):
    with gpus("plain") as cluster:
        with SparkExecutor(cluster.spark, gpus=1) as executor:
            assert executor.slots == 2
            outcomes = hold(executor, 6)
            assert {devices for devices, *_ in outcomes} == {"0", "1"}
            assert most_at_once([(began, ended) for *_, began, ended in outcomes]) == 2
            for one, other in itertools.combinations(outcomes, 2):
                overlap = min(one[3], other[3]) - max(one[2], other[2])
                assert one[0] != other[0] or overlap <= 0
        with SparkExecutor(cluster.spark, gpus=2) as executor:
            assert executor.slots == 1
            assert [sorted(devices.split(",")) for devices, *_ in hold(executor, 2, 0.2)] == [["0", "1"]] * 2
        with SparkExecutor(cluster.spark, gpus=0.5) as executor:
            assert executor.slots == 4
            outcomes = hold(executor, 8)
            assert {devices for devices, *_ in outcomes} == {"0", "1"}
            for device in ("0", "1"):
                spans = [(began, ended) for devices, _, began, ended in outcomes if devices == device]
                assert most_at_once(spans) == 2
        with SparkExecutor(cluster.spark) as executor:  # without GPUs the others stay out of sight
            outcomes = hold(executor, 4, 0.2)
            assert {devices for devices, *_ in outcomes} <= {"", "-1", None}
        with pytest.raises(ConfigError, match="gpus=3"):
            SparkExecutor(cluster.spark, gpus=3)


def test_addresses_index_into_the_devices_that_the_executor_may_see(gpus):
    with gpus("visible", {"spark.executorEnv.CUDA_VISIBLE_DEVICES": "GPU-aa,GPU-bb"}) as cluster:
        with SparkExecutor(cluster.spark, gpus=1) as executor:
            outcomes = hold(executor, 4, 0.5)
            assert {devices for devices, *_ in outcomes} == {"GPU-aa", "GPU-bb"}
        with SparkExecutor(cluster.spark, gpus=2) as executor:
            ((devices, *_),) = hold(executor, 1, 0.1)
            assert sorted(devices.split(",")) == ["GPU-aa", "GPU-bb"]


def test_a_trial_process_is_not_used_for_another_device(gpus):
    """Libraries look at their devices once, so a process keeps those that it began with."""
    with gpus("process") as cluster, SparkExecutor(cluster.spark, gpus=1) as executor:
        seen = {}
        for future in [executor.submit(device_of_process) for _ in range(12)]:
            pid, at_first, now = future.result(timeout=90)
            assert at_first == now
            assert seen.setdefault(pid, now) == now


def device_of_process():
    """The device now, and the one that this process began with."""
    time.sleep(0.2)
    with open("/proc/self/environ") as file:
        initial = dict(entry.split("=", 1) for entry in file.read().split("\0") if "=" in entry)
    return os.getpid(), initial.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize("master", ["local[2]", "local[2,3]"])
def test_what_a_local_master_cannot_give_is_refused_with_a_sentence(tmp_path, master):
    with local(master, tmp_path) as cluster:
        for options, word in (({"gpus": 1}, "gpus=1"), ({"gpus": 0.5}, "gpus=0.5"), ({"cpus": 2}, "spark.task.cpus")):
            began = time.monotonic()
            with pytest.raises(ConfigError, match=word):
                SparkExecutor(cluster.spark, **options)
            assert time.monotonic() - began < 5
        with SparkExecutor(cluster.spark, cpus=1, gpus=0) as executor:
            assert executor.submit(abs, -1).result(timeout=60) == 1


def test_gpus_that_no_executor_has_are_refused_with_a_sentence(tmp_path):
    with (
        standalone(tmp_path / "cluster", n_workers=1) as cluster,
        pytest.raises(ConfigError, match=r"gpus=1.*spark\.executor\.resource\.gpu\.amount"),
    ):
        SparkExecutor(cluster.spark, gpus=1)


@pytest.mark.parametrize("master", ["local-cluster[1,4,1024]", "standalone"])
def test_a_trial_gets_the_cores_that_it_asks_for(tmp_path, master):
    opened = (
        standalone(tmp_path / "cluster", n_workers=1, cores=4)
        if master == "standalone"
        else local(master, tmp_path / "cluster")
    )
    with opened as cluster:
        with SparkExecutor(cluster.spark, cpus=2) as executor:
            assert executor.slots == 2
            outcomes = hold(executor, 6)
            assert {threads for _, threads, *_ in outcomes} == {"2"}
            assert most_at_once([(began, ended) for *_, began, ended in outcomes]) == 2
        with SparkExecutor(cluster.spark) as executor:
            assert executor.slots == 4
            assert {threads for _, threads, *_ in hold(executor, 4, 0.2)} == {"1"}
        with pytest.raises(ConfigError, match="cpus=8"):
            SparkExecutor(cluster.spark, cpus=8)


def test_cores_said_in_the_submission_are_those_of_a_trial(tmp_path):
    with local("local[4]", tmp_path, conf={"spark.task.cpus": "2"}) as cluster:
        for options in ({}, {"cpus": 2}):
            with SparkExecutor(cluster.spark, **options) as executor:
                assert executor.slots == 2
                assert {threads for _, threads, *_ in hold(executor, 2, 0.1)} == {"2"}
        with pytest.raises(ConfigError, match=r"cpus=1.*spark\.task\.cpus"):
            SparkExecutor(cluster.spark, cpus=1)


def test_maps_run_beside_tasks_with_resources(gpus):
    with gpus("map") as cluster, SparkExecutor(cluster.spark, gpus=1) as executor:
        future: Future = executor.submit(held, 0.5)
        assert list(executor.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        assert future.result(timeout=60)[0] in ("0", "1")
