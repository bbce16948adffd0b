"""Real masters for tests, started from the installed pyspark on loopback, and Spark sessions on them.

One Python process can have one Spark session, so each ``with`` block here opens a session in a driver JVM of its own
and ends both. Every process that is started on the way carries a mark in its environment, and whoever has it is killed
at the end, whatever happened.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil

from jobs.standalone import MARK, SPARK_HOME, Standalone, end_marked, marked, wait_for

ROOT = Path(__file__).parents[2]
# What every process of a cluster finds: this Python and this checkout.
OURS = {
    "SPARK_HOME": str(SPARK_HOME),
    "SPARK_LOCAL_IP": "127.0.0.1",
    "PYSPARK_PYTHON": sys.executable,
    "PYTHONPATH": str(ROOT),
}

_START_S = 90
_LOGGING = (ROOT / "hpo_spark" / "log4j2.properties").as_uri()
_QUIET = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "512m",
    "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={_LOGGING}",
}


class Cluster:
    """What tests want to know of the processes behind a session.

    Attributes:
        spark: The session.
        mark: The mark of the processes that belong to the cluster.
    """

    def __init__(self, mark):
        self.mark = mark
        self.spark = None

    def processes(self):
        return marked(self.mark)

    def executors(self):
        """The JVMs of executors; on ``local[N]`` the driver's."""
        found = [process for process in self.processes() if "CoarseGrainedExecutorBackend" in words(process)]
        return found or [process for process in self.processes() if is_driver(process)]

    def n_registered(self):
        """How many executors the driver knows, without itself."""
        return len(self.spark.sparkContext._jsc.sc().statusTracker().getExecutorInfos()) - 1

    def await_executors(self, n):
        wait_for(lambda: self.n_registered() == n, f"{n} executors", _START_S)

    def kill_executor(self, pid=None):
        """SIGKILL for one executor JVM, and its process id."""
        return kill_one(self.executors(), pid)

    def trial_processes(self):
        """Whoever is neither Java, nor Spark's Python, nor about to become it: trial processes and what they start."""
        return [process for process in self.processes() if not belongs_to_spark(process)]

    def python_worker_of(self, pid):
        """The process id of Spark's Python worker that a trial process works for."""
        return next(parent.pid for parent in psutil.Process(pid).parents() if belongs_to_spark(parent))

    def executor_of(self, pid):
        """The process id of the executor JVM that a trial process works for."""
        executors = {executor.pid for executor in self.executors()}
        return next(parent.pid for parent in psutil.Process(pid).parents() if parent.pid in executors)

    def worker_of(self, pid):
        """The process id of the standalone worker's JVM that a trial process works for."""
        return psutil.Process(self.executor_of(pid)).ppid()


class StandaloneCluster(Cluster, Standalone):
    """A master and workers, with or without a session."""

    def __init__(self, folder, **options):
        Standalone.__init__(self, folder, variables=OURS, **options)
        Cluster.__init__(self, self.mark)

    def kill_worker(self, pid=None):
        """SIGKILL for one worker JVM, and its process id; its executors notice and end themselves."""
        return kill_one([worker for worker in self.workers if worker.poll() is None], pid)


@contextlib.contextmanager
def standalone(folder, n_workers=2, conf=None, env=None, n_executors=None, **options):
    """A `StandaloneCluster` with a session on it, and as many executors as workers, or so many.

    ``conf`` goes to the session, ``env`` to the driver's JVM.
    """
    settings = {"spark.executor.memory": "512m", **(conf or {})}
    opened = StandaloneCluster(folder, n_workers=n_workers, **options)
    with opened as cluster, _session(cluster, cluster.url, folder, settings, env):
        if settings.get("spark.dynamicAllocation.enabled") != "true":
            cluster.await_executors(n_workers if n_executors is None else n_executors)
        yield cluster


