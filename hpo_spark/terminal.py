"""What all commands share: exit codes, what a user can mend as one message, and where they write."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor
from typing import ParamSpec

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.logging import RichHandler
from rich.segment import Segment
from rich.text import Text

from hpo_spark.errors import (
    ConfigError,
    DataError,
    EnvironmentProblem,
    MissingExtra,
    StorageError,
    TaskNotPicklable,
)

__all__ = ["FINISHED", "INTERRUPTED", "NONE_SUCCEEDED", "WRONG", "as_command", "log_to", "open_console"]

FINISHED, WRONG, NONE_SUCCEEDED, INTERRUPTED = 0, 2, 3, 75

_WIDTH_OF_FILES = 200
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabulators and ends of lines

P = ParamSpec("P")


def as_command(function: Callable[P, int]) -> Callable[P, None]:
    """A function that returns an exit code as a command: it turns what a user can mend into one message."""

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        errors = open_console(stderr=True)
        try:
            code = function(*args, **kwargs)
        except (ConfigError, DataError, EnvironmentProblem, MissingExtra, TaskNotPicklable) as error:
            errors.print(f"hpo-spark: {error}", markup=False, soft_wrap=True, style="red")
            code = WRONG
        except StorageError as error:
            errors.print(f"hpo-spark: {error}", markup=False, soft_wrap=True, style="red")
            code = INTERRUPTED
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


def log_to(console: Console) -> None:
    """Show this package's log lines."""
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_level=False, markup=False)
    else:
        handler = logging.StreamHandler(console.file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("hpo_spark")
    for old in logger.handlers[:]:
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)


class _Console(Console):
    """A console whose reader may leave, as ``head`` does: the search goes on.

    Names and messages come from anywhere: a control character in them is shown, and changes nothing in the terminal.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        if isinstance(renderable, Text) and _CONTROL.search(renderable.plain):
            renderable = renderable.copy()
            renderable.plain = _CONTROL.sub(lambda match: _picture(match[0]), renderable.plain)
        return super().render(renderable, options)

    def on_broken_pipe(self) -> None:
        self.quiet = True


def _picture(control: str) -> str:
    """A character that stands for a control character: of the same length, so that styles stay where they are."""
    code = ord(control)
    return (
        chr(0x2400 + code) if code < 0x20 else "\N{SYMBOL FOR DELETE}" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"
    )
