"""What runs in a Spark task, on the worker's side of the seam.

A submitted task is a thin supervisor: it hands the call to the trial process of its Spark worker and watches it.
`map` runs its items in the Spark worker itself, many to a task.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hpo_spark.errors import DataError, ExecutorLost
from hpo_spark.executors.child import FunctionCache, extend_path
from hpo_spark.executors.devices import environment_of
from hpo_spark.executors.host_files import FillTask
from hpo_spark.executors.outcome import Failure, Outcome, Success, call, failure_of
from hpo_spark.executors.shared import HostPath
from hpo_spark.executors.supervisor import Function, Isolation, TaskLimits, TrialProcess
from hpo_spark.executors.threads import limit_threads
from hpo_spark.garbage import freeze_new_modules
from hpo_spark.pickling import load_item
from hpo_spark.role import become_worker
from hpo_spark.versions import describe_difference, versions

__all__ = ["GPU", "Answer", "MapTask", "PrestartTask", "SharedFunction", "TrialTask", "run_chunk"]

GPU = "gpu"


class SharedFunction(Protocol):
    """A Spark broadcast variable that holds a function."""

    @property
    def value(self) -> Function:
        """The function, fetched once by each host and read once by each worker."""


# Spark reuses its Python workers, and this module with them: one trial process and one function cache for each.
_trial_process: TrialProcess | None = None
_functions = FunctionCache()
_checked = False


@dataclass(frozen=True)
class Answer:
    """What a task brings back.

    Attributes:
        outcome: How the call ended; None where shared files are not on this host yet, and it was not begun.
        notice: What the driver should hear of this worker; None for nothing.
    """

    outcome: Outcome | None
    notice: str | None = None


@dataclass(frozen=True)
class TrialTask:
    """One call, in the trial process.

    Attributes:
        function: What to call.
        arguments: Pickled ``(args, kwargs)``.
        limits: What it may use.
        isolation: As for `TrialProcess`.
        versions: The driver's.
        n_lost: How often the call was begun before, in earlier Spark jobs.
        max_attempts: How often it may be begun in all.
        shared: Files that must be on this host before.
        fill: Puts them there; None to answer that they are missing.
        setups: What a trial process calls before its first task.
    """

    function: SharedFunction
    arguments: bytes
    limits: TaskLimits
    isolation: Isolation
    versions: Mapping[str, str]
    n_lost: int
    max_attempts: int
    shared: tuple[HostPath, ...] = ()
    fill: FillTask | None = None
    setups: tuple[SharedFunction, ...] = ()

    def __call__(self, partition: Iterator[Any]) -> Iterator[Answer]:
        """Run the call; the partition holds nothing of interest, but Spark keeps only workers that have read it."""
        _acknowledge_at_once()
        for _ in partition:
            pass
        # Spark begins a task again when its executor is lost; within a job it counts that itself.
        n_lost = self.n_lost + _attempt()
        if n_lost >= self.max_attempts:
            yield Answer(failure_of(ExecutorLost(n_lost)))
            return
        try:
            if self.fill is not None:
                self.fill.write()
            is_ready = None not in [path.find() for path in self.shared]
        except (DataError, OSError) as error:
            yield Answer(failure_of(error, "The shared files cannot be put on this host: "))
            return
        if not is_ready:
            yield Answer(None)
            return
        process, devices = _process(self.isolation), _devices()
        process.set_up([setup.value for setup in self.setups], self.limits.memory_mb, devices)
        outcome = process.run(
            self.function.value,
            self.arguments,
            self.limits,
            environment=devices,
            n_lost=n_lost,
        )
        yield Answer(outcome, _first_check(self.versions))
        process.rest()
        freeze_new_modules()


class PrestartTask:
    """Starts the trial process of a Spark worker, so that it is there when the first call comes.

    Args:
        isolation: As for `TrialProcess`.
    """

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation

    def __call__(self, partition: Iterator[Any]) -> Iterator[Any]:
        """Start the process, which loads while this task has long ended."""
        for _ in partition:
            pass
        _process(self._isolation).prestart(_devices())
        return iter(())


class MapTask:
    """Many calls of one function, here in the Spark worker."""

    def __init__(self, function: SharedFunction) -> None:
        self._function = function

    def __call__(self, chunks: Iterator[list[Any]]) -> Iterator[list[Any]]:
        """For each item its result, as `dump_item` writes it, or its `Failure`."""
        _acknowledge_at_once()
        become_worker()
        limit_threads(_task_cpus())
        for chunk in chunks:
            yield run_chunk(self._function.value, chunk)
        freeze_new_modules()


def run_chunk(function: Function, chunk: list[Any]) -> list[Any]:
    """Many calls of one function, here: for each item its result, as `dump_item` writes it, or its `Failure`."""
    try:
        extend_path(function.path)
        loaded = _functions.get(function.key, function.blob)
    except BaseException as error:
        return [failure_of(error, "The function cannot be loaded on the worker: ")] * len(chunk)
    return [_run_item(loaded, item) for item in chunk]


def _run_item(function: Any, item: Any) -> Any:
    if isinstance(item, Failure):  # it could not be sent
        return item
    try:
        args = load_item(item)
    except BaseException as error:
        return failure_of(error, "The item cannot be loaded on the worker: ")
    outcome = call(function, *args)
    return outcome.item if isinstance(outcome, Success) else outcome


def _first_check(expected: Mapping[str, str]) -> str | None:
    """At the first task of a worker, how its versions differ from the driver's: it may have joined late."""
    global _checked
    if _checked:
        return None
    _checked = True
    return describe_difference(socket.gethostname(), versions(), expected)


def _acknowledge_at_once() -> None:
    """Have what Spark sends to this worker acknowledged at once; for this task, for Linux soon forgets it.

    Spark sends a task in pieces, each when the one before is acknowledged, and Linux takes 40 ms to acknowledge what it
    has no answer to yet: more than all else that an empty task costs.
    """
    if sys.platform != "linux":
        return
    descriptors: list[int] = []
    with contextlib.suppress(OSError):  # there is no /proc
        descriptors += map(int, os.listdir("/proc/self/fd"))
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # no TCP connection
            is_blocking = os.get_blocking(descriptor)
            connection = socket.socket(fileno=descriptor)
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            finally:
                connection.detach()
                os.set_blocking(descriptor, is_blocking)  # which a default time-out of sockets has changed


def _task_cpus() -> int:
    from pyspark import TaskContext

    context = TaskContext.get()
    return context.cpus() if context else 1


def _attempt() -> int:
    from pyspark import TaskContext

    context = TaskContext.get()
    return context.attemptNumber() if context else 0


def _process(isolation: Isolation) -> TrialProcess:
    global _trial_process
    wanted = _task_cpus(), isolation
    if _trial_process is not None and (_trial_process.cpus, _trial_process.isolation) != wanted:
        _trial_process.close()
        _trial_process = None
    if _trial_process is None:
        _trial_process = TrialProcess(*wanted)
    return _trial_process


def _devices() -> dict[str, str]:
    """The GPUs that Spark gave this task, as the environment of its trial process; empty where it gave none."""
    from pyspark import TaskContext

    context = TaskContext.get()
    resources = context.resources() if context else {}
    return environment_of(resources[GPU].addresses) if GPU in resources else {}
