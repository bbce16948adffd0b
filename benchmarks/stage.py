"""This stage and its peers: the same trials on the same slots in the same run.

    make bench-stage                        all of them, some twenty minutes on two cores
    python -m benchmarks.stage --quick      fewer trials, a few minutes
    make bench-scale                        1,000 trials of 2 s on 64 slots of Spark
    make bench-flat                         the driver's memory over 100,000 submissions

Each row runs in a process and a Spark session of its own, in which every worker has imported TensorFlow before the
clock runs. The Keras trial builds a small model and trains it until it has used one second of CPU, so its ideal is
bound by the cores. Slot use is the ideal time over the measured.

What a trial costs beyond itself: Spark's scheduling of its job, which the window of two jobs a slot hides; 40 ms until
Linux acknowledges a piece of what Spark sends, unless it is told to do so at once, as the stage does; PySpark's
collection of garbage after each task, of 20 ms in a worker that has imported this package, which `gc.freeze` spares it
(`hpo_spark.garbage`); and some milliseconds of pickling and pipes on either side.

SparkTrials cannot be warm: its tasks leave their input unread, so Spark does not use their Python worker again, and
each trial has a fresh one. Its no-op and sleeping trials run without TensorFlow, which is in its favour. It runs all
trials of 0.5 s, for its two loops that each look once a second drift against each other, and few trials would not tell
its rate.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import peers
from benchmarks.goals import Goal
from hpo_spark import SparkExecutor
from hpo_spark.session import open_session
from hpo_spark.versions import versions

CORES = os.cpu_count() or 1
MIB = 2**20


def load(_: Any) -> bool:
    """Import TensorFlow and hold the slot a while, so that every slot gets a call; whether it was not there yet."""
    cold = "tensorflow" not in sys.modules
    import tensorflow  # noqa: F401

    time.sleep(1.5)
    return cold


def nothing(_: Any) -> None:
    """A no-op."""


def sleep_half(_: Any) -> None:
    """Sleep 0.5 s."""
    time.sleep(0.5)


def sleep_two(_: Any) -> None:
    """Sleep 2 s."""
    time.sleep(2)


def train(_: Any) -> float:
    """Build a small Keras model and train it until one second of CPU has passed; its last loss."""
    import keras
    import numpy as np

    end = time.process_time() + 1.0
    keras.utils.clear_session()
    x = np.random.default_rng(0).normal(size=(1024, 32)).astype("float32")
    y = (x.sum(axis=1) > 0).astype("float32")
    model = keras.Sequential([keras.layers.Dense(32, activation="relu"), keras.layers.Dense(1, activation="sigmoid")])
    model.compile(optimizer="sgd", loss="binary_crossentropy")
    loss, start = 0.0, 0
    while time.process_time() < end:
        loss = float(model.train_on_batch(x[start : start + 32], y[start : start + 32]))
        start = (start + 32) % len(x)
    return loss


def square(number: int) -> int:
    """A cheap item."""
    return number * number


@dataclass(frozen=True)
class Timing:
    """How long some trials took.

    Attributes:
        n: Trials.
        ideal_s: Seconds that they must take.
        seconds: Wall time of each repeat.
    """

    n: int
    ideal_s: float
    seconds: list[float]

    @property
    def wall_s(self) -> float:
        """The median of the repeats."""
        return statistics.median(self.seconds)

    @property
    def use(self) -> float:
        """Slot use: ideal over wall."""
        return self.ideal_s / self.wall_s

    @property
    def trial_s(self) -> float:
        """Wall time over trials."""
        return self.wall_s / self.n


@dataclass(frozen=True)
class Column:
    """One kind of trial.

    Attributes:
        function: What is called.
        seconds: What a trial takes alone.
        cells: Headers, and how each is written from a timing.
        share: Trials of it for each of ``--trials``.
        whole: Whether slow peers run all its trials too.
        on_cores: Whether trials compete for cores rather than for slots.
    """

    function: Callable[[Any], Any]
    seconds: float
    cells: dict[str, Callable[[Timing], str]]
    share: float = 1
    whole: bool = False
    on_cores: bool = False

    def ideal_s(self, n: int, slots: int) -> float:
        """Wall time of ``n`` trials if nothing but the trials took any."""
        return n * self.seconds / (min(slots, CORES) if self.on_cores else slots)


def _use(timing: Timing) -> str:
    return f"{timing.use:.2f}"


COLUMNS = {
    "nothing": Column(nothing, 0, {"no-op, ms a trial": lambda timing: f"{1000 * timing.trial_s:.1f}"}),
    "half": Column(
        sleep_half, 0.5, {"0.5 s, wall s": lambda timing: f"{timing.wall_s:.1f}", "slot use": _use}, whole=True
    ),
    "two": Column(sleep_two, 2, {"2 s, slot use": _use}),
    "keras": Column(train, 1, {"Keras, core use": _use}, share=0.25, on_cores=True),
    "items": Column(square, 0, {"items a second": lambda timing: f"{1 / timing.trial_s:,.0f}"}),
}


@dataclass(frozen=True)
class Row:
    """One way to run trials.

    Attributes:
        name: How the table calls it.
        open: Its context manager.
        repeated: Whether its times are medians of ``--repeats``.
        warm: Whether workers keep what they have imported.
        at_most: Most trials of a column that need not be whole, for what would take too long.
        items: How many cheap items.
    """

    name: str
    open: peers.Opener
    repeated: bool = False
    warm: bool = True
    at_most: int | None = None
    items: int = 0

    def trials(self, column: Column, wanted: int) -> int:
        """How many trials of a column to run where ``--trials`` is what is wanted."""
        n = int(wanted * column.share)
        return n if self.at_most is None or column.whole else min(n, self.at_most)


ROWS = {
    "submit": Row("SparkExecutor.submit", peers.spark_submit, repeated=True),
    "connect": Row("ConnectExecutor", peers.connect_submit, repeated=True, items=100_000),
    "map": Row("SparkExecutor.map", peers.spark_map, repeated=True, items=500_000),
    "processes": Row("ProcessExecutor", peers.processes, repeated=True),
    "hyperopt": Row("hyperopt SparkTrials", peers.spark_trials, warm=False, at_most=24),
    "joblib": Row("joblib-spark", peers.joblib_spark, items=100_000),
    "tutorial": Row("the tutorials' map", peers.tutorial, items=500_000),
}

Timings = dict[str, dict[str, Timing]]


def measure(row: Row, options: argparse.Namespace) -> dict[str, Timing]:
    """Time a row's columns in this process."""
    found = {}
    with row.open(options.slots) as stage:
        if row.warm:
            warm_up(stage, options.slots)
        stage.run(nothing, options.slots)
        for name in options.columns:
            column = COLUMNS[name]
            run = stage.items if name == "items" else stage.run
            n = row.items if name == "items" else row.trials(column, options.trials)
            if run is not None:
                seconds = [_time(run, column.function, n) for _ in range(options.repeats if row.repeated else 1)]
                found[name] = Timing(n, column.ideal_s(n, options.slots), seconds)
    return found


