"""What an exception of Spark means: its tasks here always succeed, so it is about Spark itself or its machines."""

from __future__ import annotations

import re
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING

from hpo_spark.errors import TaskCancelled, TaskNotRun

if TYPE_CHECKING:
    from pyspark import SparkContext

__all__ = ["JobLost", "check_alive", "explain", "first_lines", "missing_module"]


class JobLost(Exception):
    """Spark gave a job up because executors or workers were lost under it.

    Args:
        message: What Spark said.
        n_attempts: How often it had begun the job's task.
    """

    def __init__(self, message: str, n_attempts: int) -> None:
        super().__init__(message)
        self.n_attempts = n_attempts


def explain(error: Exception, group: str) -> TaskCancelled | TaskNotRun | JobLost:
    """Why a job failed.

    Args:
        error: Py4j's, or what pyspark made of it.
        group: The job's group, for the message.
    """
    text = f"{getattr(error, 'java_exception', error)} {type(error).__name__}"
    if re.search(r"\bcancell?ed\b", text.partition("\n")[0]):  # Spark 3 has no SPARK_JOB_CANCELLED
        return TaskCancelled(f"was cancelled at Spark: {first_lines(error)}")
    if (missing := missing_module(text)) is not None:
        return TaskNotRun(
            f"The Python of the workers has no {missing!r}. Have it travel with the submission (make dist, then "
            "--py-files hpo_spark.zip, or --archives environment.tar.gz#environment), or install it on all hosts."
        )
    if "PythonException" in text or "maxResultSize" in text or "spark.rpc.message.maxSize" in text:
        return TaskNotRun(f"Spark could not run the job {group}: {first_lines(error, 40)}")
    failed = re.search(r"failed (\d+) times", text)
    return JobLost(first_lines(error), int(failed[1]) if failed else 1)


def check_alive(context: SparkContext) -> None:
    """See that a session can still be used.

    Raises:
        BrokenExecutor: If it was stopped, or its JVM is gone.
    """
    from py4j.protocol import Py4JError

    try:
        stopped = context._jsc is None or context._jsc.sc().isStopped()
    except (Py4JError, OSError) as error:
        raise BrokenExecutor(f"Spark's JVM on the driver does not answer any more: {error}") from error
    if stopped:
        raise BrokenExecutor("The Spark session was stopped while the executor was using it.")


def missing_module(text: str) -> str | None:
    """The package that a worker could not import when it loaded a task; None where that was not the trouble."""
    found = re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", text)
    return found[1].partition(".")[0] if found else None


def first_lines(error: Exception, n_lines: int = 3) -> str:
    """What a Java error says in its first lines, without its stack."""
    lines = str(getattr(error, "java_exception", error)).splitlines()[:n_lines]
    kept = [line for line in lines if line.strip() and not line.strip().startswith("at ")]
    return ("\n" if n_lines > 3 else " ").join(kept)
