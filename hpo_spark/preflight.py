"""Before a search: what each worker is, and whether the objective can be loaded there.

Small tasks are sent until every executor has answered. They load the objective in the trial processes, which then have
it ready for the first trials.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from typing import Any

import psutil

from hpo_spark.executors.base import cancel_task, drop_tasks, executors_of, slots_of
from hpo_spark.pickling import dump_task, loads
from hpo_spark.versions import differences, versions

__all__ = ["Preflight", "Worker", "preflight"]

logger = logging.getLogger(__name__)

# The first task of an executor may have to fetch an environment of some hundred megabytes and to unpack it.
_PATIENCE_S = 300.0
# Seconds that the other executors get, once one has answered.
_OTHERS_S = 30.0
# Seconds without an answer, after which it is said that somebody waits.
_SILENCE_S = 30.0
# Tasks of a second wave last so long, so that Spark does not give them all to the quickest executor.
_SPREAD_S = 0.3
# Without these being alike nothing can be trusted.
_VITAL = ("python", "hpo_spark")


@dataclass(frozen=True)
class Worker:
    """What the trial process of an executor said.

    Attributes:
        host: Name of its host.
        executor: Process id there that all workers of the executor share.
        versions: Of Python and the libraries that matter.
        cpus: Cores for a trial.
        gpus: Devices that it may use, as ``CUDA_VISIBLE_DEVICES`` has them; None where that is not set.
        free_mb: Memory available on the host, in MB.
        error: Why the objective cannot be loaded: the exception, then the traceback; None where it can.
    """

    host: str
    executor: int
    versions: dict[str, str]
    cpus: int
    gpus: str | None
    free_mb: float
    error: str | None = None


@dataclass(frozen=True)
class Preflight:
    """What all of them said.

    Attributes:
        workers: One an executor.
        slots: Trials that run at once.
        n_executors: Executors that are registered.
        failures: Why tasks came back without an answer.
        expected: The driver's versions.
    """

    workers: list[Worker]
    slots: int
    n_executors: int
    failures: list[str]
    expected: dict[str, str]

    @property
    def problems(self) -> list[str]:
        """What makes a search impossible, a sentence each; empty where it can begin."""
        found = []
        for worker in self.workers:
            if worker.error is not None:
                found.append(f"{worker.host}: the objective cannot be loaded: {worker.error}")
            found += [f"{worker.host}: {phrase}." for phrase in self.differences(worker, vital=True)]
        if not self.workers:
            found += list(dict.fromkeys(self.failures)) or ["No worker has answered: are there any, and are they free?"]
        return found

    @property
    def warnings(self) -> list[str]:
        """What should be known, a sentence each."""
        found = [f"{w.host}: {phrase}." for w in self.workers for phrase in self.differences(w, vital=False)]
        if missing := max(0, self.n_executors - len(self.workers)):
            found.append(f"{missing} of {self.n_executors} executor(s) have not answered.")
        if self.workers:
            found += list(dict.fromkeys(self.failures))
        return found

    def differences(self, worker: Worker, vital: bool) -> list[str]:
        """How a worker's versions differ from the driver's, in those that must be alike or in the others."""
        expected = {name: wanted for name, wanted in self.expected.items() if (name in _VITAL) == vital}
        found = dict(worker.versions)
        if vital:  # patch releases of Python understand one another
            expected["python"], found["python"] = _minor(expected["python"]), _minor(found["python"])
        return differences(found, expected)


def preflight(executor: Executor, objective: Callable[..., Any], patience_s: float = _PATIENCE_S) -> Preflight:
    """Ask the workers of an executor, until each executor process has answered or the time is over.

    Args:
        executor: Where trials will run.
        objective: What they will run.
        patience_s: Seconds to wait for the first answer; the others then get half a minute.

    Raises:
        TaskNotPicklable: If the objective cannot be sent.
    """
    blob = dump_task(objective)
    began = time.monotonic()
    deadline, silence_ends = began + patience_s, began + _SILENCE_S
    workers: dict[tuple[str, int], Worker] = {}
    failures: list[str] = []
    waiting: set[Future[Worker]] = set()
    spread_s = 0.0
    while time.monotonic() < deadline and len(workers) < max(1, executors_of(executor)):
        if not waiting:
            if failures and not workers:
                break
            waiting = {executor.submit(_answer, blob, spread_s) for _ in range(slots_of(executor))}
            spread_s = _SPREAD_S
        done, waiting = wait(waiting, _left(min(deadline, silence_ends)), return_when=FIRST_COMPLETED)
        if not done and time.monotonic() < deadline and silence_ends < deadline:
            silence_ends = deadline
            logger.warning("no worker has answered in %.0f s; waiting for %.0f s in all", _SILENCE_S, patience_s)
        for future in done:
            if (error := future.exception()) is not None:
                failures.append(f"{type(error).__name__}: {error}")
            else:
                worker = future.result()
                workers.setdefault((worker.host, worker.executor), worker)
                deadline = silence_ends = min(deadline, time.monotonic() + _OTHERS_S)
    if time.monotonic() < deadline:
        drop_tasks(executor, list(waiting))
    else:  # whoever hangs would keep its slot
        for future in waiting:
            cancel_task(executor, future)
    return Preflight(list(workers.values()), slots_of(executor), max(1, executors_of(executor)), failures, versions())


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _answer(blob: bytes, spread_s: float) -> Worker:
    """Describe this trial process, and load the objective in it."""
    time.sleep(spread_s)
    worker = Worker(
        host=socket.gethostname(),
        executor=_executor_process(),
        versions=versions(),
        cpus=int(os.environ.get("OMP_NUM_THREADS", "1")),
        gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
        free_mb=psutil.virtual_memory().available / 1e6,
    )
    try:
        preload = getattr(loads(blob), "preload", None)
        if callable(preload):
            preload()
    except Exception as error:
        summary = "".join(traceback.format_exception_only(error)).strip()
        worker = replace(worker, error=f"{summary}\n{traceback.format_exc()}")
    return worker


def _executor_process() -> int:
    """The parent of the process that supervises this one: a worker's is Spark's daemon, one for each executor."""
    try:
        return psutil.Process(os.getppid()).ppid()
    except psutil.Error:
        return 0


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
