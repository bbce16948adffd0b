"""The stage on Spark: one job a task from `SparkExecutor.submit`, one job over all items from `SparkExecutor.map`."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from hpo_spark.errors import WorkerCrashed
from hpo_spark.executors.base import check_limits
from hpo_spark.executors.outcome import Failure, Outcome, error_of, failure_of
from hpo_spark.executors.pooled import PooledExecutor, Task
from hpo_spark.executors.spark_task import MapTask, TrialTask
from hpo_spark.executors.supervisor import Function
from hpo_spark.pickling import dump_item, load_item

if TYPE_CHECKING:
    from pyspark import Broadcast, SparkContext
    from pyspark.sql import SparkSession

__all__ = ["SparkExecutor"]

T = TypeVar("T")

# Tasks in flight for each slot: those that wait at Spark hide its scheduling latency, and make a cluster with dynamic
# allocation grow.
_WINDOW_PER_SLOT = 2
# Partitions of a `map` for each slot: enough to even out items of unequal cost.
_SLICES_PER_SLOT = 4

_executor_numbers, _map_numbers = count(), count()


class SparkExecutor(PooledExecutor):
    """Runs tasks on the workers of a Spark session, which stays its owner's: it is never stopped here.

    `submit` makes each call a Spark job of one task and one job group. The task hands the call to a trial process
    beside the Spark worker and watches it, so that whatever the call does, Spark sees a task that succeeded.

    Args:
        spark: A `SparkSession` or `SparkContext`.
        slots: Tasks that run at once; None for what the cluster offers now. More than it offers is what it may grow to.
        task_timeout_s: Seconds, from its start on the worker, after which a submitted task is killed and its future
            raises `TaskTimeout`; None for no limit.
    """

    def __init__(
        self, spark: SparkSession | SparkContext, slots: int | None = None, task_timeout_s: float | None = None
    ) -> None:
        check_limits(slots=slots, task_timeout_s=task_timeout_s)
        self._context = _context_of(spark)
        self._timeout_s = task_timeout_s
        self._name = f"hpo-spark-{os.getpid()}-{next(_executor_numbers)}"
        self._broadcasts: weakref.WeakKeyDictionary[Function, Broadcast[Function]] = weakref.WeakKeyDictionary()
        self._maps: set[threading.Thread] = set()
        self._released = False
        _lend_python(self._context)
        # What the caller's thread says of its jobs (scheduler pool, tags) holds for those of the pool's threads.
        self._properties = self._context._jsc.sc().getLocalProperties()
        self._cluster_slots = _slots_of_cluster(self._context)
        slots = slots or self._cluster_slots
        # Spark runs what it is given as soon as it can, so fewer slots than it has are kept by giving it no more.
        window = slots if slots < self._cluster_slots else _WINDOW_PER_SLOT * slots
        super().__init__(slots, window, prepare_thread=self._inherit_properties)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
    ) -> Iterator[T]:
        """Apply ``fn`` to every item, in one Spark job: for cheap functions, and for DEAP's ``toolbox.map``.

        The calls run in the Spark workers themselves, many to a task. A call that raises does so at its place in the
        iterator, and the other items have run all the same. Nothing is tried again and no item has a time limit of its
        own; where that is needed, use `submit`.

        Args:
            fn: What to call; pickled at each call of `map`, for what it refers to may have changed.
            *iterables: Its arguments, as for the built-in `map`.
            timeout: Seconds until the iterator raises `TimeoutError`, counted from this call.
            chunksize: Items to a task; None spreads them over four tasks a slot.
        """
        check_limits(chunksize=chunksize)
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            function = self._functions.pickled_anew(fn)
        items = [_dump_arguments(args) for args in zip(*iterables, strict=False)]
        size = chunksize or max(1, -(-len(items) // (_SLICES_PER_SLOT * self.slots)))
        chunks = [items[start : start + size] for start in range(0, len(items), size)]
        if not chunks:
            return iter(())
        group = f"{self._name}-map-{next(_map_numbers)}"
        job: Future[list[list[Any]]] = Future()
        thread = threading.Thread(target=self._run_map, args=(function, chunks, group, job), name=group, daemon=True)
        self._maps = {other for other in self._maps if other.is_alive()} | {thread}
        thread.start()
        return self._results(job, group, deadline)

    def drop(self, future: Future[Any]) -> bool:
        """Cancel a task unless Spark has begun to run it; whether that was so.

        Spark tells too late which jobs have begun, but runs them in the order of their submission: those beyond the
        number of slots wait.
        """
        if future.cancel():
            return True
        with self._lock:
            task = self._tasks.get(future)
            at_spark = sorted(other.number for other in self._tasks.values() if other.running)
        if task is None or task.number in at_spark[: min(self.slots, self._cluster_slots)] or future.done():
            return False
        self.cancel(future)
        return True

    def _run_map(self, function: Function, chunks: list[list[Any]], group: str, job: Future[list[list[Any]]]) -> None:
        try:
            self._inherit_properties()
            task = MapTask(self._broadcast(function))
            job.set_result(self._run_job(group, f"map over {len(chunks)} chunks", chunks, task))
        except Exception as error:
            job.set_exception(error)

    def _results(self, job: Future[list[list[Any]]], group: str, deadline: float | None) -> Iterator[Any]:
        try:
            chunks = job.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
        finally:
            if not job.done():
                self._context.cancelJobGroup(group)
        for chunk in chunks:
            for item in chunk:
                if isinstance(item, Failure):
                    raise error_of(item)
                yield load_item(item)

    def _execute(self, task: Task) -> Outcome:
        trial_task = TrialTask(self._broadcast(task.function), self._timeout_s)
        outcome: Outcome
        (outcome,) = self._run_job(self._group(task), f"task {task.number}", [task.arguments], trial_task)
        return outcome

    def _interrupt(self, task: Task) -> None:
        self._context.cancelJobGroup(self._group(task))

    def _group(self, task: Task) -> str:
        return f"{self._name}-task-{task.number}"

    def _run_job(self, group: str, description: str, items: list[Any], function: Callable[[Any], Any]) -> list[Any]:
        """Run one job with a partition an item; its group is its own, so that nobody else's job is ever cancelled."""
        from py4j.protocol import Py4JError

        context = self._context
        _check_alive(context)
        context.setJobGroup(group, f"hpo_spark: {description}", interruptOnCancel=True)
        try:
            results: list[Any] = context.parallelize(items, len(items)).mapPartitions(function).collect()
            return results
        except Py4JError as error:
            _check_alive(context)
            raise WorkerCrashed(f"Spark gave the job {group} up: {_first_cause(error)}") from error

    def _broadcast(self, function: Function) -> Broadcast[Function]:
        with self._lock:
            broadcast = self._broadcasts.get(function)
            if broadcast is None:
                broadcast = self._broadcasts[function] = self._context.broadcast(function)
                # It goes when neither the book of functions nor a task in flight holds the function any more.
                weakref.finalize(function, _destroy, broadcast).atexit = False
            return broadcast

    def _inherit_properties(self) -> None:
        self._context._jsc.sc().setLocalProperties(self._properties.clone())

    def _finish(self) -> None:
        for thread in self._maps:
            thread.join()

    def _release(self) -> None:
        self._functions.clear()
        if not self._released:
            self._released = True
            _return_python(self._context)


