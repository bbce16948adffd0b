"""The stage on Spark Connect, where the program has a session but no ``SparkContext``."""

from __future__ import annotations

import re
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from hpo_spark.errors import ConfigError, EnvironmentProblem
from hpo_spark.executors.base import cancel_task, check_isolation, check_limits
from hpo_spark.executors.cluster import ClusterExecutor, new_name
from hpo_spark.executors.connect_errors import explain
from hpo_spark.executors.connect_files import ConnectFiles, send_package
from hpo_spark.executors.connect_task import ANSWER, ArrowTask, InlineFunction
from hpo_spark.executors.devices import check_gpus
from hpo_spark.executors.outcome import Failure, dump_arguments, error_of
from hpo_spark.executors.pooled import Task
from hpo_spark.executors.resources import TASK_GPUS
from hpo_spark.executors.spark_errors import missing_module
from hpo_spark.executors.spark_task import Answer, TrialTask, run_chunk
from hpo_spark.executors.supervisor import Function, Isolation, TaskLimits
from hpo_spark.pickling import load_item, loads

if TYPE_CHECKING:
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession

__all__ = ["ConnectExecutor"]

T = TypeVar("T")

# Seconds between two looks at how many slots the server has: each is a request.
_LOOK_EVERY_S = 10.0
# Chunks of a `map` for each slot: enough to even out items of unequal cost.
_CHUNKS_PER_SLOT = 4


class ConnectExecutor(ClusterExecutor):
    """Runs tasks on the workers behind a Spark Connect server; the session stays its owner's.

    `submit` makes each call an operation of one task with a tag of its own, by ``mapInArrow``. On the worker it is what
    `SparkExecutor` runs there: a trial process, watched, with the same limits. Workers that lack this package get it as
    an artifact of the session; what it needs (numpy, cloudpickle, psutil, pyarrow) must be installed there.

    What Connect cannot do, and `SparkExecutor` can:

    - The scheduler and the executors are not seen. Slots are the server's default parallelism over its
      ``spark.task.cpus`` (give ``slots`` where that is not what it runs at once), and `n_executors` is 1. Tasks that
      wait at Spark, as many as there are slots, cannot be told from those that run: there is no `drop`, and they run
      when a search ends.
    - A client asks for no resources: cores and GPUs of a task are those that the server was started with.
    - A cancelled task's slot is given away at once, while its process ends within some three seconds.
    - Files that are shared with hosts that lack them stay on the server until the session ends.
    - The tasks of a program that was killed go on until the server misses it, after
      ``spark.connect.execute.reattachable.senderMaxStreamDuration`` (two minutes) and
      ``spark.connect.execute.manager.detachedTimeout`` (five).
    - A server that is gone is noticed when the client's retries end, by default after some ten minutes.

    Args:
        spark: A session of Spark Connect, from pyspark 4 or newer.
        slots: Tasks that run at once; None for what the server offers, also while it grows and shrinks.
        task_timeout_s: Seconds, from its start on the worker, after which a submitted task is killed and its future
            raises `TaskTimeout`; None for no limit.
        cpus: Cores for native libraries in a task: the server's ``spark.task.cpus``, or None for these.
        gpus: GPUs for a task: the server's ``spark.task.resource.gpu.amount``, or 0 for these.
        memory_mb: Anonymous memory in MB, of a task and all processes that it starts, beyond which it is killed and its
            future raises `MemoryExceeded`; None for no limit.
        isolation: ``"worker"`` runs one task after the other in the trial process of a Spark worker, ``"trial"`` takes
            a new process for each.

    Raises:
        ConfigError: (a `ValueError`) If the server gives a task other cores or GPUs, or does not tell how many slots it
            has.
        EnvironmentProblem: If pyspark is older than 4.
        BrokenExecutor: If the session has ended, or its server does not answer.
    """

    def __init__(
        self,
        spark: SparkSession,
        slots: int | None = None,
        task_timeout_s: float | None = None,
        *,
        cpus: int | None = None,
        gpus: float = 0,
        memory_mb: float | None = None,
        isolation: Isolation = "worker",
    ) -> None:
        check_limits(slots=slots, task_timeout_s=task_timeout_s, cpus=cpus, memory_mb=memory_mb)
        check_isolation(isolation)
        check_gpus(gpus)
        _check_session(spark)
        self._spark = spark
        self._files = ConnectFiles(spark)
        self._package = threading.Lock()
        self._package_was_sent = False
        name = new_name()
        try:
            self._task_cpus = int(_setting(spark, "spark.task.cpus", 1))
            if cpus not in (None, self._task_cpus):
                raise ConfigError(
                    f"cpus={cpus}: the server gives a task spark.task.cpus={self._task_cpus}, which a client cannot "
                    f"change; start the server with --conf spark.task.cpus={cpus}."
                )
            if gpus not in (0, task_gpus := _setting(spark, TASK_GPUS, 0)):
                raise ConfigError(
                    f"gpus={gpus:g}: the server gives a task {TASK_GPUS}={task_gpus:g}, which a client cannot change; "
                    f"start the server with --conf {TASK_GPUS}={gpus:g}, beside the GPUs of its executors."
                )
            self._base = spark.range(0, 1, 1, 1)
            limits, tags = TaskLimits(task_timeout_s, memory_mb), _Tags(spark)
            super().__init__(name, slots, limits, isolation, self._files, _LOOK_EVERY_S, prepare_thread=tags)
        except ConfigError:
            raise
        except Exception as error:  # of the connection, or the server's
            raise explain(error, name) from error
        _open.add(self)
        self._watch()

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
    ) -> Iterator[T]:
        """Apply ``fn`` to every item, many to a task: for cheap functions, and for DEAP's ``toolbox.map``.

        A chunk of items is one task as `submit` runs it, with ``task_timeout_s`` for each of its items, and an item
        that kills its process fails its chunk with `WorkerCrashed`. A call that raises does so at its place in the
        iterator, and the other items have run all the same.

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
        items = [dump_arguments(args) for args in zip(*iterables, strict=False)]
        size = chunksize or max(1, -(-len(items) // (_CHUNKS_PER_SLOT * self.slots)))
        chunks = [items[start : start + size] for start in range(0, len(items), size)]
        futures = [self.submit_within(len(chunk), run_chunk, function, chunk) for chunk in chunks]
        return self._results(futures, deadline)

    def _results(self, futures: list[Future[list[Any]]], deadline: float | None) -> Iterator[Any]:
        futures.reverse()
        try:
            while futures:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                outcomes = _wait(futures[-1], left)
                futures.pop()
                for outcome in outcomes:
                    yield _value(outcome)
        except (_GivenUp, GeneratorExit) as end:
            for future in futures:
                cancel_task(self, future)
            if isinstance(end, _GivenUp):
                raise TimeoutError from None
            raise

    def _count_slots(self) -> int:
        plan = str(self._spark.sql("EXPLAIN SELECT * FROM range(2)").first()[0])
        if (splits := re.search(r"\bsplits=(\d+)", plan)) is not None:
            return int(splits[1]) // self._task_cpus
        if self._wanted_slots is None:
            raise ConfigError("This server does not tell how many tasks it runs at once: give slots=N.")
        return self._wanted_slots

    def _handed(self, function: Function) -> InlineFunction:
        return InlineFunction(function)

    def _run_task(self, task: Task, trial_task: TrialTask, n_missing: int) -> Answer:
        if n_missing:
            trial_task = replace(trial_task, fill=self._files.send())
        answer: Answer
        (answer,) = self._run_operation(self._group(task), self._base, trial_task)
        return answer

    def _run_wave(self, group: str, description: str, n_tasks: int, task: Callable[[Any], Any]) -> list[Any]:
        return self._run_operation(group, self._spark.range(0, n_tasks, 1, n_tasks), task)

    def _cancel(self, group: str) -> None:
        self._spark.interruptTag(group)

    def _run_operation(self, tag: str, base: DataFrame, task: Callable[[Any], Any]) -> list[Any]:
        """Run a task over each partition of a frame; its tag is its own, so that nobody else's is ever cancelled."""
        had_package = self._package_was_sent
        try:
            return self._collect(tag, base, task)
        except Exception as error:  # of the connection, or the server's
            if missing_module(str(error)) == "hpo_spark" and not had_package:
                self._send_package()
                return self._run_operation(tag, base, task)
            raise explain(error, tag) from error

    def _collect(self, tag: str, base: DataFrame, task: Callable[[Any], Any]) -> list[Any]:
        from pyspark.sql.types import BinaryType, StructField, StructType

        if self._spark.is_stopped:
            raise BrokenExecutor("The Spark session was stopped while the executor was using it.")
        self._spark.addTag(tag)
        try:
            answers = base.mapInArrow(ArrowTask(task), StructType([StructField(ANSWER, BinaryType())])).toArrow()
        finally:
            self._spark.removeTag(tag)
        return [loads(answer) for answer in answers[ANSWER].to_pylist()]

    def _send_package(self) -> None:
        with self._package:
            if not self._package_was_sent:
                send_package(self._spark)
                self._package_was_sent = True