def warm_up(stage: peers.Stage, slots: int) -> None:
    """Have every worker import TensorFlow; ends with a round in which all had it already."""
    for _ in range(5):
        if not any(stage.run(load, 2 * slots)):
            return
    raise RuntimeError("The workers do not stay warm: each round of trials found some without TensorFlow.")


def _time(run: peers.Run, function: peers.Function, n: int) -> float:
    begin = time.perf_counter()
    results = run(function, n)
    seconds = time.perf_counter() - begin
    assert len(results) == n
    return seconds


def measure_apart(name: str, options: argparse.Namespace) -> dict[str, Timing] | None:
    """Time a row's columns in a fresh process, so that no row finds what another has left; None if that failed."""
    words = [f"--{key}={getattr(options, key)}" for key in ("slots", "trials", "repeats")]
    settings = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as folder:
        result, log = Path(folder, "result.json"), Path(folder, "log")
        command = [sys.executable, "-m", "benchmarks.stage", "--row", name, "--json", str(result), *words]
        with log.open("wb") as output:
            code = subprocess.run(
                [*command, "--columns", *options.columns], stdout=output, stderr=output, env=settings, check=False
            ).returncode
        if code != 0:
            print(f"{name} ended with code {code}:\n{log.read_text()[-3000:]}", file=sys.stderr)
            return None
        return {column: Timing(**timing) for column, timing in json.loads(result.read_text()).items()}


