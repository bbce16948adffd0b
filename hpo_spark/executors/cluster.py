"""What the two executors on Spark share: a cluster that grows, shrinks and loses machines while tasks run on it."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import Any

from hpo_spark.errors import ExecutorLost
from hpo_spark.executors.host_files import RELEASE_S, HostFiles, ReleaseTask
from hpo_spark.executors.outcome import Outcome
from hpo_spark.executors.pooled import PooledExecutor, Task
from hpo_spark.executors.shared import HostPath
from hpo_spark.executors.spark_errors import JobLost
from hpo_spark.executors.spark_task import Answer, PrestartTask, SharedFunction, TrialTask
from hpo_spark.executors.supervisor import Function, Isolation, TaskLimits
from hpo_spark.versions import versions

__all__ = ["ClusterExecutor", "new_name"]

logger = logging.getLogger(__name__)

# Tasks in flight for each slot: those that wait at Spark hide its scheduling latency, and make a cluster with dynamic
# allocation grow.
_WINDOW_PER_SLOT = 2
# How often a task is begun when its executors are lost. Spark's own limit is the application's.
_MAX_ATTEMPTS = 5

_numbers = count()


def new_name() -> str:
    """A name for an executor, unlike those of others in the same session."""
    return f"hpo-spark-{os.getpid()}-{next(_numbers)}"


class ClusterExecutor(PooledExecutor):
    """Base of the executors whose tasks Spark runs, each as a job of one task.

    A subclass says how many tasks the cluster runs at once (`_count_slots`), how a function travels (`_handed`), how
    jobs are run (`_run_task`, `_run_wave`) and how they are cancelled (`_cancel`).

    Args:
        name: Unlike that of other executors; jobs are named by it.
        slots: Tasks that run at once; None for what the cluster offers.
        limits: What a task may use.
        isolation: As for `TrialProcess`.
        files: What tasks must find on their hosts.
        look_every_s: Seconds between two looks at how many slots the cluster has.
        prepare_thread: Called first in each thread of the pool.
    """

    # Whether driver and workers are one process, whose cache needs no job to be emptied.
    _is_local = False

    def __init__(
        self,
        name: str,
        slots: int | None,
        limits: TaskLimits,
        isolation: Isolation,
        files: HostFiles,
        look_every_s: float,
        prepare_thread: Callable[[], None],
    ) -> None:
        self._name = name
        self.task_timeout_s, self.memory_mb = limits.timeout_s, limits.memory_mb
        self._limits, self._isolation = limits, isolation
        self._host_files = files
        self._versions = versions()
        self._notices: set[str] = set()
        self._wanted_slots = slots
        self._cluster_slots = self._count_slots()
        self._looked, self._look_every_s = time.monotonic(), look_every_s
        self._ended = threading.Event()
        self._prepare_thread = prepare_thread
        super().__init__(*self._size(), prepare_thread=prepare_thread)

    @abstractmethod
    def _count_slots(self) -> int:
        """Tasks that the cluster runs at once, at this moment."""

    @abstractmethod
    def _handed(self, function: Function) -> SharedFunction:
        """What travels with a task for its function."""

    @abstractmethod
    def _run_task(self, task: Task, trial_task: TrialTask, n_missing: int) -> Answer:
        """Run a task at Spark.

        Args:
            task: What was submitted.
            trial_task: What to run.
            n_missing: How often it was not begun, since its host did not have the shared files.

        Raises:
            JobLost: If executors were lost under it.
        """

    @abstractmethod
    def _run_wave(self, group: str, description: str, n_tasks: int, task: Callable[[Any], Any]) -> list[Any]:
        """Run one task so many times at once, and return what all of them answer."""

    @abstractmethod
    def _cancel(self, group: str) -> None:
        """Cancel what was run by this name."""

    @property
    def n_executors(self) -> int:
        """Executor processes of the cluster now; 1 where that is not known."""
        return 1

    def prestart(self) -> None:
        """Have the trial processes of all slots started, without waiting for them."""

        def run() -> None:
            self._prepare_thread()
            with contextlib.suppress(Exception):  # the first tasks will tell what is wrong
                self._run_wave(self._prestart_group, "start trial processes", self.slots, PrestartTask(self._isolation))

        # No thread of the pool: where no executor ever comes, nobody must wait for it.
        threading.Thread(target=run, name="hpo-spark-prestart", daemon=True).start()

    def share(self, path: str | os.PathLike[str], owner: str | None = None) -> HostPath:
        """Have the tasks that are submitted from now on find a file, or a folder of files, on their host.

        It lies once in the cache of each host that a task runs on, whatever the number of executors there; no storage
        need be shared.

        Args:
            path: The file or the folder; it must not change.
            owner: A name to release it by; None for one of its own.

        Returns:
            A handle that travels with a task, and whose ``resolve()`` is the path there.
        """
        return self._host_files.add(path, owner)

    def fill_on_hosts(self, owner: str, fill: Callable[[], object]) -> None:
        """Have each trial process call a function before its first task, within no limit of time, until `unshare`.

        Args:
            owner: In whose name it fills the cache of its host.
            fill: What to call; nobody hears how it ends.
        """
        super().fill_on_hosts(owner, fill)
        if not self._is_local:
            self._host_files.expect(owner)

    def unshare(self, owner: str | None = None) -> None:
        """Remove what is shared in the name of an owner, or all that is, from the hosts."""
        super().unshare(owner)
        n_tasks, group = 2 * max(1, self._cluster_slots), f"{self._name}-release"

        def run(task: ReleaseTask) -> list[tuple[str, int]]:
            answers: Future[list[tuple[str, int]]] = Future()

            def release() -> None:
                try:
                    self._prepare_thread()
                    answers.set_result(self._run_wave(group, "remove shared files", n_tasks, task))
                except Exception as error:
                    answers.set_exception(error)

            # A thread of its own: the caller's keeps its job group.
            threading.Thread(target=release, daemon=True).start()
            try:
                return answers.result(RELEASE_S)
            except TimeoutError:  # others have all slots
                self._cancel(group)
                raise

        self._host_files.release(owner, run, self.n_executors)

    def _execute(self, task: Task) -> Outcome:
        n_lost = 0
        n_missing = 0
        while n_lost < _MAX_ATTEMPTS:
            trial_task = TrialTask(
                self._handed(task.function),
                task.arguments,
                self._limits.times(task.factor),
                self._isolation,
                self._versions,
                n_lost,
                _MAX_ATTEMPTS,
                self._host_files.shared,
                setups=tuple(map(self._handed, list(self._setups.values()))),
            )
            try:
                answer = self._run_task(task, trial_task, n_missing)
            except JobLost as lost:
                n_lost += lost.n_attempts
                if task.cancelled:
                    raise
                logger.warning("task %d was begun %d time(s) and lost: %s", task.number, n_lost, lost)
                self._look()
                continue
            self._look()
            if answer.outcome is not None:
                return self._outcome(answer.outcome, answer.notice)
            n_missing += 1
        raise ExecutorLost(n_lost)

    def _outcome(self, outcome: Outcome, notice: str | None) -> Outcome:
        if notice is not None and notice not in self._notices:
            self._notices.add(notice)
            logger.warning("%s", notice)
        return outcome

    def _size(self) -> tuple[int, int]:
        """Slots and window for what the cluster has now."""
        slots = self._wanted_slots or max(1, self._cluster_slots)
        # Spark runs what it is given as soon as it can, so fewer slots than it has are kept by giving it no more.
        return slots, slots if slots < self._cluster_slots else _WINDOW_PER_SLOT * slots

    def _look(self, at_once: bool = False) -> None:
        """See how many slots the cluster has, unless that was done a moment ago."""
        with self._lock:
            if time.monotonic() - self._looked < self._look_every_s and not at_once:
                return
            self._looked = time.monotonic()
        with contextlib.suppress(Exception):  # the session is gone, as the next job will tell
            before, self._cluster_slots = self._cluster_slots, self._count_slots()
            if before and not self._cluster_slots:
                logger.warning("no executor is left; %d task(s) wait until one joins", self._n_working)
            self._resize(*self._size())

    def _watch(self) -> None:
        """Look at the cluster also while no task ends: a long one must not hide that executors have joined."""
        weakref.finalize(self, self._ended.set)
        arguments = weakref.ref(self), self._ended, self._look_every_s
        threading.Thread(target=_watch_cluster, args=arguments, daemon=True).start()

    def _interrupt(self, task: Task) -> None:
        self._cancel(self._group(task))

    def _group(self, task: Task) -> str:
        return f"{self._name}-task-{task.number}"

    @property
    def _prestart_group(self) -> str:
        return f"{self._name}-prestart"

    def _release(self) -> None:
        self._ended.set()
        with contextlib.suppress(Exception):  # the session is gone
            self._cancel(self._prestart_group)
        with contextlib.suppress(Exception):  # likewise
            self.unshare()
        self._functions.clear()


def _watch_cluster(reference: weakref.ref[ClusterExecutor], ended: threading.Event, every_s: float) -> None:
    while not ended.wait(every_s) and (executor := reference()) is not None:
        if executor._n_working:
            executor._look()
        del executor
