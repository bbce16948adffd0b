"""How a call ended, in values that any process can unpickle: an exception travels with its text, and may be lost."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpo_spark.errors import HpoSparkError, RemoteTraceback, TaskTimeout, WorkerCrashed
from hpo_spark.pickling import dump_item, dumps, load_item

__all__ = ["Failure", "Outcome", "Success", "call", "failure_of", "unwrap"]


@dataclass(frozen=True)
class Success:
    """What a call returned, as `dump_item` writes it."""

    item: Any


@dataclass(frozen=True)
class Failure:
    """What a call raised.

    Attributes:
        summary: The exception's type and message.
        traceback: The worker's traceback as text; empty where there is none.
        exception: The pickled exception, where it survives that.
    """

    summary: str
    traceback: str = ""
    exception: bytes | None = None


Outcome = Success | Failure


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Outcome:
    """Call a function and catch what it raises, `SystemExit` and its like included."""
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        return failure_of(error)
    try:
        return Success(dump_item(result))
    except Exception as error:
        return failure_of(error, f"The result, a {type(result).__name__}, cannot be sent back: ")


def failure_of(error: BaseException, prefix: str = "") -> Failure:
    """Describe an exception so that the description always arrives."""
    try:
        text = "".join(traceback.format_exception(error))
        summary = "".join(traceback.format_exception_only(error)).strip()
    except Exception:  # an exception whose own __str__ raises
        text = summary = type(error).__name__
    try:
        pickled = dumps(error)
        pickle.loads(pickled)  # classes with required arguments pickle well and cannot be loaded
    except Exception:
        return Failure(prefix + summary, text)
    return Failure(prefix + summary, text, pickled)


def unwrap(outcome: Outcome) -> Any:
    """Return what the call returned, or raise what it raised.

    Raises:
        BaseException: The worker's exception with its traceback as the cause, or `RemoteError` with its text where the
            exception itself cannot be had.
    """
    if isinstance(outcome, Success):
        return load_item(outcome.item)
    raise error_of(outcome)


def error_of(failure: Failure) -> BaseException:
    """The exception to raise for a failure."""
    error: BaseException
    try:
        error = pickle.loads(failure.exception) if failure.exception else RemoteError(failure.summary)
    except Exception:  # its class exists on the worker only
        error = RemoteError(failure.summary)
    if failure.traceback:
        error.__cause__ = RemoteTraceback(failure.traceback)
    return error


class RemoteError(HpoSparkError, RuntimeError):
    """Stands for a worker's exception that cannot be pickled; the message names its type."""


def timed_out(limit_s: float) -> Failure:
    """The failure of a task that was killed at its time limit."""
    return failure_of(TaskTimeout(limit_s))


def crashed(cause: str, output: str) -> Failure:
    """The failure of a task whose process died; ``output`` is the end of what it printed."""
    tail = f" The end of its output:\n{output}" if output else ""
    return failure_of(WorkerCrashed(f"The process of the task died: {cause}.{tail}"))
