"""Files on the hosts of a cluster: two executors of one host have one copy, wherever the driver keeps its own."""

import os
import time

import numpy as np
import pytest
from cluster import local, standalone

from hpo_spark import Float, FunctionObjective, SearchSpace, SparkExecutor, Study
from hpo_spark.cache import HostCache

pytestmark = pytest.mark.cluster

ROWS = 3_000_000  # of 24 bytes: more than one piece


@pytest.fixture(scope="module", params=["local-cluster[2,1,1024]", "standalone"])
def apart(request, tmp_path_factory):
    """A cluster whose workers have a cache of their own, as on hosts apart from the driver's."""
    folder = tmp_path_factory.mktemp("apart")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HPO_SPARK_CACHE", str(folder / "driver"))
        yield from open_apart(request.param, folder)


def open_apart(master, folder):
    conf = {"spark.executorEnv.HPO_SPARK_CACHE": str(folder / "cache")}
    opened = standalone(folder, conf=conf) if master == "standalone" else local(master, folder, conf=conf)
    with opened as cluster:
        yield cluster, HostCache(folder / "cache" / f"hpo_spark-{os.getuid()}")


def mapped(params, context):
    """Which file a trial maps, and how much of its memory it shares with nobody."""
    data, deadline = context.data, time.time() + 1.0
    total = float(data.train.x.sum())
    with open("/proc/self/maps") as maps:
        files = {line.split()[-1] for line in maps if line.endswith("train-x.npy\n")}  # not those of an earlier search
    inodes = sorted((os.stat(file).st_dev, os.stat(file).st_ino) for file in files)
    while time.time() < deadline:  # so that both executors get some
        time.sleep(0.05)
    return {"value": total, "inodes": str(inodes), "executor": os.getppid(), "files": len(files)}


def test_two_executors_of_a_host_map_one_copy_which_goes_at_the_end(apart, tmp_path):
    cluster, cache = apart
    x = np.ones((ROWS, 6), np.float32)
    with SparkExecutor(cluster.spark) as executor:
        study = Study(SearchSpace(a=Float(0, 1)), FunctionObjective(mapped, (x, np.zeros(ROWS))), seed=0)
        result = study.run(executor, 6)
    metrics = [trial.metrics for trial in result.trials]
    assert [trial.error for trial in result.trials] == [None] * 6
    assert all(trial.value == pytest.approx(ROWS * 0.85 * 6, rel=1e-3) for trial in result.trials)
    assert len({one["executor"] for one in metrics}) == 2
    assert len({one["inodes"] for one in metrics}) == 1
    assert all(one["files"] == 1 for one in metrics)
    assert cache.n_bytes() == 0
    assert HostCache().n_bytes() == 0


def test_an_executor_that_joins_late_is_served(apart):
    cluster, cache = apart
    x = np.ones((1000, 6), np.float32)
    seen = []

    def kill_one(study, trial):
        if not seen:
            cluster.kill_executor()
        seen.append(trial.number)

    with SparkExecutor(cluster.spark) as executor:
        study = Study(SearchSpace(a=Float(0, 1)), FunctionObjective(mapped, (x, np.zeros(1000))), seed=0)
        study.callbacks.append(kill_one)
        result = study.run(executor, 6)
    assert [trial.error for trial in result.trials] == [None] * 6
    assert cache.n_bytes() == 0
