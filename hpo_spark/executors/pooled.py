"""Futures for tasks that run elsewhere: one waiting thread a task in flight, and a way to end a task that runs."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from hpo_spark.errors import TaskCancelled
from hpo_spark.executors.base import FunctionBook
from hpo_spark.executors.outcome import Failure, Outcome, unwrap
from hpo_spark.executors.supervisor import Function
from hpo_spark.pickling import dump_arguments

__all__ = ["PooledExecutor", "Task"]

P = ParamSpec("P")
T = TypeVar("T")

_INTERRUPT_EVERY_S = 0.2

_task_numbers = count()


@dataclass(eq=False)
class Task:
    """A submitted call: what travels, and where it stands."""

    function: Function
    arguments: bytes
    number: int = field(default_factory=lambda: next(_task_numbers))
    running: bool = False
    cancelled: bool = False


class PooledExecutor(Executor):
    """Base of the executors whose tasks run in another process.

    A subclass says how a task is run (`_execute`, in one of the pool's threads) and how a running one is ended
    (`_interrupt`, from any thread).

    Args:
        slots: Tasks that can run at once.
        window: Tasks to keep in flight, of which those beyond ``slots`` wait where the next slot is.
        prepare_thread: Called first in each thread of the pool.
    """

    def __init__(self, slots: int, window: int, prepare_thread: Callable[[], None]) -> None:
        self.slots = slots
        self.window = window
        self._functions = FunctionBook()
        self._tasks: WeakKeyDictionary[Future[Any], Task] = WeakKeyDictionary()
        self._lock = threading.RLock()
        self._closed = False
        self._threads = ThreadPoolExecutor(window, type(self).__name__, initializer=prepare_thread)

    @abstractmethod
    def _execute(self, task: Task) -> Outcome:
        """Run a task to its end."""

    @abstractmethod
    def _interrupt(self, task: Task) -> None:
        """End a task that runs; `_execute` then returns a failure or raises."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn`` in a trial process.

        The function is pickled when it is first seen and kept, so what its closure holds must not change between
        submissions. What cannot be pickled becomes the future's exception, `TaskNotPicklable`.
        """
        try:
            with self._lock:
                function = self._functions.pickled(fn)
            task = Task(function, dump_arguments(fn, args, kwargs))
        except Exception as error:
            return self._threads.submit(_raise, error)
        with self._lock:
            future = self._threads.submit(self._run, task)
            self._tasks[future] = task
        return future

    def cancel(self, future: Future[Any]) -> None:
        """Cancel a task; one that runs is killed, and its future then raises `TaskCancelled`."""
        if future.cancel():
            return
        with self._lock:
            task = self._tasks.get(future)
            if task is not None and not future.done():
                task.cancelled = True
                threading.Thread(target=self._interrupt_until_gone, args=(task,), daemon=True).start()

    def _interrupt_until_gone(self, task: Task) -> None:
        # What comes before the task has really begun is lost, so it is said until the task has ended.
        while True:
            with self._lock:
                if not task.running:
                    return
                self._interrupt(task)
            time.sleep(_INTERRUPT_EVERY_S)

    def _run(self, task: Task) -> Any:
        with self._lock:
            if task.cancelled:
                raise TaskCancelled("was cancelled before it ran.")
            task.running = True
        try:
            outcome = self._execute(task)
        except Exception as error:
            if task.cancelled:
                raise TaskCancelled("was cancelled while it ran.") from error
            raise
        finally:
            with self._lock:
                task.running = False
        if task.cancelled and isinstance(outcome, Failure):
            raise TaskCancelled("was cancelled while it ran.")
        return unwrap(outcome)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, let those submitted finish (or cancel those that wait), then let go of everything."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=cancel_futures)
        if wait:
            self._threads.shutdown(wait=True)
            self._finish()
            self._release()
        else:
            threading.Thread(target=self.shutdown, name=f"{type(self).__name__}-shutdown").start()

    def _finish(self) -> None:
        """Wait for work that is not in the pool's threads."""

    def _release(self) -> None:
        """Let go of processes and files; called when no task is left, possibly more than once."""


def _raise(error: Exception) -> Any:
    raise error
