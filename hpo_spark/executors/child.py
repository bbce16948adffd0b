"""The trial process: what runs inside it.

It reads calls from a pipe, runs them one after the other and writes their outcomes back. It dies with its parent,
however the parent dies. After each call it puts back what the call changed in the process.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any

import psutil

from hpo_spark import output
from hpo_spark.executors.hygiene import Snapshot
from hpo_spark.executors.memory import trim_heap
from hpo_spark.executors.outcome import Outcome, call, failure_of
from hpo_spark.executors.tree import MARK, kill_marked, pidfd_of
from hpo_spark.garbage import freeze_new_modules
from hpo_spark.pickling import MAX_FRESH_BYTES, loads
from hpo_spark.role import become_worker, begin_attempt
from hpo_spark.signals import signal_when_parent_ends

__all__ = ["STARTED", "FunctionCache", "extend_path", "main"]

# What the trial process answers first: everything is loaded, and the call begins.
STARTED = "started"


class FunctionCache:
    """The last few functions of a worker process, by the digest of their pickle.

    Args:
        size: How many are kept.
        fresh: Unpickle a small function anew each time.
    """

    def __init__(self, size: int = 4, fresh: bool = False) -> None:
        self._known: OrderedDict[str, bytes | Callable[..., Any]] = OrderedDict()
        self._size = size
        self._max_fresh = MAX_FRESH_BYTES if fresh else 0

    def get(self, key: str, blob: bytes | None) -> Callable[..., Any]:
        """The function of this key, unpickled from ``blob`` the first time.

        Raises:
            KeyError: If it is not here and no ``blob`` came with it.
        """
        if key not in self._known:
            if blob is None:
                raise KeyError(key)
            self._known[key] = blob if len(blob) <= self._max_fresh else loads(blob)
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        known = self._known[key]
        function: Callable[..., Any] = loads(known) if isinstance(known, bytes) else known
        return function


def extend_path(entries: Iterable[str]) -> None:
    """Make importable what the driver can import, where it is at the same place here; own entries go first."""
    sys.path += [entry for entry in entries if entry not in sys.path]


def main(descriptor: int, parent: int, folder: str) -> None:
    """Serve calls until the parent closes the pipe.

    Args:
        descriptor: Open file descriptor of this end of the pipe.
        parent: Process id of the parent, to notice one that died before this process could ask for its signal.
        folder: For the temporary files of this process; removed when it has ended.
    """
    _leave_nothing_behind(descriptor, folder)
    _die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to answer
    become_worker()
    output.begin()
    functions = FunctionCache(fresh=True)
    with Connection(descriptor) as pipe:
        while True:
            try:
                key, blob, path, arguments, n_lost = loads(pipe.recv_bytes())
            except EOFError:
                return
            extend_path(path)
            begin_attempt(n_lost)
            outcome, before = _serve(functions, key, blob, arguments, lambda: pipe.send(STARTED))
            output.flush()
            pipe.send(outcome)
            del outcome
            if before is not None:
                before.restore()
            trim_heap()
            freeze_new_modules()


def _serve(
    functions: FunctionCache, key: str, blob: bytes | None, arguments: bytes, started: Callable[[], None]
) -> tuple[Outcome | None, Snapshot | None]:
    """The outcome of one call, announced when it begins, and how the process was before it.

    No outcome asks for the function's pickle.
    """
    try:
        function = functions.get(key, blob)
    except KeyError as error:
        if blob is None:
            return None, None
        return failure_of(error, "The function cannot be loaded on the worker: "), None
    except BaseException as error:
        return failure_of(error, "The function cannot be loaded on the worker: "), None
    try:
        args, kwargs = loads(arguments)
    except BaseException as error:
        return failure_of(error, "The arguments cannot be loaded on the worker: "), None
    before = Snapshot()  # after the imports that the function brought
    started()
    return call(function, *args, **kwargs), before


def _die_with_parent(parent: int) -> None:
    signal_when_parent_ends(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    if sys.platform != "linux":
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


def _leave_nothing_behind(descriptor: int, folder: str) -> None:
    """Fork a guardian that outlives this process, then kills whatever it started and removes its temporary files.

    The supervisor does the same while it lives; but Spark ends a cancelled task's worker with SIGKILL. The guardian is
    a grandchild whose parent has ended, so that a task that waits for all its children does not wait for this one.
    """
    trial_process, its_end = os.getpid(), pidfd_of(os.getpid())
    if (parent_of_guardian := os.fork()) > 0:
        os.waitpid(parent_of_guardian, 0)
        if its_end is not None:
            os.close(its_end)
        return
    if os.fork() > 0:
        os._exit(0)
    os.close(descriptor)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if its_end is None:
        while psutil.pid_exists(trial_process):
            time.sleep(0.5)
    else:
        ended = select.poll()
        ended.register(its_end, select.POLLIN)
        ended.poll()
    kill_marked(os.environ.get(MARK, ""))
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpgid(0), signal.SIGKILL)  # this process too


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
