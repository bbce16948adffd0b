"""The trial process, seen from outside: started, fed, watched, and killed with all that it started.

One supervisor has one trial process and runs one call at a time in it. The Spark task and the threads of
`ProcessExecutor` use it alike, so that limits and crashes behave the same on a laptop and on a cluster.

The process has a folder for temporary files of its own, which is removed when it has ended: one that is killed cannot
do that itself, as TensorFlow would when Python ends in peace.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import IO, Any, Literal

from hpo_spark import output
from hpo_spark.cache import FOLDER_VARIABLE, base_folder
from hpo_spark.errors import MemoryExceeded, TaskTimeout, WorkerCrashed
from hpo_spark.executors.child import STARTED
from hpo_spark.executors.memory import anonymous_mb, tree_anonymous_mb
from hpo_spark.executors.outcome import Failure, Outcome, Report, failure_of
from hpo_spark.executors.threads import thread_settings
from hpo_spark.executors.tree import MARK, has_living_descendants, kill_marked, kill_tree, pidfd_of
from hpo_spark.pickling import dumps, loads

__all__ = ["Function", "Isolation", "TaskLimits", "TrialProcess"]

Isolation = Literal["worker", "trial"]

# Starting Python and importing the function's module is not the call's time, but must end some day.
_LOADING_S = 120.0
# How often memory and the length of the output are looked at while a call runs.
_WATCH_MEMORY_S, _WATCH_OUTPUT_S = 0.1, 0.5
# A process that has grown by so much since its first call is started again; young ones only if they grow much faster,
# since importing TensorFlow anew costs some six seconds.
_MAX_GROWTH_MB, _MAX_FAST_GROWTH_MB, _MIN_AGE_S = 90.0, 1000.0, 300.0
_MAX_OPEN_FILES = 150
_NO_ARGUMENTS = dumps(((), {}))
# With a limit on memory, so large a share of it.
_MAX_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Function:
    """A pickled function as it travels: its digest, its bytes, and where the driver imports from."""

    key: str
    blob: bytes
    path: Sequence[str]


@dataclass(frozen=True)
class TaskLimits:
    """What a call may use; None is no limit.

    Attributes:
        timeout_s: Seconds from the beginning of the call.
        memory_mb: Anonymous memory, in MB of 10^6 bytes, of the process and all that it started.
    """

    timeout_s: float | None = None
    memory_mb: float | None = None

    def times(self, factor: float) -> TaskLimits:
        """The same with so many times the seconds."""
        return self if self.timeout_s is None or factor == 1 else replace(self, timeout_s=factor * self.timeout_s)


class TrialProcess:
    """A process that runs calls one after the other and is started again when it is gone.

    It must be used by one thread, which must live as long as the process: Linux ends a child together with the thread
    that started it. `kill` alone may come from another.

    Args:
        cpus: Cores that native libraries in it may use.
        isolation: ``"worker"`` keeps the process for further calls, ``"trial"`` takes a new one for each.
    """

    def __init__(self, cpus: int = 1, isolation: Isolation = "worker") -> None:
        self.cpus = cpus
        self.isolation = isolation
        self._environment: Mapping[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._output: IO[bytes] | None = None
        self._folder: str | None = None
        self._pidfd: int | None = None
        self._sent: set[str] = set()
        self._has_set_up: set[str] = set()
        self._mark = ""
        self._born = 0.0
        self._first_mb: float | None = None
        self._limit_mb: float | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process id of the trial process; None while there is none."""
        return self._process.pid if self._process else None

    def set_up(
        self, functions: Sequence[Function], memory_mb: float | None, environment: Mapping[str, str] | None = None
    ) -> None:
        """Run calls that belong to no task, such as reading data, unless this process has run them already.

        They have no limit of time, and nobody hears how they end: a task that needs what they do will tell.

        Args:
            functions: What to call, without arguments.
            memory_mb: As in `TaskLimits`.
            environment: As for `run`.
        """
        with contextlib.suppress(OSError):
            self.start(environment or {})
        for function in functions:
            if function.key not in self._has_set_up:
                self._run(function, _NO_ARGUMENTS, TaskLimits(memory_mb=memory_mb), environment or {}, 0)
                self._has_set_up.add(function.key)

    def run(
        self,
        function: Function,
        arguments: bytes,
        limits: TaskLimits,
        *,
        environment: Mapping[str, str] | None = None,
        n_lost: int = 0,
    ) -> Outcome:
        """Run one call and return how it ended.

        Args:
            function: What to call.
            arguments: Pickled ``(args, kwargs)``.
            limits: Beyond them the process and all its descendants are killed.
            environment: Variables that the process must have been started with, such as the devices that it may use.
            n_lost: How often the call was begun before, on executors that were lost.
        """
        started, clock = time.time(), time.perf_counter()
        self._limit_mb = limits.memory_mb
        outcome = self._run(function, arguments, limits, environment or {}, n_lost)
        if isinstance(outcome, Failure):
            seconds = time.perf_counter() - clock
            report = Report(socket.gethostname(), started, seconds, n_lost, self._printed())
            outcome = replace(outcome, report=report)
        return outcome

    def rest(self) -> None:
        """Get ready for the next call, with a new process where this one has grown or the last call left something.

        That is: processes that it started, whose memory and cores the next call would have to answer for, or many open
        files.
        """
        if self._process is None:
            return
        pid = self._process.pid
        if self.isolation == "trial" or self._has_grown(pid) or self._holds_something(pid):
            self.close()
            self.prestart(self._environment)

    def prestart(self, environment: Mapping[str, str] | None = None) -> None:
        """Start the process if the machine lets it; if not, the next call tells."""
        with contextlib.suppress(OSError):
            self.start(environment)

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start the process unless it runs, with these variables beside the supervisor's own."""
        with self._lock:
            if environment is not None and environment != self._environment:
                self._environment = dict(environment)
                self._end()
            if self._process is not None and self._process.poll() is None:
                return
            self._discard()
            self._mark = uuid.uuid4().hex
            ours, theirs = socket.socketpair()
            self._output = tempfile.TemporaryFile(mode="a+b")  # noqa: SIM115 - lives as long as the process
            self._folder = tempfile.mkdtemp(prefix="hpo_spark-")
            paths = [os.path.abspath(entry) if entry == "" else entry for entry in sys.path]
            variables = {
                "TF_CPP_MIN_LOG_LEVEL": "2",
                # What was printed must be there when the process is killed.
                "PYTHONUNBUFFERED": "1",
                # Trials share a device more often than not: none may take all of its memory at once.
                "TF_FORCE_GPU_ALLOW_GROWTH": "true",
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
                # Not below this process's folder for temporary files, which is its own.
                FOLDER_VARIABLE: base_folder(),
                **os.environ,
                "TMPDIR": self._folder,
                **thread_settings(self.cpus),
                **self._environment,
                "PYTHONPATH": os.pathsep.join(paths),
                MARK: self._mark,
            }
            arguments = theirs.fileno(), os.getpid(), self._folder
            command = f"from hpo_spark.executors.child import main; main{arguments!r}"
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", command],
                    stdin=subprocess.DEVNULL,
                    stdout=self._output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    env=variables,
                    start_new_session=True,
                )
            self._born, self._first_mb = time.monotonic(), None
            self._pipe = Connection(ours.detach())
            self._pidfd = pidfd_of(self._process.pid)

    def kill(self) -> None:
        """Kill the process and all its descendants, and wait until they are gone."""
        with self._lock:
            if self._process is not None:
                self._kill_all(self._process)

    def close(self) -> None:
        """Kill the process and let go of its files."""
        with self._lock:
            self._end()

    def _run(
        self,
        function: Function,
        arguments: bytes,
        limits: TaskLimits,
        environment: Mapping[str, str],
        n_lost: int,
    ) -> Outcome:
        try:
            self.start(environment)
        except OSError as error:  # no memory, no processes, no disk: the machine's fault
            return failure_of(WorkerCrashed(f"The process of the task cannot be started: {error}."))
        assert self._output is not None
        self._output.truncate(0)
        try:
            watch = _Watch(self, limits)
            outcome = self._exchange(watch, function, arguments, n_lost, send_blob=function.key not in self._sent)
            if outcome is None:  # the process has since forgotten the function
                outcome = self._exchange(watch, function, arguments, n_lost, send_blob=True)
            self._sent.add(function.key)
            assert outcome is not None
            return outcome
        except (TaskTimeout, MemoryExceeded) as error:
            self.kill()
            return failure_of(error)
        except (EOFError, OSError):
            cause = self._cause_of_death()
            printed = output.end_of(self._printed())
            tail = f" The end of its output:\n{printed}" if printed else ""
            return failure_of(WorkerCrashed(f"The process of the task died: {cause}.{tail}"))
        except Exception as error:  # an answer that is no answer, as from user code that wrote into the pipe
            self.kill()
            return failure_of(error, "The trial process gave no readable answer: ")

    def _exchange(
        self, watch: _Watch, function: Function, arguments: bytes, n_lost: int, *, send_blob: bool
    ) -> Outcome | None:
        assert self._pipe is not None
        blob = function.blob if send_blob else None
        self._pipe.send_bytes(dumps((function.key, blob, list(function.path), arguments, n_lost)))
        answer = watch.receive(_LOADING_S)
        if answer == STARTED:
            answer = watch.receive()
        outcome: Outcome | None = answer
        return outcome

    def _has_grown(self, pid: int) -> bool:
        used = anonymous_mb(pid)
        if self._first_mb is None:
            self._first_mb = used
        growth = used - self._first_mb
        if self._limit_mb is not None and growth > _MAX_SHARE * self._limit_mb:
            return True  # the next call must not pay for it
        return growth > _MAX_FAST_GROWTH_MB or (growth > _MAX_GROWTH_MB and time.monotonic() - self._born > _MIN_AGE_S)

    def _holds_something(self, pid: int) -> bool:
        """Whether a call has left processes or many open files."""
        if has_living_descendants(pid):
            return True
        try:
            return len(os.listdir(f"/proc/{pid}/fd")) > _MAX_OPEN_FILES
        except OSError:  # no such folder on this system
            return False

    def _printed(self) -> str:
        return "" if self._output is None else output.text_of(self._output.fileno())

    def _cause_of_death(self) -> str:
        assert self._process is not None
        try:
            code = self._process.wait(timeout=2)
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

    def _end(self) -> None:
        if self._process is not None:
            self._kill_all(self._process)
        self._discard()

    def _kill_all(self, process: subprocess.Popen[bytes]) -> None:
        if process.returncode is not None:  # its number may be another's by now
            kill_marked(self._mark)
        else:
            kill_tree(process.pid, self._mark)
            process.wait()
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _discard(self) -> None:
        for resource in (self._pipe, self._output):
            if resource is not None:
                resource.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._remove_folder()
        self._process = self._pipe = self._output = self._pidfd = self._folder = None
        self._sent.clear()
        self._has_set_up.clear()


