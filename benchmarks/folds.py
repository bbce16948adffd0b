"""The folds of a cross-validation side by side: seconds of a search on one slot and on two.

    make bench-folds
    python -m benchmarks.folds --executors processes --trials 1 3 --rounds 5

Each trial cross-validates a random forest with 5 folds on the digits, some seconds of work on one core, and a trial
that leads fits one more forest, to keep. One and two slots take turns, and each has run a trial before, so that nothing
is imported or started meanwhile. Both have the same trials with the same values, which is checked.

With ``--work sleep`` a fit sleeps for a second instead: what remains is the stage's own, whoever else uses the cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier

from hpo_spark import Float, Int, ProcessExecutor, SearchSpace, SklearnObjective, SparkExecutor, Study
from hpo_spark.session import open_session
from hpo_spark.versions import versions

GOAL = 1.7
SLOTS = (1, 2)
SPACE = SearchSpace(n_estimators=Int(250, 350), max_features=Float(0.1, 0.3))
# Rows that a fit of one second has, four fifths of the digits that are not the test part.
_ROWS_A_SECOND = 1150


class Sleeper(DummyClassifier):
    """A forest that takes its time, and does nothing else."""

    def __init__(self, n_estimators: int = 300, max_features: float = 0.2, random_state: int | None = None) -> None:
        super().__init__(random_state=random_state)
        self.n_estimators, self.max_features = n_estimators, max_features

    def fit(self, x: Any, y: Any, sample_weight: Any = None) -> Sleeper:
        """Sleep, as long as there are rows."""
        time.sleep(len(x) / _ROWS_A_SECOND)
        return super().fit(x, y, sample_weight)


WORK = {"forest": RandomForestClassifier, "sleep": Sleeper}


def search(executor: Executor, work: str, n_trials: int) -> tuple[float, Any]:
    """Seconds of a search, and its trials."""
    objective = SklearnObjective(WORK[work], "digits", cv=5, scoring="accuracy")
    study = Study(SPACE, objective, "random", seed=7)
    began = time.perf_counter()
    result = study.run(executor, n_trials)
    seconds = time.perf_counter() - began
    if result.counts != {"COMPLETED": n_trials}:
        sys.exit(f"trials failed: {result.first_cause()}")
    return seconds, [(trial.number, trial.params, trial.values) for trial in result.trials]


@contextmanager
def executors(kind: str) -> Iterator[dict[int, Executor]]:
    """One executor for each number of slots; on Spark they share a session of two cores."""
    with ExitStack() as stack:
        if kind == "processes":
            yield {slots: stack.enter_context(ProcessExecutor(slots)) for slots in SLOTS}
            return
        spark = stack.enter_context(open_session("folds", "local[2]"))
        yield {slots: stack.enter_context(SparkExecutor(spark, slots=slots)) for slots in SLOTS}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--executors", nargs="+", default=["spark", "processes"], choices=["spark", "processes"])
    parser.add_argument("--trials", nargs="+", type=int, default=[1, 3], help="trials of a search")
    parser.add_argument("--work", default="forest", choices=WORK, help="what a fit does")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    arguments = parser.parse_args()

    table = Table(title="5 folds a trial, seconds (median)", title_justify="left")
    for header in ("executor", "trials", "1 slot", "2 slots", "times as fast (range)"):
        table.add_column(header, justify="left" if header == "executor" else "right")
    missed = []
    for kind in arguments.executors:
        with executors(kind) as by_slots:
            for executor in by_slots.values():
                search(executor, arguments.work, 1)
            for n_trials in arguments.trials:
                seconds: dict[int, list[float]] = {slots: [] for slots in SLOTS}
                for _ in range(arguments.rounds):
                    found = {slots: search(executor, arguments.work, n_trials) for slots, executor in by_slots.items()}
                    for slots in SLOTS:
                        seconds[slots].append(found[slots][0])
                    if sorted(found[1][1]) != sorted(found[2][1]):
                        sys.exit(f"one and two slots differ: {found[1][1]}, {found[2][1]}")
                ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
                ratio = statistics.median(ratios)
                medians = [f"{statistics.median(seconds[slots]):.2f}" for slots in SLOTS]
                spread = f"{ratio:.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
                table.add_row(kind, str(n_trials), *medians, spread)
                if ratio < GOAL:
                    missed.append(f"{kind}, {n_trials} trial(s): {ratio:.2f}")
    console = Console(width=120)
    console.print(table)
    console.print(", ".join(f"{name} {number}" for name, number in versions().items()), soft_wrap=True)
    console.print(f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, {arguments.rounds} rounds")
    if missed:
        sys.exit(f"below {GOAL} times as fast: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