def table_of(timings: Timings, options: argparse.Namespace) -> Table:
    """Rows by columns, the ideal last."""
    table = Table(
        title=f"{options.slots} slots, TensorFlow imported, workers warm",
        caption="A Keras trial: 1 s of CPU. SparkTrials: a fresh worker for each trial, TensorFlow for Keras only.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("")
    columns = {name: COLUMNS[name] for name in options.columns}
    for header in [header for column in columns.values() for header in column.cells]:
        table.add_column(header, justify="right")
    table.add_column("trials", justify="right")
    for name, row in timings.items():
        found = [row.get(name) for name in columns]
        repeats = options.repeats if ROWS[name].repeated else 1
        counts = ", ".join(f"{timing.n:,}" if timing else "-" for timing in found)
        table.add_row(ROWS[name].name, *_cells(columns.values(), found), f"{repeats} x ({counts})")
    ideal = []
    for name, column in columns.items():
        n = int(options.trials * column.share)
        timing = Timing(n, column.ideal_s(n, options.slots), [column.ideal_s(n, options.slots)])
        ideal.append(None if name == "items" else timing)
    table.add_section()
    table.add_row("the ideal", *_cells(columns.values(), ideal), "")
    return table


def _cells(columns: Iterable[Column], timings: Iterable[Timing | None]) -> list[str]:
    return [
        "-" if timing is None else write(timing)
        for column, timing in zip(columns, timings, strict=True)
        for write in column.cells.values()
    ]


def goals_of(timings: Timings) -> list[Goal]:
    """The goals whose figures were measured."""
    submit, map_, peer = (timings.get(name, {}) for name in ("submit", "map", "hyperopt"))
    goals = []
    if "half" in submit:
        goals.append(Goal("slot use of submit, trials of 0.5 s", submit["half"].use, 0.90))
    if "two" in submit:
        goals.append(Goal("slot use of submit, trials of 2 s", submit["two"].use, 0.97))
    if "nothing" in submit and "nothing" in peer:
        # Of trials that sleep 0.5 s, 8 slots cannot run more than 16 a second, whatever runs them.
        ratio = peer["nothing"].trial_s / submit["nothing"].trial_s
        goals.append(Goal("throughput of submit over SparkTrials', no-op trials", ratio, 20, form=".1f"))
    if "nothing" in submit:
        milliseconds = 1000 * submit["nothing"].trial_s
        goals.append(Goal("no-op through submit, ms of wall time", milliseconds, 20, at_least=False, form=".1f"))
    if "items" in map_:
        goals.append(Goal("cheap items through map, a second", 1 / map_["items"].trial_s, 100_000, form=",.0f"))
    return goals


def compare(console: Console, options: argparse.Namespace) -> list[Goal]:
    """Print the table."""
    timings, failed = {}, []
    with Console(stderr=True).status("") as status:
        for name in options.rows:
            status.update(ROWS[name].name)
            row = measure_apart(name, options)
            timings[name] = row or {}
            if row is None:
                failed.append(Goal(f"runs of {ROWS[name].name}", 0, 1, form=".0f"))
    console.print(table_of(timings, options))
    return [*goals_of(timings), *failed]


def scale(console: Console) -> list[Goal]:
    """Keep 64 slots busy; without TensorFlow, which 64 processes of one machine have no memory for."""
    slots, n = 64, 1000
    with peers.spark_submit(slots) as stage:
        stage.run(lambda _: time.sleep(1), 2 * slots)
        seconds = _time(stage.run, lambda _: time.sleep(2), n)
    console.print(f"{n:,} trials of 2 s on {slots} slots: {seconds:.1f} s, ideal {n * 2 / slots:.1f} s")
    return [Goal(f"slot use of submit, {slots} slots", n * 2 / slots / seconds, 0.90)]


def flat(console: Console, slots: int, n: int) -> list[Goal]:
    """Submit no-ops, all at once, and watch the memory of the driver's Python and of its JVM."""
    table = Table(title=f"Memory of the driver over {n:,} submissions", title_justify="left")
    for header in ("trials done", "Python, MiB", "JVM's heap, MiB"):
        table.add_column(header, justify="right")
    samples = []
    with open_session("bench", f"local[{slots}]") as spark, SparkExecutor(spark) as executor:
        done = threading.Semaphore(0)

        def submit(count: int) -> None:
            for _ in range(count):
                executor.submit(int).add_done_callback(lambda _: done.release())

        def wait(count: int) -> None:
            for _ in range(count):
                done.acquire()

        # Spark itself remembers the last 1,000 jobs.
        submit(1500)
        wait(1500)
        feeder = threading.Thread(target=submit, args=(n,))
        for step in range(11):
            samples.append((_anonymous_mib(), _heap_mib(spark)))
            table.add_row(f"{step * n // 10:,}", *(f"{mib:.0f}" for mib in samples[-1]))
            if step == 0:
                feeder.start()
            if step < 10:
                wait((step + 1) * n // 10 - step * n // 10)
    console.print(table)
    return [
        Goal(f"growth of {what}, MiB", max(series) - series[0], 50, at_least=False, form=".0f")
        for what, series in zip(("Python", "the JVM's heap"), zip(*samples, strict=True), strict=True)
    ]


def _anonymous_mib() -> float:
    """Memory of this process that no file backs."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def _heap_mib(spark: Any) -> float:
    """What is left on the JVM's heap after a collection."""
    java = spark.sparkContext._jvm.java.lang
    java.System.gc()
    return java.management.ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed() / MIB


def main() -> None:
    """Print the table, or one of the two other figures, and the goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=8, help="slots of each row (default 8)")
    parser.add_argument("--trials", type=int, default=160, help="trials that sleep (default 160)")
    parser.add_argument("--repeats", type=int, default=3, help="repeats of our rows, of which the median (default 3)")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument(
        "--columns", nargs="+", default=list(COLUMNS), choices=COLUMNS, metavar="COLUMN", help=", ".join(COLUMNS)
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the trials, once")
    parser.add_argument("--scale", action="store_true", help="instead: 1,000 trials of 2 s on 64 slots")
    parser.add_argument("--flat", type=int, nargs="?", const=100_000, help="instead: memory over so many submissions")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.trials, options.repeats = options.trials // 5, 1
    if options.row:
        timings = measure(ROWS[options.row], options)
        options.json.write_text(json.dumps({column: asdict(timing) for column, timing in timings.items()}))
        return

    console = Console(width=160)
    machine = f"{CORES} cores, {platform.system()} {platform.machine()}, load {os.getloadavg()[0]:.1f} at the start"
    if options.scale:
        goals = scale(console)
    elif options.flat:
        goals = flat(console, options.slots, options.flat)
    else:
        goals = compare(console, options)
    for goal in goals:
        console.print(str(goal), highlight=False)
    found = versions()
    for name in ("hyperopt", "joblibspark", "joblib"):
        with contextlib.suppress(PackageNotFoundError):  # without the extra our own rows run all the same
            found[name] = version(name)
    console.print(", ".join(f"{name} {number}" for name, number in found.items()) + f"; {machine}")
    if missed := [goal.what for goal in goals if not goal.met]:
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
