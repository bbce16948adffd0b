"""A server whose workers are as on hosts apart: without this package, and with a cache of their own."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from calls_there import imported_from, maps
from connect_server import connect_server, connect_session

from hpo_spark import ConnectExecutor, Float, FunctionObjective, SearchSpace, Study
from hpo_spark.cache import HostCache

pytestmark = pytest.mark.connect

# What a Python without this package would be: the checkout is installed in the tests' own.
WITHOUT = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name == "hpo_spark" and not any("hpo_spark-" in entry for entry in sys.path):
            raise ModuleNotFoundError("No module named 'hpo_spark'", name="hpo_spark")

sys.meta_path[:] = [Without()] + [each for each in sys.meta_path if "editable" not in repr(each)]
"""

CLIENT = """
import sys
from pathlib import Path
from calls_there import hang
from connect_server import connect_session
from hpo_spark import ConnectExecutor

with connect_session(sys.argv[1]) as session, ConnectExecutor(session) as executor:
    executor.submit(hang, sys.argv[2]).result()
"""


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("apart")
    (folder / "sitecustomize.py").write_text(WITHOUT)
    conf = {
        "spark.connect.execute.reattachable.senderMaxStreamDuration": "5s",
        "spark.connect.execute.manager.detachedTimeout": "3s",
        "spark.connect.execute.manager.maintenanceInterval": "1s",
    }
    env = {"PYTHONPATH": str(folder), "HPO_SPARK_CACHE": str(folder / "cache")}
    with connect_server(conf=conf, env=env) as url:
        yield url, HostCache(folder / "cache" / f"hpo_spark-{os.getuid()}")


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HPO_SPARK_CACHE", str(tmp_path / "driver"))


def test_workers_without_the_package_get_it(apart):
    path = list(sys.path)
    with connect_session(apart[0]) as session, ConnectExecutor(session) as executor:
        places = {executor.submit(imported_from, n).result(timeout=60) for n in range(4)}
        assert list(executor.map(abs, [-1, 2])) == [1, 2]
    assert all("hpo_spark-" in place and ".zip" in place for place in places)
    assert sys.path == path


def test_data_goes_to_the_hosts_once_and_is_gone_at_the_end(apart, own_cache):
    url, cache = apart
    x = np.ones((100_000, 6), np.float32)
    study = Study(SearchSpace(a=Float(0, 1)), FunctionObjective(maps, (x, np.zeros(len(x)))), seed=0)
    with connect_session(url) as session, ConnectExecutor(session) as executor:
        result = study.run(executor, 4)
    assert [trial.error for trial in result.trials] == [None] * 4
    assert all(trial.value == pytest.approx(100_000 * 0.85 * 6, rel=1e-3) for trial in result.trials)
    (files,) = {tuple(trial.metrics["files"]) for trial in result.trials}
    assert len(files) == 1 and Path(files[0]).is_relative_to(cache.root)
    assert cache.n_bytes() == 0
    assert HostCache().n_bytes() == 0


def test_the_server_ends_the_tasks_of_a_program_that_was_killed(apart, tmp_path):
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    program = subprocess.Popen([sys.executable, "-c", CLIENT, apart[0], str(tmp_path / "pids")], env=environment)
    try:
        _until((tmp_path / "pids").exists, 120)
        _until((tmp_path / "pids").read_text)
        trial, worker = map(int, (tmp_path / "pids").read_text().split())
        assert psutil.pid_exists(trial)
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait(30)
    _until(lambda: not psutil.pid_exists(trial) and not psutil.pid_exists(worker))


def test_a_server_that_is_gone_breaks_the_executor():
    from pyspark.sql.connect.client.retries import DefaultPolicy

    with connect_server() as url, connect_session(url) as session:
        session.client.set_retry_policies([DefaultPolicy(max_retries=2)])
        with ConnectExecutor(session) as executor:
            assert executor.submit(abs, -1).result(timeout=60) == 1
            futures = [executor.submit(time.sleep, 60) for _ in range(2)]
            (server,) = (
                child for child in psutil.Process().children() if url.rpartition(":")[2] in " ".join(child.cmdline())
            )
            os.killpg(server.pid, signal.SIGKILL)
            ends = [future.exception(timeout=60) for future in futures]
            assert [end for end in ends if not isinstance(end, BrokenExecutor)] == []


def _until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come true"
        time.sleep(0.05)
