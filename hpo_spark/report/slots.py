"""Which slot ran which trial, and how busy the slots were.

The journal knows host, start and duration of each trial, but no slots: trials are put side by side as tightly as they
fit, host by host. Hosts have clocks of their own, so what is said across hosts is as true as these agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from hpo_spark.trial import Trial

__all__ = ["Row", "Task", "busy_over_time", "rows_of"]

# Two trials in one slot may overlap by so many seconds: times are rounded, and the clocks of two processes differ.
_TOLERANCE_S = 0.05


@dataclass(frozen=True)
class Task:
    """A trial while it ran, or one of several tasks that it was, such as the folds of a cross-validation.

    Attributes:
        trial: The trial.
        started: Seconds since the epoch.
        seconds: How long it ran.
    """

    trial: Trial
    started: float
    seconds: float


@dataclass(frozen=True)
class Row:
    """One slot.

    Attributes:
        host: Where it is; empty where nobody knows.
        place: Counts from 0 on each host.
        tasks: What ran there, in the order of time: each a trial, or a task of one.
    """

    host: str
    place: int
    tasks: list[Task]


def rows_of(trials: Sequence[Trial]) -> list[Row]:
    """The fewest slots in which the trials fit that ran, host by host."""
    by_host: dict[str, list[Task]] = {}
    for host, task in _tasks_of(trials):
        by_host.setdefault(host, []).append(task)
    rows: list[Row] = []
    for host, ran in sorted(by_host.items()):
        own: list[Row] = []
        busy: list[tuple[float, int]] = []  # when it ends, and in which row
        free: list[int] = []
        for task in sorted(ran, key=lambda task: (task.started, task.trial.number)):
            while busy and busy[0][0] <= task.started + _TOLERANCE_S:
                heappush(free, heappop(busy)[1])
            if not free:
                own.append(Row(host, len(own), []))
                free.append(own[-1].place)
            place = heappop(free)
            own[place].tasks.append(task)
            heappush(busy, (task.started + task.seconds, place))
        rows += own
    return rows


def busy_over_time(trials: Sequence[Trial], n_bins: int) -> tuple[list[float], list[float]]:
    """How many slots ran something at a time, on average over each of so many equal spans.

    Args:
        trials: Those that ran are counted.
        n_bins: Spans from the first start to the last end.

    Returns:
        The middle of each span, in seconds since the epoch, and the average. Both are empty where no trial ran.
    """
    ran = [(task.started, task.started + task.seconds) for _, task in _tasks_of(trials)]
    if not ran:
        return [], []
    starts, ends = np.sort(np.array(ran), axis=0).T
    edges = np.linspace(starts[0], max(ends[-1], starts[0] + 1e-3), n_bins + 1)
    # The area under the number of trials that run, up to each edge: of each trial the part that has passed by then.
    passed = _passed(starts, edges) - _passed(ends, edges)
    return list((edges[:-1] + edges[1:]) / 2), list(np.diff(passed) / np.diff(edges))


def _tasks_of(trials: Sequence[Trial]) -> Iterator[tuple[str, Task]]:
    """All that ran, with its host.

    Trials that were trained together were in one slot, each for a share of the time: they are put end to end.
    """
    passed: dict[tuple[str, float], float] = {}
    for trial in trials:
        for host, started, seconds in trial.tasks:
            shift = 0.0
            if trial.group is not None:
                shift = passed.get((host, started), 0.0)
                passed[host, started] = shift + seconds
            yield host, Task(trial, started + shift, seconds)


def _passed(times: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The sum over all times of how long ago they are at each edge; those that are yet to come count nothing.

    Args:
        times: Ascending.
    """
    n_before = np.searchsorted(times, edges, side="right")
    sums = np.concatenate([[0.0], np.cumsum(times - edges[0])])
    result: np.ndarray = n_before * (edges - edges[0]) - sums[n_before]
    return result