@contextlib.contextmanager
def local(master, folder, conf=None, env=None):
    """A `Cluster` of ``local[...]`` or ``local-cluster[...]`` with a session on it."""
    cluster = Cluster(uuid.uuid4().hex)
    changes = dict(env or {})
    if master.startswith("local-cluster"):
        changes["SPARK_HOME"] = str(linked_home(Path(folder) / "spark-home"))
    try:
        with _session(cluster, master, folder, conf or {}, changes):
            if master.startswith("local-cluster"):
                cluster.await_executors(int(master.removeprefix("local-cluster[").split(",")[0]))
            yield cluster
    finally:
        end_marked(cluster.mark)


def linked_home(folder):
    """A Spark home of links to the real one: local-cluster writes a folder into it."""
    folder.mkdir(parents=True)
    for entry in SPARK_HOME.iterdir():
        if entry.name not in ("work", "__pycache__"):
            (folder / entry.name).symlink_to(entry)
    return folder


def gpu_script(folder, addresses=("0", "1")):
    """A discovery script for GPUs that are not there."""
    script = Path(folder) / "gpus.sh"
    script.write_text(f"#!/bin/sh\necho '{json.dumps({'name': 'gpu', 'addresses': list(addresses)})}'\n")
    script.chmod(0o755)
    return script


@contextlib.contextmanager
def _session(cluster, master, folder, conf, env):
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    assert SparkContext._active_spark_context is None, (
        "A process has one Spark session: run the tests of clusters apart from the others, with -m cluster."
    )
    _end_gateway()
    with environ({**os.environ, **OURS, MARK: cluster.mark, **(env or {})}):
        builder = SparkSession.builder.master(master).appName("hpo-spark clusters")
        settings = {
            **_QUIET,
            "spark.local.dir": str(Path(folder) / "local"),
            "spark.sql.warehouse.dir": str(Path(folder) / "warehouse"),
            "spark.executorEnv.PYTHONPATH": str(ROOT),
            **conf,
        }
        for key, value in settings.items():
            builder = builder.config(key, value)
        try:
            cluster.spark = builder.getOrCreate()
            yield
        finally:
            if cluster.spark is not None:
                with contextlib.suppress(Exception):  # a test may have killed what is to be stopped
                    cluster.spark.stop()
            SparkSession._instantiatedSession = None
            _end_gateway()


@contextlib.contextmanager
def environ(changed):
    before = dict(os.environ)
    os.environ.update(changed)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _end_gateway():
    """End the driver's JVM: its environment and most of its settings cannot be changed later."""
    from pyspark import SparkContext

    gateway = SparkContext._gateway
    if gateway is None:
        return
    SparkContext._gateway = SparkContext._jvm = SparkContext._active_spark_context = None
    with contextlib.suppress(Exception):
        gateway.shutdown()
    if gateway.proc is not None:
        gateway.proc.stdin.close()
        try:
            gateway.proc.wait(timeout=20)
        except subprocess.TimeoutExpired:
            gateway.proc.kill()
            gateway.proc.wait()


def words(process):
    """The command line of a process; empty where it is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def is_driver(process):
    return "org.apache.spark.deploy.SparkSubmit" in words(process)


def belongs_to_spark(process):
    command = words(process)
    spark_python = "pyspark.daemon" in command or "pyspark.worker" in command or "pyspark/daemon" in command
    return spark_python or "org.apache.spark" in command or "/bin/spark-" in command or not command


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def all_gone(pids, within_s=10.0):
    """Whether all these processes end in time."""
    deadline = time.monotonic() + within_s
    while not all(is_gone(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def kill_one(processes, pid=None):
    victim = next(process for process in processes if pid in (None, process.pid))
    os.kill(victim.pid, signal.SIGKILL)
    return victim.pid


def most_at_once(spans):
    """How many of these spans of time overlap at most."""
    return max(sum(began <= moment < ended for began, ended in spans) for moment, _ in spans)


def held(variable, seconds):
    """What a task finds in an environment variable, and from when to when it ran."""
    began = time.time()
    time.sleep(seconds)
    return os.environ.get(variable), (began, time.time())


def hold(executor, variable, n, seconds=1.0):
    """What ``n`` such tasks say."""
    futures = [executor.submit(held, variable, seconds) for _ in range(n)]
    return [future.result(timeout=90) for future in futures]
