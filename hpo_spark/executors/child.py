"""The trial process: what runs inside it.

It reads calls from a pipe, runs them one after the other and writes their outcomes back. Functions are kept, so that
one that was sent once is not sent or unpickled again. It dies with its parent, however the parent dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any

from hpo_spark import output
from hpo_spark.executors.outcome import Outcome, call, failure_of
from hpo_spark.pickling import loads
from hpo_spark.role import become_worker

__all__ = ["STARTED", "FunctionCache", "extend_path", "main"]

_PR_SET_PDEATHSIG = 1

# What the trial process answers first: everything is loaded, and the call begins.
STARTED = "started"


class FunctionCache:
    """The last few functions of a worker process, by the digest of their pickle."""

    def __init__(self, size: int = 4) -> None:
        self._functions: OrderedDict[str, Callable[..., Any]] = OrderedDict()
        self._size = size

    def get(self, key: str, blob: bytes | None) -> Callable[..., Any]:
        """The function of this key, unpickled from ``blob`` the first time.

        Raises:
            KeyError: If it is not here and no ``blob`` came with it.
        """
        if key not in self._functions:
            if blob is None:
                raise KeyError(key)
            self._functions[key] = loads(blob)
            if len(self._functions) > self._size:
                self._functions.popitem(last=False)
        self._functions.move_to_end(key)
        return self._functions[key]


def extend_path(entries: Iterable[str]) -> None:
    """Make importable what the driver can import, where it is at the same place here; own entries go first."""
    sys.path += [entry for entry in entries if entry not in sys.path]


def main(descriptor: int, parent: int) -> None:
    """Serve calls until the parent closes the pipe.

    Args:
        descriptor: Open file descriptor of this end of the pipe.
        parent: Process id of the parent, to notice one that died before this process could ask for its signal.
    """
    _die_with_parent(parent)
    _leave_nobody_behind(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to answer
    become_worker()
    output.begin()
    functions = FunctionCache()
    frozen = False
    with Connection(descriptor) as pipe:
        while True:
            try:
                key, blob, path, arguments = loads(pipe.recv_bytes())
            except EOFError:
                return
            extend_path(path)
            outcome = _serve(functions, key, blob, arguments, lambda: pipe.send(STARTED))
            output.flush()
            pipe.send(outcome)
            if not frozen:
                # TensorFlow alone is some 10^6 objects: without this each full collection costs 0.2 s of CPU.
                gc.collect()
                gc.freeze()
                frozen = True


def _serve(
    functions: FunctionCache, key: str, blob: bytes | None, arguments: bytes, started: Callable[[], None]
) -> Outcome | None:
    """The outcome of one call, announced when it begins; None asks for the function's pickle."""
    try:
        function = functions.get(key, blob)
    except KeyError as error:
        return None if blob is None else failure_of(error, "The function cannot be loaded on the worker: ")
    except BaseException as error:
        return failure_of(error, "The function cannot be loaded on the worker: ")
    try:
        args, kwargs = loads(arguments)
    except BaseException as error:
        return failure_of(error, "The arguments cannot be loaded on the worker: ")
    started()
    return call(function, *args, **kwargs)


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    if sys.platform != "linux":
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


def _leave_nobody_behind(descriptor: int) -> None:
    """Fork a guardian that outlives this process and then kills whatever it started.

    The supervisor does the same while it lives; but Spark ends a cancelled task's worker with SIGKILL.
    """
    trial_process = os.getpid()
    if os.fork() > 0:
        return
    os.close(descriptor)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.getppid() == trial_process:
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(ProcessLookupError):
                select.select([os.pidfd_open(trial_process)], [], [])
        else:
            time.sleep(0.5)
    os.killpg(os.getpgid(0), signal.SIGKILL)  # this process too


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
