"""How a call ended, in values that any process can unpickle: an exception travels with its text, and may be lost."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hpo_spark.errors import HpoSparkError, RemoteTraceback
from hpo_spark.pickling import dump_item, dumps, load_item

__all__ = [
    "Failure",
    "Outcome",
    "Report",
    "Success",
    "call",
    "dump_arguments",
    "error_of",
    "failure_of",
    "report_of",
    "reported",
    "unwrap",
]

E = TypeVar("E", bound=BaseException)


@dataclass(frozen=True)
class Report:
    """What a supervisor knows of a call that failed.

    Attributes:
        host: Name of the worker's host.
        started: When the call was taken up there, seconds since the epoch.
        seconds: How long it ran.
        n_lost: How often it had been begun before, on executors that were lost.
        output: What it had printed.
        spans: Where it was several calls: host, start and seconds of each; empty where it was one.
    """

    host: str
    started: float
    seconds: float
    n_lost: int = 0
    output: str = ""
    spans: tuple[tuple[str, float, float], ...] = ()


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
        report: Where and how long the call ran; None where nobody watched it.
    """

    summary: str
    traceback: str = ""
    exception: bytes | None = None
    report: Report | None = None


Outcome = Success | Failure


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Outcome:
    """Call a function and catch what it raises, `SystemExit` and its like included."""
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        return failure_of(error)
    try:
        return Success(dump_item(result))
    except BaseException as error:  # a class may do anything when it is pickled
        return failure_of(error, f"The result, a {type(result).__name__}, cannot be sent back: ")


def dump_arguments(args: tuple[Any, ...]) -> Any:
    """A call's arguments as `dump_item` writes them, or the `Failure` that stands for them where they cannot be."""
    try:
        return dump_item(args)
    except Exception as error:
        return failure_of(error, "The item cannot be sent to a worker: ")


def failure_of(error: BaseException, prefix: str = "") -> Failure:
    """Describe an exception so that the description always arrives."""
    try:
        text = "".join(traceback.format_exception(error))
        summary = "".join(traceback.format_exception_only(error)).strip()
    except Exception:  # an exception whose own __str__ raises
        text = summary = type(error).__name__
    if prefix:
        error.add_note(prefix.strip(": "))
    try:
        pickled = dumps(error)
        pickle.loads(pickled)  # classes with required arguments pickle well and cannot be loaded
    except BaseException:
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
    return error if failure.report is None else reported(error, failure.report)


def reported(error: E, report: Report) -> E:
    """The exception, with what is known of its call."""
    with contextlib.suppress(AttributeError):  # a class that takes no attributes
        error.__dict__["_hpo_spark_report"] = report
    return error


def report_of(error: BaseException) -> Report | None:
    """What is known of the call that an executor raised this for; None for nothing."""
    report = getattr(error, "_hpo_spark_report", None)
    return report if isinstance(report, Report) else None


class RemoteError(HpoSparkError, RuntimeError):
    """Stands for a worker's exception that cannot be pickled; the message names its type."""
