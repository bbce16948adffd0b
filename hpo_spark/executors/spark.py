"""The stage on Spark: one job a task from `SparkExecutor.submit`, one job over all items from `SparkExecutor.map`."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from hpo_spark.errors import ConfigError, TaskCancelled, WorkerCrashed
from hpo_spark.executors.base import check_isolation, check_limits
from hpo_spark.executors.cluster import ClusterExecutor, new_name
from hpo_spark.executors.outcome import Failure, dump_arguments, error_of
from hpo_spark.executors.pooled import INTERRUPT_EVERY_S, Task
from hpo_spark.executors.resources import asked_of_executors, is_dynamic, is_local, task_profile
from hpo_spark.executors.spark_errors import JobLost, check_alive, explain, first_lines
from hpo_spark.executors.spark_files import SparkFiles
from hpo_spark.executors.spark_task import Answer, MapTask, TrialTask
from hpo_spark.executors.supervisor import Function, Isolation, TaskLimits
from hpo_spark.pickling import load_item

if TYPE_CHECKING:
    from pyspark import RDD, Broadcast, SparkContext
    from pyspark.sql import SparkSession

__all__ = ["SparkExecutor"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Partitions of a `map` for each slot: enough to even out items of unequal cost.
_SLICES_PER_SLOT = 4
# Seconds between two looks at how many slots the cluster has.
_LOOK_EVERY_S = 2.0
# Seconds that a session's first executor gets to register, before what it has is compared with what is asked for.
_REGISTRATION_S = 10.0
# Seconds that Spark gets to end the worker of a cancelled task; it takes two to four.
_ENDING_S = 30.0
# Jobs that fill the cache of some host, before a task takes its files along.
_MAX_FILLS = 3
_POOL = "spark.scheduler.pool"

_map_numbers = count()


class SparkExecutor(ClusterExecutor):
    """Runs tasks on the workers of a Spark session, which stays its owner's: it is never stopped here.

    `submit` makes each call a Spark job of one task and one job group. The task hands the call to a trial process
    beside the Spark worker and watches it, so that whatever the call does, Spark sees a task that succeeded. A call
    whose executor is lost is begun again, five times at most; then its future raises `ExecutorLost`.

    Args:
        spark: A `SparkSession` or `SparkContext`.
        slots: Tasks that run at once; None for what the cluster offers, also while it grows and shrinks. More than it
            offers is what it may grow to.
        task_timeout_s: Seconds, from its start on the worker, after which a submitted task is killed and its future
            raises `TaskTimeout`; None for no limit.
        cpus: Cores for a task, and for native libraries in it; None for the session's ``spark.task.cpus``.
        gpus: GPUs for a task, also a fraction; 0 for what the session gives.
        memory_mb: Anonymous memory in MB, of a task and all processes that it starts, beyond which it is killed and its
            future raises `MemoryExceeded`; None for no limit.
        isolation: ``"worker"`` runs one task after the other in the trial process of a Spark worker, ``"trial"`` takes
            a new process for each.

    Raises:
        ConfigError: (a `ValueError`) If the session cannot give a task these resources.
    """

    def __init__(
        self,
        spark: SparkSession | SparkContext,
        slots: int | None = None,
        task_timeout_s: float | None = None,
        *,
        cpus: int | None = None,
        gpus: float = 0,
        memory_mb: float | None = None,
        isolation: Isolation = "worker",
    ) -> None:
        check_limits(slots=slots, task_timeout_s=task_timeout_s, cpus=cpus, gpus=gpus or None, memory_mb=memory_mb)
        check_isolation(isolation)
        self._context = _context_of(spark)
        self._is_local = is_local(self._context)
        name = new_name()
        self._broadcasts: weakref.WeakKeyDictionary[Function, Broadcast[Function]] = weakref.WeakKeyDictionary()
        self._orphans: deque[Broadcast[Function]] = deque()
        self._files = SparkFiles(self._context)
        self._profile = task_profile(self._context, cpus, gpus)
        self._base = self._with_resources(self._context.parallelize([0], 1))
        self._return_python = weakref.finalize(self, _lend_python(self._context))
        # What the caller's thread says of its jobs (tags, descriptions) holds for those of the pool's threads.
        self._properties = self._context._jsc.sc().getLocalProperties().clone()
        if self._properties.getProperty(_POOL) is None:
            self._properties.setProperty(_POOL, name)  # so that a session that is shared fairly stays fair
        if (cpus or gpus) and not self._is_local and not is_dynamic(self._context):
            self._check_size(cpus, gpus)
        inherit = _Inherit(self._context, self._properties)
        limits = TaskLimits(task_timeout_s, memory_mb)
        super().__init__(name, slots, limits, isolation, self._files, _LOOK_EVERY_S, prepare_thread=inherit)
        if not self._is_local:
            self._watch()

    @property
    def n_executors(self) -> int:
        """Executor processes that are registered with the driver now."""
        if self._is_local:
            return 1
        return max(0, len(self._context._jsc.sc().statusTracker().getExecutorInfos()) - 1)  # the driver is among them

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
    ) -> Iterator[T]:
        """Apply ``fn`` to every item, in one Spark job: for cheap functions, and for DEAP's ``toolbox.map``.

        The calls run in the Spark workers themselves, many to a task. A call that raises does so at its place in the
        iterator, and the other items have run all the same. No item has a time limit of its own, and one that kills its
        process fails the whole map with `WorkerCrashed`; where that is not enough, use `submit`.

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
        size = chunksize or max(1, -(-len(items) // (_SLICES_PER_SLOT * self.slots)))
        chunks = [items[start : start + size] for start in range(0, len(items), size)]
        if not chunks:
            return iter(())
        group = f"{self._name}-map-{next(_map_numbers)}"
        job: Future[list[list[Any]]] = Future()
        stopped = threading.Event()
        self._threads.submit(self._run_map, function, chunks, group, job, stopped)
        return self._results(job, group, stopped, deadline)

    def drop(self, futures: Sequence[Future[Any]]) -> list[Future[Any]]:
        """Cancel those tasks that Spark has not begun to run, and say which.

        Where it runs fewer than there are slots, the next ones may be just about to begin, and are left.
        """
        dropped = [future for future in futures if future.cancel()]
        self._look(at_once=True)
        with self._lock:
            at_spark = {future: self._group(task) for future, task in self._tasks.items() if task.running}
        running: set[str] = set()
        with contextlib.suppress(Exception):  # the session is gone, as the next job will tell
            running = self._running_groups()
        in_order = sorted(at_spark, key=lambda future: at_spark[future] not in running)
        kept = set(in_order[: max(len(running & set(at_spark.values())), min(self.slots, self._cluster_slots))])
        for future in futures:
            if future in at_spark and future not in kept and not future.done():
                self.cancel(future)
                dropped.append(future)
        return dropped

    def _running_groups(self) -> set[str]:
        """Job groups of which a task runs now, as Spark's scheduler has it; its status tracker hears of that late."""
        running: set[str] = set()
        waiting = [self._context._jsc.sc().taskScheduler().rootPool()]
        while waiting:
            pool_or_tasks = waiting.pop()
            inside = pool_or_tasks.schedulableQueue()
            if inside is not None:
                waiting += list(inside.toArray())
            elif pool_or_tasks.runningTasks() > 0:
                running.add(str(pool_or_tasks.taskSet().properties().getProperty("spark.jobGroup.id")))
        return running

    def _run_map(
        self,
        function: Function,
        chunks: list[list[Any]],
        group: str,
        job: Future[list[list[Any]]],
        stopped: threading.Event,
    ) -> None:
        try:
            base = self._with_resources(self._context.parallelize(chunks, len(chunks)))
            task = MapTask(self._handed(function))
            if stopped.is_set():
                raise TaskCancelled("was cancelled before it ran.")
            job.set_result(self._run_job(group, f"map over {len(chunks)} chunks", base, task))
        except JobLost as lost:
            job.set_exception(WorkerCrashed(f"A Spark worker was lost in a map: {lost}"))
        except Exception as error:
            job.set_exception(error)

    def _results(
        self, job: Future[list[list[Any]]], group: str, stopped: threading.Event, deadline: float | None
    ) -> Iterator[Any]:
        try:
            chunks = job.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
        finally:
            if not job.done():
                stopped.set()
                threading.Thread(target=self._cancel_map, args=(job, group), daemon=True).start()
        for chunk in chunks:
            for item in chunk:
                if isinstance(item, Failure):
                    raise error_of(item)
                yield load_item(item)

    def _cancel_map(self, job: Future[Any], group: str) -> None:
        while not job.done():  # what comes before the job has begun is lost
            self._context.cancelJobGroup(group)
            time.sleep(INTERRUPT_EVERY_S)

    def _run_task(self, task: Task, trial_task: TrialTask, n_missing: int) -> Answer:
        """Run a task as a Spark job, after one that fills a host's cache where the task found that it is not filled.

        That job most likely runs in the slot that the task has just left. Where it does not, the files travel with the
        task itself, though executors then keep them until it ends.
        """
        group, words = self._group(task), f"task {task.number}"
        try:
            if n_missing:
                with self._files.filling() as fill:
                    if n_missing > _MAX_FILLS:
                        return self._run_one(group, words, replace(trial_task, fill=fill))
                    self._run_job(group, f"share files for {words}", self._base, fill)
            return self._run_one(group, words, trial_task)
        except TaskCancelled:
            self._here.ending = group
            raise

    def _run_one(self, group: str, words: str, trial_task: TrialTask) -> Answer:
        answer: Answer
        (answer,) = self._run_job(group, words, self._base, trial_task)
        return answer

    def _rest(self) -> None:
        """Where this executor keeps slots by itself, wait until Spark has ended the worker of a cancelled task."""
        group = self._here.__dict__.pop("ending", None)
        if group is None or self.window > self.slots:
            return
        deadline = time.monotonic() + _ENDING_S
        with contextlib.suppress(Exception):  # the session is gone, as the next job will tell
            while group in self._running_groups() and time.monotonic() < deadline:
                time.sleep(INTERRUPT_EVERY_S)

    def _cancel(self, group: str) -> None:
        self._context.cancelJobGroup(group)

    def _run_wave(self, group: str, description: str, n_tasks: int, task: Callable[[Any], Any]) -> list[Any]:
        base = self._with_resources(self._context.parallelize(range(n_tasks), n_tasks))
        return self._run_job(group, description, base, task)

    def _run_job(self, group: str, description: str, base: RDD[Any], function: Callable[[Any], Any]) -> list[Any]:
        """Run one job; its group is its own, so that nobody else's job is ever cancelled."""
        context = self._context
        check_alive(context)
        # An interrupted task would give its slot away some seconds before Spark ends its worker, and the trial with it.
        context.setJobGroup(group, f"hpo_spark: {description}", interruptOnCancel=False)
        try:
            results: list[Any] = base.mapPartitions(function).collect()
            return results
        except Exception as error:  # py4j's, pyspark's, or of the connection between them
            check_alive(context)
            raise explain(error, group) from error

    def _with_resources(self, rdd: RDD[Any]) -> RDD[Any]:
        if self._profile is None:
            return rdd
        try:
            return rdd.withResources(self._profile)
        except Exception as error:  # Java's
            raise ConfigError(f"This session takes no resource profile for a task: {first_lines(error)}") from error

    def _handed(self, function: Function) -> Broadcast[Function]:
        with self._lock:
            broadcast = self._broadcasts.get(function)
            if broadcast is None:
                broadcast = self._broadcasts[function] = self._context.broadcast(function)
                # It goes when neither the book of functions nor a task in flight holds the function any more; a little
                # later, for a collection of garbage can come in the middle of a call to Java, and no other may then.
                weakref.finalize(function, self._orphans.append, broadcast).atexit = False
            return broadcast

    def _destroy_orphans(self) -> None:
        from py4j.protocol import Py4JError

        while self._orphans:
            # The session may be gone, and the broadcast with it.
            with contextlib.suppress(Py4JError, OSError, AttributeError, IndexError):
                self._orphans.popleft().destroy()

    def _count_slots(self) -> int:
        """Tasks that the cluster runs at once, at this moment."""
        context = self._context._jsc.sc()
        if self._profile is None:
            profile = context.resourceProfileManager().defaultResourceProfile()
        else:
            profile = self._profile._java_resource_profile
        return int(context.maxNumConcurrentTasks(profile))

    def _check_size(self, cpus: int | None, gpus: float) -> None:
        """Refuse what no executor has, once the first of them is there."""
        deadline = time.monotonic() + _REGISTRATION_S
        while self.n_executors == 0 and time.monotonic() < deadline:
            time.sleep(0.1)
        asked = [f"cpus={cpus}"] * bool(cpus) + [f"gpus={gpus:g}"] * bool(gpus)
        if self.n_executors == 0:  # a queue may be long, so this is no refusal yet
            what = asked_of_executors(self._context)
            logger.warning("no executor has come in %g s; the session wants each to have %s", _REGISTRATION_S, what)
        elif self._count_slots() == 0:
            raise ConfigError(
                f"{', '.join(asked)}: none of the {self.n_executors} executor(s) of this session has so many, "
                "and Spark would wait for one for ever."
            )

    def _look(self, at_once: bool = False) -> None:
        self._destroy_orphans()
        super()._look(at_once)

    def _release(self) -> None:
        super()._release()
        self._destroy_orphans()
        self._return_python()


class _Inherit:
    """Gives a thread the local properties that the executor was made with."""

    def __init__(self, context: SparkContext, properties: Any) -> None:
        self._context, self._properties = context, properties

    def __call__(self) -> None:
        with contextlib.suppress(Exception):  # the session is gone, as the next job will tell
            self._context._jsc.sc().setLocalProperties(self._properties.clone())


# For each context how many executors have set its Python, and what it was before.
_lent: weakref.WeakKeyDictionary[SparkContext, tuple[int, str]] = weakref.WeakKeyDictionary()


def _lend_python(context: SparkContext) -> Callable[[], None]:
    """Have local workers run this Python: Spark would take the first on PATH, which need not have this package.

    Returns:
        What to call when that is over.
    """
    if not is_local(context) or "PYSPARK_PYTHON" in os.environ:
        return lambda: None
    users, before = _lent.get(context, (0, context.pythonExec))
    _lent[context] = users + 1, before
    context.pythonExec = sys.executable
    lent_to = weakref.ref(context)

    def give_back() -> None:
        context = lent_to()
        if context is not None:
            users, before = _lent.pop(context)
            if users > 1:
                _lent[context] = users - 1, before
            else:
                context.pythonExec = before

    return give_back


def _context_of(spark: SparkSession | SparkContext) -> SparkContext:
    context: SparkContext = getattr(spark, "sparkContext", spark)
    if not hasattr(context, "parallelize"):
        kind = f"{type(spark).__module__}.{type(spark).__name__}"
        raise TypeError(
            f"spark must be a SparkSession or SparkContext, got {kind}; with Spark Connect use ConnectExecutor."
        )
    if context._jsc is None:
        raise ValueError("This Spark session is stopped; make another one with SparkSession.builder.getOrCreate().")
    return context