def _check_alive(context: SparkContext) -> None:
    if context._jsc is None or context._jsc.sc().isStopped():
        raise BrokenExecutor("The Spark session was stopped while the executor was using it.")


def _slots_of_cluster(context: SparkContext) -> int:
    cpus = int(context.getConf().get("spark.task.cpus", "1") or 1)
    return max(1, int(context.defaultParallelism) // cpus)


# For each context how many executors have set its Python, and what it was before.
_lent: weakref.WeakKeyDictionary[SparkContext, tuple[int, str]] = weakref.WeakKeyDictionary()


def _lend_python(context: SparkContext) -> None:
    """Have local workers run this Python: Spark would take the first on PATH, which need not have this package."""
    if not context.master.startswith("local") or "PYSPARK_PYTHON" in os.environ:
        return
    users, before = _lent.get(context, (0, context.pythonExec))
    _lent[context] = users + 1, before
    context.pythonExec = sys.executable


def _return_python(context: SparkContext) -> None:
    users, before = _lent.pop(context, (0, ""))
    if users > 1:
        _lent[context] = users - 1, before
    elif users == 1:
        context.pythonExec = before


def _context_of(spark: SparkSession | SparkContext) -> SparkContext:
    context: SparkContext = getattr(spark, "sparkContext", spark)
    if not hasattr(context, "parallelize"):
        raise TypeError(f"spark must be a SparkSession or SparkContext, got {type(spark).__name__}.")
    if context._jsc is None:
        raise ValueError("This Spark session is stopped; make another one with SparkSession.builder.getOrCreate().")
    return context


def _dump_arguments(args: tuple[Any, ...]) -> Any:
    try:
        return dump_item(args)
    except Exception as error:
        return failure_of(error, "The item cannot be sent to a worker: ")


def _destroy(broadcast: Broadcast[Function]) -> None:
    from py4j.protocol import Py4JError

    # The session may be gone, and the broadcast with it.
    with contextlib.suppress(Py4JError, OSError, AttributeError):
        broadcast.destroy()


def _first_cause(error: Exception) -> str:
    """What a Java error says in its first lines, without its stack."""
    lines = [line.strip() for line in str(getattr(error, "java_exception", error)).splitlines()]
    return " ".join(line for line in lines[:3] if line and not line.startswith("at "))
