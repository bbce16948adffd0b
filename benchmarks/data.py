"""What data costs: memory of the workers of a host, and a million rows from Spark and from Parquet.

    make bench-data                         some minutes; HPO_SPARK_DATA names the folder that holds mnist.npz

MNIST as float32 is trained on by one and by two workers, once from the cache of the host, and once by a function that
loads it in each process. What a process keeps to itself is its anonymous memory; the rest is the system's page cache,
which all share. The same with a hundredth of the rows tells what is not data.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.goals import Goal
from hpo_spark import Dataset, DataSource, Float, KerasObjective, ProcessExecutor, SearchSpace, SparkExecutor, Study
from hpo_spark.config import parse_study_file
from hpo_spark.data.columns import import_arrow
from hpo_spark.executors.memory import anonymous_mb
from hpo_spark.objectives.mlp import build_model
from hpo_spark.session import open_session
from hpo_spark.versions import versions

SPACE = SearchSpace(learning_rate=Float(1e-3, 1e-1, log=True))
N_ROWS, N_COLUMNS = 1_000_000, 20


class Measured(KerasObjective):
    """Says what memory its process has after a training."""

    def __call__(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        """Train, then look."""
        outcome = super().__call__(params, context)
        memory = psutil.Process().memory_full_info()
        return outcome | {
            "pid": os.getpid(),
            "rss": memory.rss / 1e6,
            "pss": memory.pss / 1e6,
            "anonymous": anonymous_mb(os.getpid()),
        }


class LoadEach:
    """A loading function, which each process calls for itself.

    Args:
        path: An ``.npz`` file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> Any:
        """The arrays."""
        with np.load(self.path) as archive:
            return {name: archive[name] for name in archive.files}


def write_mnist(folder: Path) -> tuple[Path, Path, float]:
    """MNIST as float32, whole and a hundredth of it, and the MB of the whole."""
    source = DataSource.of("mnist")
    source.prepare()
    dataset = source.load(0)
    paths, total = [], 0
    for name, share in (("mnist", 1), ("little", 100)):
        parts = {"train": dataset.train, "val": dataset.validation, "test": dataset.test}
        arrays: dict[str, Any] = {}
        for part, rows in parts.items():
            assert rows is not None
            arrays |= {f"x_{part}": rows.inputs()[::share], f"y_{part}": rows.y[::share]}
        total = max(total, sum(array.nbytes for array in arrays.values()))
        np.savez(folder / f"{name}.npz", **arrays)
        paths.append(folder / f"{name}.npz")
    return paths[0], paths[1], total / 1e6


def memory_of(data: Any, executor: Executor, workers: int) -> list[dict[str, float]]:
    """For each process, what it said after its last trial."""
    objective = Measured(build_model, data, epochs=1)
    result = Study(SPACE, objective, "random", seed=0).run(executor, 3 * workers)
    if failed := [trial.error for trial in result.trials if trial.error]:
        sys.exit(failed[0])
    last = {trial.metrics["pid"]: trial.metrics for trial in result.trials}
    return list(last.values())


@contextmanager
def stage(kind: str, workers: int, folder: Path) -> Iterator[Executor]:
    """Processes, or one executor of one core for each worker, all on this host."""
    if kind == "processes":
        with ProcessExecutor(workers) as processes:
            yield processes
        return
    os.environ["SPARK_HOME"] = str(linked_home(folder / "spark-home"))
    with open_session("bench-data", f"local-cluster[{workers},1,1024]") as session, SparkExecutor(session) as executor:
        while executor.n_executors < workers:
            time.sleep(0.1)
        executor._look(at_once=True)
        yield executor


def linked_home(folder: Path) -> Path:
    """A Spark home of links to the real one: local-cluster writes a folder into it."""
    import pyspark

    if folder.exists():
        return folder
    folder.mkdir()
    for entry in Path(pyspark.__file__).parent.iterdir():
        if entry.name not in ("work", "__pycache__"):
            (folder / entry.name).symlink_to(entry)
    return folder