# Pyspark's client needs a thread pool of its own to the end of an operation, and a program that ends closes all pools
# first of all. What is registered later than that is called before.
_open: weakref.WeakSet[ConnectExecutor] = weakref.WeakSet()


def _finish_all() -> None:
    for executor in list(_open):
        executor.shutdown()


threading._register_atexit(_finish_all)  # type: ignore[attr-defined]


class _GivenUp(Exception):
    """Whoever reads a map waits no longer; an item's own `TimeoutError` is another matter."""


def _wait(future: Future[list[Any]], timeout: float | None) -> list[Any]:
    try:
        return future.result(timeout)
    except TimeoutError:
        if future.done():
            raise
        raise _GivenUp from None


def _value(outcome: Any) -> Any:
    if isinstance(outcome, Failure):
        raise error_of(outcome)
    return load_item(outcome)


class _Tags:
    """Gives a thread the tags that the session had where the executor was made."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark, self._tags = spark, spark.getTags()

    def __call__(self) -> None:
        for tag in self._tags:
            self._spark.addTag(tag)


def _check_session(spark: Any) -> None:
    kind = f"{type(spark).__module__}.{type(spark).__name__}"
    if not kind.startswith("pyspark.sql.connect."):
        raise TypeError(f"spark must be a session of Spark Connect, got {kind}; with a SparkContext use SparkExecutor.")
    import pyspark

    if int(pyspark.__version__.partition(".")[0]) < 4:
        raise EnvironmentProblem(f"ConnectExecutor needs pyspark 4 or newer, got {pyspark.__version__}.")
    if spark.is_stopped:
        raise ValueError("This Spark session is stopped; make another one with SparkSession.builder.remote(...).")


def _setting(spark: SparkSession, name: str, default: int) -> float:
    try:
        return float(spark.conf.get(name, str(default)) or default)
    except Exception as error:
        if isinstance(explain(error, ""), BrokenExecutor):
            raise
        return default  # a server may keep its settings to itself, as Databricks' does
