"""GPUs of a trial on real masters, simulated with a discovery script: the worker has two, and its executor both."""

import itertools
import os
import time

import pytest
from cluster import gpu_script, held, hold, local, most_at_once, standalone

from hpo_spark import ConfigError, SparkExecutor

pytestmark = pytest.mark.cluster

DEVICES = "CUDA_VISIBLE_DEVICES"


@pytest.fixture(
    scope="module", params=[("local-cluster", None), ("standalone", None), ("standalone", "GPU-aa,GPU-bb")], ids=str
)
def gpus(request, tmp_path_factory):
    """A session with four cores and two GPUs; ``devices`` are the names by which libraries know these."""
    master, visible = request.param
    folder = tmp_path_factory.mktemp("gpus")
    of_worker = {
        "spark.worker.resource.gpu.amount": "2",
        "spark.worker.resource.gpu.discoveryScript": str(gpu_script(folder)),
    }
    # A task asks for GPUs by a profile of its own: the submission says what executors have, and no more.
    conf = {"spark.executor.resource.gpu.amount": "2", "spark.executor.cores": "4"}
    if visible:
        conf["spark.executorEnv.CUDA_VISIBLE_DEVICES"] = visible
    if master == "standalone":
        options = " ".join(f"-D{key}={value}" for key, value in of_worker.items())
        opened = standalone(folder / "cluster", n_workers=1, cores=4, worker_opts=options, conf=conf)
    else:
        opened = local("local-cluster[1,4,1024]", folder / "cluster", conf={**of_worker, **conf})
    with opened as cluster:
        cluster.devices = (visible or "0,1").split(",")
        yield cluster


def test_tasks_at_the_same_time_have_a_gpu_each(gpus):
    with SparkExecutor(gpus.spark, gpus=1) as executor:
        assert executor.slots == 2
        outcomes = hold(executor, DEVICES, 6)
    assert sorted({device for device, _ in outcomes}) == gpus.devices
    assert most_at_once([span for _, span in outcomes]) == 2
    for (device, (began, ended)), (other, (other_began, other_ended)) in itertools.combinations(outcomes, 2):
        assert device != other or max(began, other_began) >= min(ended, other_ended)


def test_a_task_may_have_them_all(gpus):
    with SparkExecutor(gpus.spark, gpus=2) as executor:
        assert executor.slots == 1
        outcomes = hold(executor, DEVICES, 2, 0.2)
    assert [sorted(devices.split(",")) for devices, _ in outcomes] == [gpus.devices] * 2
    assert most_at_once([span for _, span in outcomes]) == 1


def test_two_tasks_may_share_one(gpus):
    with SparkExecutor(gpus.spark, gpus=0.5) as executor:
        assert executor.slots == 4
        outcomes = hold(executor, DEVICES, 8)
    assert sorted({device for device, _ in outcomes}) == gpus.devices
    for device in gpus.devices:
        assert most_at_once([span for other, span in outcomes if other == device]) == 2


def test_cores_and_gpus_limit_the_slots_together(gpus):
    with SparkExecutor(gpus.spark, cpus=4, gpus=1) as executor:
        assert executor.slots == 1
        assert most_at_once([span for _, span in hold(executor, DEVICES, 3, 0.3)]) == 1


def test_a_trial_process_is_not_used_for_another_device(gpus):
    """Libraries look at their devices once, so a process keeps those that it began with."""
    with SparkExecutor(gpus.spark, gpus=1) as executor:
        seen = {}
        for future in [executor.submit(device_of_process) for _ in range(12)]:
            pid, at_first, now = future.result(timeout=90)
            assert at_first == now
            assert seen.setdefault(pid, now) == now


def device_of_process():
    """The device that this process began with, and the one that the task has now."""
    time.sleep(0.2)
    with open("/proc/self/environ") as file:
        initial = dict(entry.split("=", 1) for entry in file.read().split("\0") if "=" in entry)
    return os.getpid(), initial.get(DEVICES), os.environ.get(DEVICES)


def test_maps_run_beside_tasks_with_gpus(gpus):
    with SparkExecutor(gpus.spark, gpus=1) as executor:
        future = executor.submit(held, DEVICES, 0.5)
        assert list(executor.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        assert future.result(timeout=60)[0] in gpus.devices


@pytest.mark.parametrize("asked", [3, 1.5, -1, True])
def test_what_no_executor_has_is_refused(gpus, asked):
    with pytest.raises(ConfigError if asked == 3 else ValueError, match=f"gpus={asked}"):
        SparkExecutor(gpus.spark, gpus=asked)
