"""What runs in a Spark task, on the worker's side of the seam.

A submitted task is a thin supervisor: it hands the call to the trial process of its Spark worker and watches it.
`map` runs its items in the Spark worker itself, many to a task.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hpo_spark.errors import ExecutorLost
from hpo_spark.executors.child import FunctionCache, extend_path
from hpo_spark.executors.outcome import Failure, Outcome, Success, call, failure_of
from hpo_spark.executors.supervisor import Function, Isolation, TaskLimits, TrialProcess
from hpo_spark.executors.threads import limit_threads
from hpo_spark.pickling import load_item
from hpo_spark.role import become_worker
from hpo_spark.versions import describe_difference, versions

__all__ = ["GPU", "Answer", "MapTask", "PrestartTask", "SharedFunction", "TrialTask"]

GPU = "gpu"
_DEVICES = "CUDA_VISIBLE_DEVICES"


class SharedFunction(Protocol):
    """A Spark broadcast variable that holds a function."""

    @property
    def value(self) -> Function:
        """The function, fetched once by each host and read once by each worker."""


# Spark reuses its Python workers, and this module with them: one trial process and one function cache for each.
_trial_process: TrialProcess | None = None
_functions = FunctionCache()
_n_frozen = 0
_checked = False
# So many modules more, and what they brought is worth freezing.
_MANY_MODULES = 50


@dataclass(frozen=True)
class Answer:
    """What a task brings back.

    Attributes:
        outcome: How the call ended.
        notice: What the driver should hear of this worker; None for nothing.
    """

    outcome: Outcome
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
    """

    function: SharedFunction
    arguments: bytes
    limits: TaskLimits
    isolation: Isolation
    versions: Mapping[str, str]
    n_lost: int
    max_attempts: int

    def __call__(self, partition: Iterator[Any]) -> Iterator[Answer]:
        """Run the call; the partition holds nothing of interest, but Spark keeps only workers that have read it."""
        for _ in partition:
            pass
        # Spark begins a task again when its executor is lost; within a job it counts that itself.
        n_lost = self.n_lost + _attempt()
        if n_lost >= self.max_attempts:
            yield Answer(failure_of(ExecutorLost(n_lost)))
            return
        process = _process(self.isolation)
        outcome = process.run(
            self.function.value,
            self.arguments,
            self.limits,
            environment=_devices(),
            n_lost=n_lost,
            abandoned=_socket_to_jvm(),
        )
        yield Answer(outcome, _first_check(self.versions))
        process.rest()
        _freeze()


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
        _process(self._isolation).start(_devices())
        return iter(())


class MapTask:
    """Many calls of one function, here in the Spark worker."""

    def __init__(self, function: SharedFunction) -> None:
        self._function = function

    def __call__(self, chunks: Iterator[list[Any]]) -> Iterator[list[Any]]:
        """For each item its result, as `dump_item` writes it, or its `Failure`."""
        become_worker()
        limit_threads(_task_cpus())
        for chunk in chunks:
            yield self._run(chunk)
        _freeze()

    def _run(self, chunk: list[Any]) -> list[Any]:
        function = self._function.value
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
    """The GPUs that Spark gave this task, as the environment of its trial process; empty where it gave none.

    Spark's addresses count from 0 within what the executor may see.
    """
    from pyspark import TaskContext

    context = TaskContext.get()
    resources = context.resources() if context else {}
    if GPU not in resources:
        return {}
    visible = [device.strip() for device in os.environ.get(_DEVICES, "").split(",") if device.strip()]
    chosen = [
        visible[int(address)] if address.isdigit() and int(address) < len(visible) else address
        for address in resources[GPU].addresses
    ]
    return {_DEVICES: ",".join(chosen)}


def _socket_to_jvm() -> int | None:
    """Descriptor of the socket to Spark's JVM, which closes it when a task is cancelled; None where it is not found.

    Spark itself kills the worker of a cancelled task only after some seconds. Its ``worker.main(infile, outfile)`` is
    among the callers of every task.
    """
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "main" and "infile" in frame.f_locals:
            try:
                return int(frame.f_locals["infile"].fileno())
            except (AttributeError, OSError, ValueError):
                return None
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _freeze() -> None:
    """PySpark collects garbage after every task, which looks at every object of every imported module.

    That is 20 ms of CPU with this package alone, and 0.2 s with TensorFlow, of which 0.1 ms is left.
    """
    global _n_frozen
    if len(sys.modules) > _n_frozen + _MANY_MODULES:
        gc.collect()
        gc.freeze()
        _n_frozen = len(sys.modules)
