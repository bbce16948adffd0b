"""What the executors of this package share: the small optional powers beyond ``concurrent.futures``.

A study works with any `concurrent.futures.Executor`. Where an executor has them, it also uses ``slots`` (how many tasks
run at once), ``window`` (how many to keep in flight), ``cancel`` (end a task that already runs), ``drop`` (cancel
those that were handed on but do not run yet), ``share`` (have tasks find a file wherever they run) and
``submit_within`` (give a task a multiple of the time that others have).
"""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from hashlib import blake2b
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from hpo_spark.executors.shared import LocalPath, Shared
from hpo_spark.executors.supervisor import Function, Isolation
from hpo_spark.pickling import dump_task

__all__ = [
    "FunctionBook",
    "can_share",
    "cancel_task",
    "check_isolation",
    "check_limits",
    "drop_tasks",
    "executors_of",
    "fill_on_hosts",
    "memory_of",
    "prestart",
    "share_files",
    "slots_of",
    "submit_within",
    "unshare_files",
    "watch_size",
    "window_of",
]


T = TypeVar("T")


def slots_of(executor: Executor) -> int:
    """How many tasks an executor runs at once; for an unknown one, its number of workers or 1."""
    slots = getattr(executor, "slots", None) or getattr(executor, "_max_workers", None)
    return slots if isinstance(slots, int) else 1


def executors_of(executor: Executor) -> int:
    """How many executor processes a cluster has; 1 where there is none."""
    n_executors = getattr(executor, "n_executors", None)
    return n_executors if isinstance(n_executors, int) else 1


def prestart(executor: Executor) -> None:
    """Have an executor start its processes, without waiting for them, where it can."""
    start = getattr(executor, "prestart", None)
    if callable(start):
        start()


def window_of(executor: Executor) -> int:
    """How many tasks to keep in flight; where an executor does not say, as many as it has slots."""
    window = getattr(executor, "window", None)
    return window if isinstance(window, int) else slots_of(executor)


def memory_of(executor: Executor) -> float | None:
    """The memory that a task may use, in MB of 10^6 bytes; None for no limit, or none that is known."""
    memory_mb = getattr(executor, "memory_mb", None)
    return None if memory_mb is None else float(memory_mb)


def submit_within(executor: Executor, factor: float, function: Callable[..., T], *args: Any) -> Future[T]:
    """Submit a task that may take ``factor`` times as long as the executor's others, where these have a limit."""
    submit = getattr(executor, "submit_within", None)
    if callable(submit):
        future: Future[T] = submit(factor, function, *args)
        return future
    return executor.submit(function, *args)


def cancel_task(executor: Executor, future: Future[Any]) -> None:
    """Cancel a task: before it starts with any executor, while it runs where the executor can do that."""
    if not future.cancel():
        cancel = getattr(executor, "cancel", None)
        if callable(cancel):
            cancel(future)


def drop_tasks(executor: Executor, futures: Sequence[Future[Any]]) -> list[Future[Any]]:
    """Cancel those tasks that do not run yet, and say which."""
    drop = getattr(executor, "drop", None)
    if callable(drop):
        dropped: list[Future[Any]] = drop(futures)
        return dropped
    return [future for future in futures if future.cancel()]


def share_files(executor: Executor, path: Path, owner: str) -> Shared | None:
    """A handle of a file, or a folder of files, that resolves on the workers.

    Args:
        executor: Where tasks run.
        path: What they will map.
        owner: The name in which `unshare_files` takes it back.

    Returns:
        None where workers are this process, or may run anywhere.
    """
    share = getattr(executor, "share", None)
    if callable(share):
        shared: Shared = share(path, owner)
        return shared
    return LocalPath(path) if isinstance(executor, ProcessPoolExecutor) else None


def can_share(executor: Executor) -> bool:
    """Whether `share_files` answers with a handle."""
    return callable(getattr(executor, "share", None)) or isinstance(executor, ProcessPoolExecutor)


def fill_on_hosts(executor: Executor, owner: str, fill: Callable[[], object]) -> None:
    """Have trial processes fill the caches of their hosts before their first tasks, until `unshare_files`.

    With an executor that cannot do that, tasks do it themselves.

    Args:
        executor: Where tasks run.
        owner: In whose name they do it.
        fill: Fills the cache of the host that it runs on, unless it is filled.
    """
    tell = getattr(executor, "fill_on_hosts", None)
    if callable(tell):
        tell(owner, fill)


def unshare_files(executor: Executor, owner: str) -> None:
    """Remove what an owner shares from the hosts of the workers."""
    unshare = getattr(executor, "unshare", None)
    if callable(unshare):
        unshare(owner)


def watch_size(executor: Executor, callback: Callable[[], None]) -> None:
    """Have a method called, in some thread, when an executor's slots and window change; never where they cannot."""
    on_resize = getattr(executor, "on_resize", None)
    if callable(on_resize):
        on_resize(callback)


def check_isolation(isolation: str) -> Isolation:
    """The isolation, or `ValueError` for an unknown one."""
    if isolation not in get_args(Isolation):
        raise ValueError(f"isolation must be one of {list(get_args(Isolation))}, got isolation={isolation!r}.")
    return cast(Isolation, isolation)


_COUNTS = ("slots", "cpus", "chunksize")


def check_limits(**limits: float | None) -> None:
    """Raise `ValueError` for a limit that is given and not above 0, and for a count that is no whole number."""
    for name, value in limits.items():
        kind, words = (Integral, "a whole number") if name in _COUNTS else (Real, "a number")
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind) or not value > 0):
            raise ValueError(f"{name} must be {words} above 0, or None for the default, got {name}={value!r}.")


class FunctionBook:
    """Pickles each function once, and remembers it by identity as long as somebody else keeps it.

    A function is taken as it is when it is first seen: what its closure holds must not change between submissions.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], Function]] = {}
        # Equal pickles are one function: bound methods are new objects at each look.
        self._by_key: weakref.WeakValueDictionary[str, Function] = weakref.WeakValueDictionary()

    def pickled(self, function: Callable[..., Any]) -> Function:
        """The function as it travels.

        Raises:
            TaskNotPicklable: Names what cannot travel.
        """
        known = self._known.get(id(function))
        if known is not None and known[0]() is function:
            return known[1]
        return self.pickled_anew(function)

    def pickled_anew(self, function: Callable[..., Any]) -> Function:
        """The function as it is now; the same object as last time where nothing has changed."""
        blob = dump_task(function)
        key = blake2b(blob, digest_size=16).hexdigest()
        fresh = self._by_key.get(key)
        if fresh is None:
            path = tuple(os.path.abspath(entry) for entry in sys.path)
            fresh = self._by_key[key] = Function(key, blob, path)
        identity, known = id(function), self._known
        with contextlib.suppress(TypeError):  # it takes no weak reference
            known[identity] = weakref.ref(function, lambda _: known.pop(identity, None)), fresh
        return fresh

    def clear(self) -> None:
        """Forget every function."""
        self._known.clear()
