"""The stage without Spark: trial processes on this machine."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from pathlib import Path

from hpo_spark.executors.base import check_isolation, check_limits
from hpo_spark.executors.devices import share_out
from hpo_spark.executors.outcome import Outcome
from hpo_spark.executors.pooled import PooledExecutor, Task
from hpo_spark.executors.shared import LocalPath
from hpo_spark.executors.supervisor import Isolation, TaskLimits, TrialProcess

__all__ = ["ProcessExecutor"]


class ProcessExecutor(PooledExecutor):
    """Runs tasks in trial processes on this machine; needs no Java and no Spark.

    Unlike the standard pool it sends closures and functions of ``__main__``, outlives a task that kills its process,
    and can end a task that runs too long.

    Args:
        slots: Tasks at a time; None for one for every ``cpus`` cores that this process may use, as far as the devices
            go.
        task_timeout_s: Seconds after which a task is killed and its future raises `TaskTimeout`; None for no limit.
        cpus: Cores that native libraries may use in one task.
        gpus: Devices for a task, of those that ``CUDA_VISIBLE_DEVICES`` names here; tasks share one where it is a
            fraction. 0 lets every task see them all.
        memory_mb: Anonymous memory in MB, of a task and all processes that it starts, beyond which it is killed and its
            future raises `MemoryExceeded`; None for no limit.
        isolation: ``"worker"`` runs one task after the other in a process, ``"trial"`` takes a new process for each.

    Raises:
        ConfigError: (a `ValueError`) If there are not so many devices here.
    """

    def __init__(
        self,
        slots: int | None = None,
        task_timeout_s: float | None = None,
        cpus: int = 1,
        *,
        gpus: float = 0,
        memory_mb: float | None = None,
        isolation: Isolation = "worker",
    ) -> None:
        check_limits(slots=slots, task_timeout_s=task_timeout_s, cpus=cpus, gpus=gpus or None, memory_mb=memory_mb)
        self.task_timeout_s = task_timeout_s
        self.memory_mb = memory_mb
        self._limits = TaskLimits(task_timeout_s, memory_mb)
        self._isolation = check_isolation(isolation)
        self._local = threading.local()
        self._processes: list[TrialProcess] = []
        self._busy: dict[int, TrialProcess] = {}
        most = max(1, usable_cores() // cpus)
        environments = share_out(gpus, slots, most) if gpus else [{}] * (slots or most)
        slots = len(environments)
        # The threads must not keep this object alive: without `shutdown`, they end when it is gone.
        prepare = functools.partial(_start_process, self._local, self._processes, cpus, self._isolation, environments)
        super().__init__(slots, window=slots, prepare_thread=prepare, max_threads=slots)
        weakref.finalize(self, _close_all, self._processes)

    def prestart(self) -> None:
        """Have the trial processes of all slots started, without waiting for them."""
        with self._lock:
            for _ in range(self.slots - self._n_working):
                self._start_worker()  # a thread begins by starting its process, and then finds nothing to do

    def share(self, path: str | os.PathLike[str], owner: str | None = None) -> LocalPath:
        """A handle for a file that tasks map: its path, since they run on this machine."""
        return LocalPath(Path(path).absolute())

    def _execute(self, task: Task) -> Outcome:
        process: TrialProcess = self._local.process
        with self._lock:
            self._busy[task.number] = process
        try:
            limits, environment = self._limits.times(task.factor), self._local.environment
            return process.run(task.function, task.arguments, limits, environment=environment)
        finally:
            with self._lock:
                del self._busy[task.number]

    def _rest(self) -> None:
        self._local.process.rest()

    def _interrupt(self, task: Task) -> None:
        with self._lock:  # else the process may have another task by now
            if process := self._busy.get(task.number):
                process.kill()

    def _release(self) -> None:
        _close_all(self._processes)


def _start_process(
    local: threading.local,
    processes: list[TrialProcess],
    cpus: int,
    isolation: Isolation,
    environments: list[dict[str, str]],
) -> None:
    """Give a thread of the pool a process, and the environment that it has for good: its devices."""
    local.process, local.environment = TrialProcess(cpus, isolation), environments.pop(0)
    processes.append(local.process)
    local.process.prestart(local.environment)


def _close_all(processes: list[TrialProcess]) -> None:
    for process in processes:
        process.close()


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
