"""A task of Spark's, as a function over record batches: what ``mapInArrow`` runs on a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hpo_spark.executors.supervisor import Function
from hpo_spark.pickling import dumps

__all__ = ["ANSWER", "ArrowTask", "InlineFunction"]

ANSWER = "answer"


@dataclass(frozen=True)
class InlineFunction:
    """A function that travels inside its task: Connect has no broadcasts."""

    value: Function


class ArrowTask:
    """Runs a task over a partition, and answers with one row for each of its answers.

    Args:
        task: What is to be run; called with the partition.
    """

    def __init__(self, task: Callable[[Iterator[Any]], Iterator[Any]]) -> None:
        self._task = task

    def __call__(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The rows: a column of pickles."""
        import pyarrow as pa

        for answer in self._task(batches):
            yield pa.record_batch([pa.array([dumps(answer)], pa.binary())], names=[ANSWER])