class _Watch:
    """Waits for what a trial process answers, and looks after it meanwhile.

    Args:
        process: The process, which runs.
        limits: What its call may use.
    """

    def __init__(self, process: TrialProcess, limits: TaskLimits) -> None:
        assert process._pipe is not None and process._process is not None and process._output is not None
        self._pipe, self._pid = process._pipe, process._process.pid
        self._output = process._output.fileno()
        self._pidfd = process._pidfd
        self._limits = limits
        self._tick = _WATCH_OUTPUT_S if limits.memory_mb is None else _WATCH_MEMORY_S
        self._poll = select.poll()
        self._poll.register(self._pipe.fileno(), select.POLLIN)
        # The pipe alone would not tell of the end: a process that the task forked holds it open.
        if self._pidfd is not None:
            self._poll.register(self._pidfd, select.POLLIN)

    def receive(self, loading_s: float | None = None) -> Any:
        """The next message.

        Args:
            loading_s: Seconds beyond the time limit, while the call has not begun.

        Raises:
            TaskTimeout: If the limit is over.
            MemoryExceeded: If the call uses too much.
            EOFError: If the process is gone.
        """
        limit = None if self._limits.timeout_s is None else self._limits.timeout_s + (loading_s or 0.0)
        deadline = None if limit is None else time.monotonic() + limit
        while True:
            left = self._tick if deadline is None else min(self._tick, deadline - time.monotonic())
            if left < 0:
                assert limit is not None
                raise TaskTimeout(limit, loading=loading_s is not None)
            ready = {descriptor for descriptor, _ in self._poll.poll(left * 1000)}
            if self._pipe.fileno() in ready:
                return loads(self._pipe.recv_bytes())
            if self._pidfd in ready:
                raise EOFError
            output.bound(self._output)
            self._check_memory()

    def _check_memory(self) -> None:
        limit = self._limits.memory_mb
        if limit is not None and (used := tree_anonymous_mb(self._pid)) > limit:
            raise MemoryExceeded(used, limit)
