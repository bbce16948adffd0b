"""What a task leaves behind in its process is put back before the next: one trial must not change another.

A function that travels by value brings its global variables along anew for each call (see `child`). Here is the rest:
environment, working folder, import path, warnings, signal handlers, and the variables of the user's own modules that
were loaded before the call, with the content of their lists, dicts and sets. What lies deeper, as in an object's
attributes, is out of reach; `isolation="trial"` gives each trial a process of its own.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import random
import re
import signal
import site
import sys
import sysconfig
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

from hpo_spark.keras_state import reset_keras

__all__ = ["Snapshot"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)
_PACKAGE_FOLDERS = tuple(
    {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    }
)
_INSTALLED = re.compile(r"[\\/](site|dist)-packages[\\/]")


class Snapshot:
    """The state of this process before a call."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._folder = _folder()
        self._path, self._argv = list(sys.path), list(sys.argv)
        self._streams = sys.stdout, sys.stderr
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._filters = list(warnings.filters)
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        self._variables = {module: _variables_of(module) for module in _modules_of_user()}

    def restore(self) -> None:
        """Put everything back; what cannot be is left."""
        actions: list[Callable[[], None]] = [
            self._restore_environment,
            self._restore_interpreter,
            self._restore_signals,
            *(functools.partial(_restore_module, module, *state) for module, state in self._variables.items()),
            _reseed,
            reset_keras,
        ]
        for action in actions:
            with contextlib.suppress(Exception):  # whatever a task did to its process, the next one is served
                action()
        gc.collect()

    def _restore_environment(self) -> None:
        if dict(os.environ) != self._environment:
            for name in set(os.environ) - set(self._environment):
                del os.environ[name]
            os.environ.update(self._environment)
        os.umask(self._umask)
        if self._folder is not None:
            os.chdir(self._folder)

    def _restore_interpreter(self) -> None:
        sys.path[:], sys.argv[:] = self._path, self._argv
        sys.stdout, sys.stderr = self._streams
        if warnings.filters != self._filters:
            warnings.filters[:] = self._filters  # type: ignore[index]
            warnings._filters_mutated()  # type: ignore[attr-defined]

    def _restore_signals(self) -> None:
        signal.alarm(0)
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # somebody has removed it
        return None


def _reseed() -> None:
    """Seed the global generators from the system's entropy: neither a task's seed nor its draws come again."""
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def _restore_module(module: ModuleType, variables: dict[str, Any], contents: list[tuple[Any, Any]]) -> None:
    for name in set(vars(module)) - set(variables):
        # A submodule stays imported, and so must its name: another import would not set it again.
        if sys.modules.get(f"{module.__name__}.{name}") is not vars(module)[name]:
            delattr(module, name)
    vars(module).update(variables)
    for container, content in contents:
        container.clear()
        if isinstance(container, list):
            container.extend(content)
        else:
            container.update(content)


# The user's modules among the first so many of this process: to look through thousands takes milliseconds.
_known: tuple[int, list[ModuleType]] = 0, []


def _modules_of_user() -> list[ModuleType]:
    """Modules that are neither Python's, nor installed, nor this package's."""
    global _known
    if len(sys.modules) != _known[0]:
        modules = list(sys.modules.items())
        _known = len(modules), [module for name, module in modules if _is_users(name, module)]
    return _known[1]


def _is_users(name: str, module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return (
        isinstance(module, ModuleType)
        and isinstance(file, str)
        and file.endswith(".py")
        and not file.startswith(_PACKAGE_FOLDERS)
        # Nor installed for another interpreter, whose packages are on the path too.
        and not _INSTALLED.search(file)
        and name.partition(".")[0] not in ("hpo_spark", "__main__", "__mp_main__")
    )


def _variables_of(module: ModuleType) -> tuple[dict[str, Any], list[tuple[Any, Any]]]:
    variables = dict(vars(module))
    contents = [
        (value, value.copy())
        for name, value in variables.items()
        if type(value) in (list, dict, set) and not name.startswith("__")
    ]
    return variables, contents
