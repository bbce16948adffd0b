"""Whether a slow searcher keeps the slots busy: 200 trials of 1 s on 8 slots, and how soon 1,000 trials are restored.

    make bench-bayes                        the models of ``bayes``, a few minutes

The asks are made in a thread of the driver, beside the loop; the trials sleep, and take no core from them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import Executor
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.goals import Goal
from hpo_spark import Choice, Float, Int, ProcessExecutor, SearchSpace, SparkExecutor, Study, Trial, TrialState
from hpo_spark.searchers import make_searcher
from hpo_spark.session import open_session
from hpo_spark.versions import versions

MODELS = ("gp", "forest", "random_forest", "gbrt")
N_SLOTS, N_TRIALS, N_RESTORED = 8, 200, 1000
SPACE = SearchSpace(
    rate=Float(1e-4, 1e-1, log=True),
    momentum=Float(0.0, 0.99),
    dropout=Float(0.0, 0.6),
    layers=Int(1, 5),
    units=Int(5, 512, log=True),
    optimizer=Choice(["sgd", "adam", "rmsprop"]),
)


def distance(params: dict[str, Any]) -> float:
    """The squared distance from a point, in genes."""
    return float(sum((gene - 0.3) ** 2 for gene in SPACE.encode(params)))


def one_second(params: dict[str, Any]) -> float:
    """The same, after a second."""
    time.sleep(1.0)
    return distance(params)


def slot_use(searcher: dict[str, Any], executor: Executor) -> tuple[float, float]:
    """The share of the slots' time that trials ran, and the best value."""
    result = Study(SPACE, one_second, searcher, "minimize", 0).run(executor, N_TRIALS)
    return result.slot_use, result.best_trial.values[0] if result.best_trial.values else float("nan")


def seconds_to_restore(searcher: dict[str, Any]) -> float:
    """Until a fresh searcher knows a history and has made its next proposal."""
    history = []
    for number in range(N_RESTORED):
        params = SPACE.sample(number)
        history.append(Trial(number, params, 0, state=TrialState.COMPLETED, values=[distance(params)], seconds=1.0))
    begin = time.perf_counter()
    fresh = make_searcher(searcher, SPACE, ("minimize",), 0)
    fresh.restore(history)
    fresh.ask(1)
    return time.perf_counter() - begin


def main() -> None:
    """Measure each model and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    options = parser.parse_args()
    table = Table(title=f"bayes: {N_TRIALS} trials of 1 s, {N_SLOTS} slots", title_justify="left")
    for header in ("model", "slot use, processes", "slot use, Spark", "best value", f"s to restore {N_RESTORED}"):
        table.add_column(header, justify="right")
    goals: list[Goal] = []
    with (
        open_session("bench-bayes", f"local[{N_SLOTS}]") as session,
        SparkExecutor(session) as spark,
        ProcessExecutor(N_SLOTS) as processes,
    ):
        for model in options.models:
            searcher = {"name": "bayes", "model": model}
            by_processes, best = slot_use(searcher, processes)
            by_spark, _ = slot_use(searcher, spark)
            seconds = seconds_to_restore(searcher)
            table.add_row(model, f"{by_processes:.3f}", f"{by_spark:.3f}", f"{best:.2g}", f"{seconds:.2f}")
            goals.append(Goal(f"{model}: slot use, processes", by_processes, 0.8))
            goals.append(Goal(f"{model}: slot use, Spark", by_spark, 0.8))
            goals.append(Goal(f"{model}: seconds to restore {N_RESTORED}", seconds, 10, at_least=False, form=".2f"))
    console = Console(width=140)
    console.print(table)
    for goal in goals:
        console.print(str(goal), highlight=False)
    found = ", ".join(f"{name} {number}" for name, number in versions().items())
    console.print(f"{found}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", soft_wrap=True)
    if missed := [goal.what for goal in goals if not goal.met]:
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
