"""The stage without Spark: trial processes on this machine."""

from __future__ import annotations

import os
import threading

from hpo_spark.executors.base import check_limits
from hpo_spark.executors.outcome import Outcome
from hpo_spark.executors.pooled import PooledExecutor, Task
from hpo_spark.executors.supervisor import TrialProcess

__all__ = ["ProcessExecutor"]


class ProcessExecutor(PooledExecutor):
    """Runs tasks in trial processes on this machine; needs no Java and no Spark.

    Unlike the standard pool it sends closures and functions of ``__main__``, outlives a task that kills its process,
    and can end a task that runs too long.

    Args:
        slots: Tasks at a time; None for one for every ``cpus`` cores that this process may use.
        task_timeout_s: Seconds after which a task is killed and its future raises `TaskTimeout`; None for no limit.
        cpus: Cores that native libraries may use in one task.
    """

    def __init__(self, slots: int | None = None, task_timeout_s: float | None = None, cpus: int = 1) -> None:
        check_limits(slots=slots, task_timeout_s=task_timeout_s, cpus=cpus)
        self._timeout_s = task_timeout_s
        self._cpus = cpus
        self._local = threading.local()
        self._processes: list[TrialProcess] = []
        self._busy: dict[int, TrialProcess] = {}
        slots = slots or max(1, usable_cores() // cpus)
        super().__init__(slots, window=slots, prepare_thread=self._start_process)

    def _start_process(self) -> None:
        process = self._local.process = TrialProcess(self._cpus)
        self._processes.append(process)
        process.start()

    def _execute(self, task: Task) -> Outcome:
        process: TrialProcess = self._local.process
        process.start()
        with self._lock:
            self._busy[task.number] = process
        try:
            return process.run(task.function, task.arguments, self._timeout_s)
        finally:
            with self._lock:
                del self._busy[task.number]

    def _interrupt(self, task: Task) -> None:
        if process := self._busy.get(task.number):
            process.kill()

    def _release(self) -> None:
        for process in self._processes:
            process.close()


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