def bench_memory(console: Console, folder: Path) -> list[Goal]:
    """The table of memory."""
    whole, little, size = write_mnist(folder)
    table = Table(title=f"MNIST as float32, {size:.0f} MB: memory in MB after a training", title_justify="left")
    for header in (
        "stage",
        "workers",
        "data",
        "resident, each",
        "proportional, sum",
        "anonymous, each",
        "copies of the data",
    ):
        table.add_column(header, justify="left" if header in ("stage", "data") else "right")
    goals = []
    for kind in ("processes", "local-cluster"):
        for workers in (1, 2):
            with stage(kind, workers, folder) as executor:
                for name, make in (("in the host's cache", str), ("loaded by each", LoadEach)):
                    base = memory_of(make(little), executor, workers)
                    found = memory_of(make(whole), executor, workers)
                    anonymous = [one["anonymous"] for one in found]
                    copies = (sum(anonymous) - sum(one["anonymous"] for one in base)) / size
                    table.add_row(
                        kind,
                        str(len(found)),
                        name,
                        " ".join(f"{one['rss']:.0f}" for one in found),
                        f"{sum(one['pss'] for one in found):.0f}",
                        " ".join(f"{mb:.0f}" for mb in anonymous),
                        f"{copies:.2f}",
                    )
                    if make is str:
                        what = f"{kind}, {workers} worker(s): copies of the data beyond the page cache"
                        goals.append(Goal(what, copies, 1.0, at_least=False, form=".2f"))
    console.print(table)
    return goals


def bench_rows(console: Console, folder: Path) -> list[Goal]:
    """A million rows, read by the executors from Parquet, and collected from a DataFrame."""
    table = Table(title=f"{N_ROWS:,} rows of {N_COLUMNS} numeric columns, 2 executors, 4 trials", title_justify="left")
    for header in ("data", "s to prepare", "s of the search", "best val_accuracy", "driver's peak grew by MB"):
        table.add_column(header, justify="left" if header == "data" else "right")
    goals = []
    import_arrow("This benchmark")
    with stage("local-cluster", 2, folder) as executor:
        # What libraries take is no data.
        Study(SPACE, KerasObjective(build_model, "digits", epochs=1), seed=0).run(executor, 4)
        from pyspark.sql import SparkSession
        from pyspark.sql import functions as F  # noqa: N812

        spark = SparkSession.builder.getOrCreate()
        names = [f"c{number}" for number in range(N_COLUMNS)]
        frame = spark.range(N_ROWS).select(*[F.rand(seed).alias(name) for seed, name in enumerate(names)])
        frame = frame.withColumn("y", (F.col("c0") + F.col("c1") > 1).cast("int"))
        frame.write.parquet(str(folder / "rows.parquet"))
        text = (
            "study: {seed: 0}\n"
            "space: {learning_rate: {float: [1.0e-3, 1.0e-1], log: true}}\n"
            "objective: {keras: hpo_spark.objectives.mlp:build_model, epochs: 1, batch_size: 256,\n"
            f"  data: {{parquet: rows.parquet, features: [{', '.join(names)}], label: y}}}}\n"
        )

        def by_parquet() -> Study:
            return parse_study_file(text.encode(), folder / "study.yaml").study(None)

        def by_frame() -> Study:
            data = Dataset.from_spark(frame, names, "y")
            return Study(SPACE, KerasObjective(build_model, data, epochs=1, batch_size=256), seed=0)

        for name, make in (("Parquet path in a study file", by_parquet), ("DataFrame", by_frame)):
            before, clock = _peak_mb(), time.perf_counter()
            study = make()
            prepared = time.perf_counter()
            result = study.run(executor, 4)
            searched = time.perf_counter()
            if result.best_trial is None:
                sys.exit(str(result.first_cause()))
            seconds = prepared - clock, searched - prepared
            accuracy = result.best_trial.values[0] if result.best_trial.values else 0.0
            row = (f"{seconds[0]:.1f}", f"{seconds[1]:.1f}", f"{accuracy:.4f}", f"{_peak_mb() - before:.0f}")
            table.add_row(name, *row)
            goals.append(Goal(f"{name}: val_accuracy", accuracy, 0.95))
    console.print(table)
    return goals


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Measure both and print tables."""
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as folder:
        goals = [*bench_rows(console, Path(folder)), *bench_memory(console, Path(folder))]
    for goal in goals:
        console.print(str(goal), highlight=False)
    found = ", ".join(f"{name} {number}" for name, number in versions().items())
    console.print(f"{found}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", soft_wrap=True)
    if missed := [goal.what for goal in goals if not goal.met]:
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
