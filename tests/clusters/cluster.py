"""Real masters for tests, started from the installed pyspark on loopback, and Spark sessions on them.

One Python process can have one Spark session, so each ``with`` block here opens a session in a driver JVM of its own
and ends both. Every process that is started on the way carries a mark in its environment, and whoever has it is killed
at the end, whatever happened.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import psutil
import pyspark

ROOT = Path(__file__).parents[2]
SPARK_HOME = Path(pyspark.__file__).parent
MARK = "HPO_SPARK_TEST_CLUSTER"

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


def environment(mark, **changes):
    """What every process of a cluster finds: this Python, this checkout, and the mark."""
    return {
        **os.environ,
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        MARK: mark,
        **changes,
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


class Standalone(Cluster):
    """A master and workers; ``url`` is the master's.

    Args:
        mark: As for `Cluster`.
        folder: For logs and for what executors write.
        cores: Of each worker.
        memory: Of each worker.
        worker_opts: Java options of the workers, such as their GPUs.
    """

    def __init__(self, mark, folder, cores=1, memory="1g", worker_opts=""):
        super().__init__(mark)
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.cores, self.memory, self.worker_opts = cores, memory, worker_opts
        self.port, self.page = free_port(), free_port()
        self.url = f"spark://127.0.0.1:{self.port}"
        self.daemons = []
        self.workers = []

    def start(self, n_workers):
        """Start the master and its first workers, and wait until it knows them."""
        self._start("master", "master.Master", "--port", str(self.port), "--webui-port", str(self.page))
        wait_for(lambda: self.state() is not None, "the master", _START_S, self._last_words)
        for _ in range(n_workers):
            self._start_worker()
        self._await_workers(n_workers)

    def state(self):
        """What the master says of itself; None while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.page}/json/", timeout=5) as answer:
                return json.load(answer)
        except (OSError, ValueError):  # while it starts it may answer with nothing
            return None

    def add_worker(self):
        """Start one more worker, and wait until the master knows it."""
        alive = self.n_alive()
        self._start_worker()
        self._await_workers(alive + 1)

    def n_alive(self):
        return sum(worker["state"] == "ALIVE" for worker in (self.state() or {}).get("workers", []))

    def kill_worker(self, pid=None):
        """SIGKILL for one worker JVM, and its process id; its executors notice and end themselves."""
        return kill_one([worker for worker in self.workers if worker.poll() is None], pid)

    def close(self):
        """End every process, and collect those that were started here."""
        end_marked(self.mark)
        for daemon in self.daemons:
            daemon.wait()

    def _await_workers(self, n):
        wait_for(lambda: self.n_alive() == n, f"{n} workers", _START_S, self._last_words)

    def _start_worker(self):
        name = f"worker-{len(self.workers)}"
        options = ("--cores", str(self.cores), "--memory", self.memory, "--webui-port", "0")
        folder = ("--work-dir", str(self.folder / name))
        self.workers.append(self._start(name, "worker.Worker", *options, *folder, self.url))

    def _start(self, name, role, *options):
        changes = {"SPARK_DAEMON_MEMORY": "256m", "SPARK_WORKER_OPTS": self.worker_opts}
        with (self.folder / f"{name}.log").open("wb") as log:
            daemon = subprocess.Popen(
                [
                    SPARK_HOME / "bin" / "spark-class",
                    f"org.apache.spark.deploy.{role}",
                    "--host",
                    "127.0.0.1",
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment(self.mark, **changes),
                start_new_session=True,
            )
        self.daemons.append(daemon)
        return daemon

    def _last_words(self):
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{log.name}:\n{log.read_text(errors='replace')[-2000:]}" for log in logs)


@contextlib.contextmanager
def daemons(folder, n_workers=2, **options):
    """A `Standalone` without a session."""
    cluster = Standalone(uuid.uuid4().hex, folder, **options)
    try:
        cluster.start(n_workers)
        yield cluster
    finally:
        cluster.close()


@contextlib.contextmanager
def standalone(folder, n_workers=2, conf=None, env=None, **options):
    """A `Standalone` with a session on it; ``conf`` goes to the session, ``env`` to the driver's JVM."""
    settings = {"spark.executor.memory": "512m", **(conf or {})}
    with daemons(folder, n_workers, **options) as cluster, _session(cluster, cluster.url, folder, settings, env):
        if settings.get("spark.dynamicAllocation.enabled") != "true":
            cluster.await_executors(n_workers)
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
    with environ(environment(cluster.mark, **(env or {}))):
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


def marked(mark):
    """The processes that carry a mark, without zombies."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_marked(mark):
    """SIGKILL for all that carry a mark, until there is nobody left."""
    deadline = time.monotonic() + 30
    while (left := marked(mark)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=2)
    assert not left, left


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


def wait_for(condition, what, seconds, explain=lambda: ""):
    """Wait until a condition holds, and return what it said."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}. {explain()}")
        time.sleep(0.1)
    return found


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


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
