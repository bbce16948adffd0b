"""The trial process, seen from outside: started, fed, watched, and killed with all that it started.

One supervisor has one trial process and runs one call at a time in it. The Spark task and the threads of
`ProcessExecutor` use it alike, so that limits and crashes behave the same on a laptop and on a cluster.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import IO, Any

import psutil

from hpo_spark import output
from hpo_spark.executors.child import STARTED
from hpo_spark.executors.outcome import Outcome, crashed, failure_of, timed_out
from hpo_spark.executors.threads import thread_settings
from hpo_spark.pickling import dumps, loads

__all__ = ["Function", "TrialProcess"]


_LOADING_S = 120.0


@dataclass(frozen=True, eq=False)
class Function:
    """A pickled function as it travels: its digest, its bytes, and where the driver imports from."""

    key: str
    blob: bytes
    path: Sequence[str]


class TrialProcess:
    """A process that runs calls one after the other and is started again when it is gone.

    It must be used by one thread, which must live as long as the process: Linux ends a child together with the thread
    that started it. `kill` alone may come from another.

    Args:
        cpus: Cores that native libraries in it may use.
    """

    def __init__(self, cpus: int = 1) -> None:
        self._cpus = cpus
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._output: IO[bytes] | None = None
        self._pidfd: int | None = None
        self._sent: set[str] = set()
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process id of the trial process; None while there is none."""
        return self._process.pid if self._process else None

    def run(self, function: Function, arguments: bytes, timeout_s: float | None = None) -> Outcome:
        """Run one call and return how it ended.

        Args:
            function: What to call.
            arguments: Pickled ``(args, kwargs)``.
            timeout_s: Seconds from the beginning of the call until the process and all its descendants are killed; None
                for no limit.
        """
        self.start()
        assert self._output is not None
        self._output.truncate(0)
        try:
            outcome = self._exchange(function, arguments, timeout_s, send_blob=function.key not in self._sent)
            if outcome is None:  # the process has since forgotten the function
                outcome = self._exchange(function, arguments, timeout_s, send_blob=True)
            self._sent.add(function.key)
            assert outcome is not None
            return outcome
        except TimeoutError:
            self.kill()
            assert timeout_s is not None
            return timed_out(timeout_s)
        except (EOFError, OSError):
            return crashed(self._cause_of_death(), output.tail_of(self._output.fileno()))
        except Exception as error:  # an answer that is no answer, as from user code that wrote into the pipe
            self.kill()
            return failure_of(error, "The trial process gave no readable answer: ")

    def start(self) -> None:
        """Start the process unless it runs."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            self._discard()
            ours, theirs = socket.socketpair()
            self._output = tempfile.TemporaryFile(mode="a+b")  # noqa: SIM115 - lives as long as the process
            paths = [os.path.abspath(entry) if entry == "" else entry for entry in sys.path]
            environment = {
                "TF_CPP_MIN_LOG_LEVEL": "2",
                **os.environ,
                **thread_settings(self._cpus),
                "PYTHONPATH": os.pathsep.join(paths),
            }
            command = f"from hpo_spark.executors.child import main; main({theirs.fileno()}, {os.getpid()})"
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", command],
                    stdin=subprocess.DEVNULL,
                    stdout=self._output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    env=environment,
                    start_new_session=True,
                )
            self._pipe = Connection(ours.detach())
            self._pidfd = os.pidfd_open(self._process.pid) if hasattr(os, "pidfd_open") else None

    def kill(self) -> None:
        """Kill the process and all its descendants, and wait until they are gone."""
        with self._lock:
            if self._process is not None:
                _kill_tree(self._process)

    def close(self) -> None:
        """Kill the process and let go of its files."""
        self.kill()
        with self._lock:
            self._discard()

    def _exchange(
        self, function: Function, arguments: bytes, timeout_s: float | None, *, send_blob: bool
    ) -> Outcome | None:
        assert self._pipe is not None
        blob = function.blob if send_blob else None
        self._pipe.send_bytes(dumps((function.key, blob, list(function.path), arguments)))
        # Starting Python and importing the function's module is not the call's time, but must end some day.
        answer = self._receive(None if timeout_s is None else timeout_s + _LOADING_S)
        if answer == STARTED:
            answer = self._receive(timeout_s)
        outcome: Outcome | None = answer
        return outcome

    def _receive(self, timeout_s: float | None) -> Any:
        """The next message; raises `TimeoutError` if it does not come, and `EOFError` if the process is gone."""
        assert self._pipe is not None
        # The pipe alone would not tell: a process that the task forked holds it open.
        sentinels: list[Any] = [self._pipe] if self._pidfd is None else [self._pipe, self._pidfd]
        ready = wait(sentinels, timeout_s)
        if self._pipe in ready:
            return loads(self._pipe.recv_bytes())
        raise EOFError if ready else TimeoutError

    def _cause_of_death(self) -> str:
        assert self._process is not None
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = None
        self.kill()  # what it started may live on
        if code is None:
            return "it closed its pipe"
        if code < 0:
            try:
                return f"killed by {signal.Signals(-code).name}"
            except ValueError:
                return f"killed by signal {-code}"
        return f"it exited with code {code}"

    def _discard(self) -> None:
        for resource in (self._pipe, self._output):
            if resource is not None:
                resource.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._process = self._pipe = self._output = self._pidfd = None
        self._sent.clear()


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its descendants, also those that a killed one was just starting."""
    family: set[psutil.Process] = set()
    try:
        root = psutil.Process(process.pid)
        while members := set(root.children(recursive=True)) - family:
            family |= members
            for member in members:
                _kill(member)
        _kill(root)
    except psutil.NoSuchProcess:
        pass
    # The process leads a session of its own: whoever is left in its group lost its parent on the way.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(family, timeout=5)


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
