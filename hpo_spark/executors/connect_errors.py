"""What an exception of Spark Connect means: its tasks here always succeed, so it is about Spark or its machines."""

from __future__ import annotations

import platform
import re
from concurrent.futures import BrokenExecutor

from hpo_spark.errors import TaskCancelled, TaskNotRun
from hpo_spark.executors.spark_errors import JobLost, first_lines, missing_module

__all__ = ["explain"]

# The session, or the server with all its sessions, is no more.
_GONE = (
    "NO_ACTIVE_SESSION",
    "SESSION_CLOSED",
    "SESSION_NOT_FOUND",
    "SESSION_CHANGED",
    "SparkContext was shut down",
    "stopped SparkContext",
    "StatusCode.UNAVAILABLE",
    "RETRIES_EXCEEDED",
    "on closed channel",
)
# What another attempt would come to as well.
_FINAL = ("PythonException", "maxResultSize", "spark.rpc.message.maxSize", "StatusCode.RESOURCE_EXHAUSTED")


def explain(error: Exception, tag: str) -> TaskCancelled | TaskNotRun | JobLost | BrokenExecutor:
    """Why an operation failed.

    Args:
        error: The client's.
        tag: The operation's tag, for the message.
    """
    text = f"{error} {type(error).__name__}"
    if any(word in text for word in _GONE):
        return BrokenExecutor(
            f"The Spark Connect session has ended, or its server does not answer any more: {first_lines(error)}"
        )
    if "OPERATION_CANCELED" in text or "OPERATION_ABANDONED" in text or re.search(r"\bcancell?ed\b", text):
        return TaskCancelled(f"was cancelled at Spark: {first_lines(error)}")
    if "PYTHON_VERSION_MISMATCH" in text:
        found = re.search(r"Python in worker has different version:? (\S+)", text)
        return TaskNotRun(
            f"The server's workers run Python {found[1].rstrip('.,') if found else 'of another version'}, this program "
            f"Python {'.'.join(platform.python_version_tuple()[:2])}, and Spark sends no functions from one to the "
            "other: start the server with PYSPARK_PYTHON naming a Python of this version, or this program with theirs."
        )
    if (module := missing_module(str(error))) is not None:
        return TaskNotRun(
            f"The Python of the server's workers lacks the module {module!r}: install hpo_spark there, with what it "
            "needs, or start the server with PYSPARK_PYTHON naming a Python that has it."
        )
    if any(word in text for word in _FINAL):
        return TaskNotRun(f"Spark could not run the operation {tag}: {first_lines(error, 40)}")
    failed = re.search(r"failed (\d+) times", text)
    if failed is None:
        return TaskNotRun(f"Spark refused the operation {tag}: {first_lines(error)}")
    return JobLost(first_lines(error), int(failed[1]))
