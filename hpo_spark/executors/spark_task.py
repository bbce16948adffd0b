"""What runs in a Spark task, on the worker's side of the seam.

A submitted task is a thin supervisor: it hands the call to the trial process of its Spark worker and watches it.
`map` runs its items in the Spark worker itself, many to a task.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from hpo_spark.executors.child import FunctionCache, extend_path
from hpo_spark.executors.outcome import Failure, Outcome, Success, call, failure_of
from hpo_spark.executors.supervisor import Function, TrialProcess
from hpo_spark.executors.threads import limit_threads
from hpo_spark.pickling import load_item
from hpo_spark.role import become_worker

__all__ = ["MapTask", "TrialTask"]


class SharedFunction(Protocol):
    """A Spark broadcast variable that holds a function."""

    @property
    def value(self) -> Function:
        """The function, fetched once by each host and read once by each worker."""


# Spark reuses its Python workers, and this module with them: one trial process and one function cache for each.
_trial_process: TrialProcess | None = None
_functions = FunctionCache()
_frozen = False


class TrialTask:
    """One call, in the trial process."""

    def __init__(self, function: SharedFunction, timeout_s: float | None) -> None:
        self._function = function
        self._timeout_s = timeout_s

    def __call__(self, arguments: Iterator[bytes]) -> Iterator[Outcome]:
        """Run the calls of a partition; there is one."""
        process = _process()
        for item in arguments:
            yield process.run(self._function.value, item, self._timeout_s)


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
        _freeze_heavy_imports()

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


def _task_cpus() -> int:
    from pyspark import TaskContext

    context = TaskContext.get()
    return context.cpus() if context else 1


def _process() -> TrialProcess:
    global _trial_process
    if _trial_process is None:
        _trial_process = TrialProcess(_task_cpus())
    return _trial_process


def _freeze_heavy_imports() -> None:
    """PySpark collects garbage after every task: with TensorFlow among the objects, 0.2 s of CPU each time."""
    global _frozen
    if not _frozen and not {"tensorflow", "torch", "jax"}.isdisjoint(sys.modules):
        gc.collect()
        gc.freeze()
        _frozen = True
