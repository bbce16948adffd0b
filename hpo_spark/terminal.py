"""What all commands share: exit codes, what a user can mend as one message, and where they write."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from typing import ParamSpec

import typer
from rich.console import Console

from hpo_spark.errors import (
    ConfigError,
    DataError,
    EnvironmentProblem,
    FolderInUse,
    MissingExtra,
    StorageError,
    TaskNotPicklable,
)

__all__ = ["FINISHED", "INTERRUPTED", "NONE_SUCCEEDED", "WRONG", "as_command", "open_console"]

FINISHED, WRONG, NONE_SUCCEEDED, INTERRUPTED = 0, 2, 3, 75

_WIDTH_OF_FILES = 200

P = ParamSpec("P")


def as_command(function: Callable[P, int]) -> Callable[P, None]:
    """A function that returns an exit code as a command: it turns what a user can mend into one message."""

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        errors = open_console(stderr=True)
        try:
            code = function(*args, **kwargs)
        except (FolderInUse, StorageError) as error:
            errors.print(f"hpo-spark: {error}", markup=False, soft_wrap=True, style="red")
            code = INTERRUPTED
        except (ConfigError, DataError, EnvironmentProblem, MissingExtra, TaskNotPicklable) as error:
            errors.print(f"hpo-spark: {error}", markup=False, soft_wrap=True, style="red")
            code = WRONG
        except BrokenExecutor as error:
            say = f"hpo-spark: {error}\nWhat has ended is kept; go on with hpo-spark resume, or run it with --resume."
            errors.print(say, markup=False, soft_wrap=True, style="red")
            code = INTERRUPTED
        except KeyboardInterrupt:
            errors.print("hpo-spark: interrupted.")
            code = INTERRUPTED
        raise typer.Exit(code)

    return command


def open_console(stderr: bool = False) -> Console:
    """Where to write; a log file or a pipe has no width, so tables there are as wide as they like."""
    console = _Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH_OF_FILES
    return console


class _Console(Console):
    """A console whose reader may leave, as ``head`` does: the search goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
