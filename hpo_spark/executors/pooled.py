"""Futures for tasks that run elsewhere: a bounded window of them in flight, and a way to end one that runs."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ParamSpec, TypeVar

from hpo_spark.errors import TaskCancelled
from hpo_spark.executors.base import FunctionBook
from hpo_spark.executors.outcome import Failure, Outcome, unwrap
from hpo_spark.executors.supervisor import Function
from hpo_spark.pickling import dump_arguments

__all__ = ["INTERRUPT_EVERY_S", "PooledExecutor", "Task"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

INTERRUPT_EVERY_S = 0.2
# Tasks that may wait for the window. Then `submit` waits too: a million of them would fill the driver's memory.
_MAX_WAITING = 5_000
# More threads than any window has.
_MAX_THREADS = 1_000_000

_task_numbers = count()


@dataclass(eq=False)
class Task:
    """A submitted call: what travels, how many times the usual time it may take, and where it stands."""

    function: Function
    arguments: bytes
    factor: float = 1.0
    number: int = field(default_factory=lambda: next(_task_numbers))
    running: bool = False
    cancelled: bool = False


class PooledExecutor(Executor):
    """Base of the executors whose tasks run in another process.

    A subclass says how a task is run (`_execute`, in one of the pool's threads, one a task in flight) and how a running
    one is ended (`_interrupt`, from any thread).

    Args:
        slots: Tasks that can run at once.
        window: Tasks to keep in flight, of which those beyond ``slots`` wait where the next slot is.
        prepare_thread: Called first in each thread of the pool.
        max_threads: Threads at most; None where the window alone bounds them, and now and then one comes too many.
    """

    def __init__(
        self, slots: int, window: int, prepare_thread: Callable[[], None], max_threads: int | None = None
    ) -> None:
        self.slots = slots
        self.window = window
        self._functions = FunctionBook()
        self._tasks: weakref.WeakKeyDictionary[Future[Any], Task] = weakref.WeakKeyDictionary()
        self._waiting: deque[tuple[Future[Any], Task | Exception]] = deque()
        self._n_working = 0
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)
        self._here = threading.local()
        self._closed = False
        self._resized: list[weakref.WeakMethod[Callable[[], None]]] = []
        # It ends its threads when this object is gone, and finishes what was submitted when Python exits.
        self._threads = ThreadPoolExecutor(max_threads or _MAX_THREADS, type(self).__name__, initializer=prepare_thread)

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

        Where thousands of tasks wait already, this waits until there is room; never in a callback of a future.
        """
        return self._submit(1.0, fn, args, kwargs)

    def submit_within(self, factor: float, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The same for a call that may take ``factor`` times as long as others, where these have a time limit."""
        return self._submit(factor, fn, args, kwargs)

    def _submit(
        self, factor: float, fn: Callable[..., T], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Future[T]:
        what: Task | Exception
        try:
            with self._lock:
                function = self._functions.pickled(fn)
            what = Task(function, dump_arguments(fn, args, kwargs), factor)
        except Exception as error:
            what = error
        future: Future[T] = Future()
        with self._lock:
            while len(self._waiting) >= _MAX_WAITING and not self._closed and not self._is_own_thread:
                self._room.wait()
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._n_working < self.window:
                self._start_worker()
            self._waiting.append((future, what))
            if isinstance(what, Task):
                self._tasks[future] = what
        return future

    def on_resize(self, callback: Callable[[], None]) -> None:
        """Have a method called, in some thread, when ``slots`` and ``window`` change, as long as its object lives."""
        self._resized.append(weakref.WeakMethod(callback))

    def cancel(self, future: Future[Any]) -> None:
        """Cancel a task; one that runs is killed, and its future then raises `TaskCancelled`."""
        if future.cancel():
            return
        with self._lock:
            task = self._tasks.get(future)
            if task is not None and not future.done():
                task.cancelled = True
                threading.Thread(target=self._interrupt_until_gone, args=(task,), daemon=True).start()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, let those submitted finish (or cancel those that wait), then let go of everything."""
        with self._lock:
            self._closed = True
            self._room.notify_all()
            dropped = [future for future, _ in self._waiting] if cancel_futures else []
            if cancel_futures:
                self._waiting.clear()
        for future in dropped:
            future.cancel()
            future.set_running_or_notify_cancel()  # tells those who wait for it
        self._threads.shutdown(wait=False)
        if wait:
            self._threads.shutdown(wait=True)
            self._release()
        else:
            threading.Thread(target=self.shutdown, name=f"{type(self).__name__}-shutdown").start()

    def _resize(self, slots: int, window: int) -> None:
        """Change how many tasks run and are in flight."""
        with self._lock:
            if (slots, window) == (self.slots, self.window):
                return
            self.slots, self.window = slots, window
            if not self._closed:
                for _ in range(min(window - self._n_working, len(self._waiting))):
                    self._start_worker()
        for reference in self._resized:
            if (callback := reference()) is not None:
                callback()

    @property
    def _is_own_thread(self) -> bool:
        return getattr(self._here, "working", False)

    def _start_worker(self) -> None:
        self._threads.submit(_work, self)
        self._n_working += 1

    def _next(self) -> tuple[Future[Any], Task | Exception] | None:
        """What a thread does next; None for nothing, and the thread is no worker any more."""
        with self._lock:
            while self._waiting and (self._n_working <= self.window or self._closed):
                future, what = self._waiting.popleft()
                self._room.notify()
                if future.set_running_or_notify_cancel():
                    return future, what
            self._n_working -= 1
            return None

    def _settle(self, future: Future[Any], what: Task | Exception) -> None:
        try:
            result = self._run(what)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        finally:
            with self._lock:
                self._tasks.pop(future, None)
            del self, future, what  # an exception's traceback would keep them

    def _run(self, what: Task | Exception) -> Any:
        if isinstance(what, Exception):
            raise what
        task = what
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

    def _interrupt_until_gone(self, task: Task) -> None:
        # What comes before the task has really begun is lost, so it is said until the task has ended.
        while True:
            with self._lock:
                if not task.running:
                    return
            with contextlib.suppress(Exception):  # Spark's JVM may be gone, which ends the task too
                self._interrupt(task)
            time.sleep(INTERRUPT_EVERY_S)

    def _rest(self) -> None:
        """Get this thread ready for its next task; called when the future of the last one is done."""

    def _release(self) -> None:
        """Let go of processes and files; called when no task is left, possibly more than once."""


def _work(executor: PooledExecutor) -> None:
    """Run task after task; a thread that has nothing to do keeps neither the executor nor a future alive."""
    executor._here.working = True
    while (item := executor._next()) is not None:
        try:
            executor._settle(*item)
            executor._rest()
        except BaseException:  # a callback of the future that exits, say; the thread has other tasks to run
            logger.critical("after a task", exc_info=True)
        del item
