"""A command on a Spark standalone cluster of this machine: a master and workers on loopback, for as long as it runs.

``python jobs/standalone.py COMMAND ...`` starts the cluster from the installed pyspark, gives the command the master's
URL in ``MASTER``, and ends with the command's exit code. Whatever happens, no process is left: all of them carry a mark
in their environment, by which they are found and killed; on Linux the kernel ends the master, the workers and the
command where this program itself is killed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TypeVar

import psutil
import pyspark

__all__ = ["MARK", "SPARK_HOME", "ClusterError", "Standalone", "end_marked", "main", "marked", "wait_for"]

SPARK_HOME = Path(pyspark.__file__).parent
# Environment variable that all processes of a cluster have the cluster's own value of, with all that they start.
MARK = "HPO_SPARK_CLUSTER"

_START_S, _END_S = 120.0, 30.0
_HOST = "127.0.0.1"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None

T = TypeVar("T")


class ClusterError(RuntimeError):
    """The cluster does not do what it should in time."""


class Standalone:
    """A master and workers on loopback, for a ``with`` block.

    Args:
        folder: For logs and for what executors write.
        n_workers: Workers to begin with.
        cores: Of each worker.
        memory: Of each worker, as Spark writes it: ``"2g"``.
        worker_opts: Java options of the workers, such as their GPUs.
        variables: Environment of the daemons, and so of executors, beside the caller's.

    Attributes:
        url: The master's.
        mark: The value of `MARK` of all its processes.
        workers: The workers' processes, in the order of their start.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        n_workers: int = 2,
        cores: int = 1,
        memory: str = "1g",
        worker_opts: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.n_workers, self.cores, self.memory, self.worker_opts = n_workers, cores, memory, worker_opts
        self.mark = uuid.uuid4().hex
        self._port, self._page = _free_port(), _free_port()
        self.url = f"spark://{_HOST}:{self._port}"
        self.workers: list[subprocess.Popen[bytes]] = []
        self._spawned: list[subprocess.Popen[bytes]] = []
        self._variables = dict(variables or {})

    def __enter__(self) -> Standalone:
        """Start the master and its first workers, and wait until it knows them.

        Raises:
            ClusterError: If they are not there in time; says what they have logged.
        """
        try:
            self._start("master", "master.Master", "--port", str(self._port), "--webui-port", str(self._page))
            wait_for(lambda: self.state() is not None, "the master", _START_S, self._last_words)
            for _ in range(self.n_workers):
                self._start_worker()
            self._await_workers(self.n_workers)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """End all processes, the applications' too."""
        self.close()

    def spawn(
        self, command: Sequence[str | os.PathLike[str]], variables: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a process that belongs to the cluster and ends with it; a terminal's Ctrl-C does not reach it.

        Args:
            command: The program with its arguments.
            variables: Of its environment, beside those of the cluster.
            **options: Of `subprocess.Popen`.
        """
        environment = {
            **os.environ,
            "SPARK_HOME": str(SPARK_HOME),
            "SPARK_LOCAL_IP": _HOST,
            **self._variables,
            **(variables or {}),
            MARK: self.mark,
        }
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command, env=environment, start_new_session=True, preexec_fn=_end_with_parent, **options
        )
        self._spawned.append(process)
        return process

    def state(self) -> dict[str, Any] | None:
        """What the master says of itself; None while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{_HOST}:{self._page}/json/", timeout=5) as answer:
                state: dict[str, Any] = json.load(answer)
                return state
        except (OSError, ValueError):  # while it starts it may answer with nothing
            return None

    def n_alive(self) -> int:
        """Workers that the master counts on."""
        return sum(worker["state"] == "ALIVE" for worker in (self.state() or {}).get("workers", []))

    def add_worker(self) -> None:
        """Start one more worker, and wait until the master knows it."""
        alive = self.n_alive()
        self._start_worker()
        self._await_workers(alive + 1)

    def close(self) -> None:
        """Kill every process that belongs to the cluster, and collect those that were started here."""
        end_marked(self.mark)
        for process in self._spawned:
            process.wait()

    def _await_workers(self, n: int) -> None:
        wait_for(lambda: self.n_alive() == n, f"{n} workers", _START_S, self._last_words)

    def _start_worker(self) -> None:
        name = f"worker-{len(self.workers)}"
        options = ("--cores", str(self.cores), "--memory", self.memory, "--webui-port", "0")
        folder = ("--work-dir", str(self.folder / name))
        self.workers.append(self._start(name, "worker.Worker", *options, *folder, self.url))

    def _start(self, name: str, role: str, *options: str) -> subprocess.Popen[bytes]:
        program = [str(SPARK_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{role}", "--host", _HOST]
        with (self.folder / f"{name}.log").open("wb") as log:
            return self.spawn(
                [*program, *options],
                {"SPARK_DAEMON_MEMORY": "256m", "SPARK_WORKER_OPTS": self.worker_opts},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    def _last_words(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{log.name}:\n{log.read_text(errors='replace')[-2000:]}" for log in logs)


def marked(mark: str) -> list[psutil.Process]:
    """The processes that carry a mark, without zombies."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_marked(mark: str) -> None:
    """SIGKILL for all that carry a mark, until there is nobody left.

    Raises:
        ClusterError: If some do not end.
    """
    deadline = time.monotonic() + _END_S
    while left := marked(mark):
        if time.monotonic() > deadline:
            raise ClusterError(f"these processes cannot be killed: {left}")
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=2)


def wait_for(condition: Callable[[], T], what: str, seconds: float, explain: Callable[[], str] = lambda: "") -> T:
    """Wait until a condition holds, and return what it said.

    Raises:
        ClusterError: If it does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {seconds:g} s for {what}. {explain()}")
        time.sleep(0.1)
    return found


def _end_with_parent() -> None:
    """In a process that was just forked: have the kernel kill it when the thread that has started it ends."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _run(cluster: Standalone, command: Sequence[str]) -> int:
    """Run a command that gets the signals which come here, and return its exit code as a shell has it."""
    process = cluster.spawn(command, {"MASTER": cluster.url})

    def forward(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)

    with _signals_go_to(forward):
        code = process.wait()
        _await_rest(cluster, process.pid)
    return code if code >= 0 else 128 - code


def _await_rest(cluster: Standalone, session: int) -> None:
    """Give what the command has started a while to end: on Ctrl-C spark-submit is gone before the driver's report."""
    rest = []
    for process in marked(cluster.mark):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) == session:
                rest.append(process)
    psutil.wait_procs(rest, timeout=_END_S)


@contextlib.contextmanager
def _signals_go_to(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Run a command on a cluster, and return its exit code."""
    parser = argparse.ArgumentParser(prog="standalone.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workers", type=int, default=2, help="how many workers (%(default)s)")
    parser.add_argument("--cores", type=int, default=1, help="cores of each (%(default)s)")
    parser.add_argument("--memory", default="2g", help="memory of each (%(default)s)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run; it finds the master's URL in MASTER")
    options = parser.parse_args(arguments)
    if not options.command:
        parser.error("a command is missing, such as: conf/standalone/installed.sh run conf/digits.yaml")
    # The command's spark-submit and python3 are those beside this Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    try:
        with (
            _signals_go_to(_interrupt),
            tempfile.TemporaryDirectory(prefix="hpo-spark-cluster-") as folder,
            Standalone(folder, options.workers, options.cores, options.memory, variables={"PATH": path}) as cluster,
        ):
            print(f"A master with {options.workers} workers runs at {cluster.url}.", flush=True)
            return _run(cluster, options.command)
    except (ClusterError, OSError) as error:
        print(f"standalone.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
