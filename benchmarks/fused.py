"""Small models trained together as one program, against the same trained one by one, and against a tutorial's loop.

    make bench-fused                           forty minutes; HPO_SPARK_DATA names the folder of mnist.npz
    python -m benchmarks.fused --part grid     one part
    python -m benchmarks.fused --quick         one epoch, and small samples
    python -m benchmarks.fused --part search --seeds 19 20    searches with other seeds

grid      the 54 points of ``conf/mnist_grid.yaml`` on ``local[2]``: seconds from the first submission to the last
          result, cold (a new session and new worker processes) and warm (after a search of the same kind with other
          seeds); the tutorial's loop, ``Model.fit`` in two processes, on a sample of the points; and the CPU seconds of
          the trial processes beside what the arithmetic alone would take, by the rate of a matrix product
search    the default searcher, on the same space and on one of the same ranges without steps: seconds to the best
          accuracy that both ways reach, medians of some seeds; in workers that have begun such a search before
large     models that are too large to gain, and some that are nearly so: seconds of a search with and without fusing

In `large` ways take turns. A loop's seconds are those of the sample, for each trial, times 54 over two processes.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.goals import Goal
from benchmarks.training import Plain
from hpo_spark import Callback, Choice, Float, KerasObjective, ProcessExecutor, SearchSpace, SparkExecutor, Study, Trial
from hpo_spark.config import read_study_file
from hpo_spark.objectives.evaluate import Evaluation
from hpo_spark.objectives.mlp import build_model
from hpo_spark.session import open_session
from hpo_spark.versions import versions

GRID = Path(__file__).parents[1] / "conf" / "mnist_grid.yaml"
PICTURE = Path(__file__).parent / "results" / "fused.png"
SLOTS = 2
N_POINTS = 54
SEED = 7
SEEDS = (7, 8, 9, 10, 11, 12, 13, 14, 15)
WAYS = ("auto", "off")
WARM_UP = 20
# The grid's ranges as a space that no search of this length exhausts.
WITHOUT_STEPS = {"space.hidden_units": "{int: [5, 15]}", "space.learning_rate": "{float: [1.0e-3, 0.1], log: true}"}
# Of the grid's points, numbers of those that the tutorial's loop trains: of each depth and optimizer, and all rates.
SAMPLE = (1, 10, 22, 29, 39, 52)
# Figures that are asked for.
AGAINST_LOOP, AGAINST_UNFUSED, SAME_BEST, AGAINST_ARITHMETIC, TOO_LARGE = 20.0, 5.0, 0.003, 4.0, 1.05


class Clock(Callback):
    """When trials were submitted and ended."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.ended: list[tuple[float, Trial]] = []

    def on_trial_start(self, study: Study, trial: Trial) -> None:
        """A trial is being submitted."""
        self.began = self.began or time.perf_counter()

    def on_trial_end(self, study: Study, trial: Trial) -> None:
        """A trial has ended."""
        self.ended.append((time.perf_counter(), trial))

    @property
    def seconds(self) -> float:
        """From the first submission to the last result."""
        return self.ended[-1][0] - (self.began or 0.0)

    def seconds_to(self, value: float) -> float:
        """From the first submission to the first result that is as good."""
        return next(at for at, trial in self.ended if (trial.value or -np.inf) >= value) - (self.began or 0.0)

    @property
    def best(self) -> float:
        """The best value."""
        return max(trial.value for _, trial in self.ended if trial.value is not None)


@dataclass
class Run:
    """One search.

    Attributes:
        clock: Its trials, with their times.
        cpu_s: CPU seconds of the trial processes.
    """

    clock: Clock
    cpu_s: float


def search(
    executor: Executor,
    fuse: str,
    seed: int,
    epochs: int,
    searcher: str | None,
    max_trials: int | None,
    space: Mapping[str, str] | None = None,
) -> Run:
    """Run a search of the grid's space, or of one that differs."""
    overrides = {"study.seed": seed, "objective.epochs": epochs, **(space or {})}
    file = read_study_file(GRID, [f"{key}={value}" for key, value in overrides.items()])
    clock = Clock()
    study = Study(
        file.space,
        file.objective,
        searcher or "grid",
        "maximize",
        seed,
        callbacks=[clock],
        fixed=file.model.fixed,
        fuse=fuse,
    )
    before = _cpu_of_trial_processes()
    study.run(executor, max_trials)
    if failed := [trial for _, trial in clock.ended if trial.value is None]:
        sys.exit(f"{len(failed)} trials failed, the first with: {failed[0].error}")
    return Run(clock, _cpu_of_trial_processes() - before)


def _cpu_of_trial_processes() -> float:
    """CPU seconds so far of the Python processes below this one; they live through all searches of a session."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            if "python" in process.name():
                times = process.cpu_times()
                total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total


@contextmanager
def stage() -> Iterator[SparkExecutor]:
    """A new session on ``local[2]``."""
    with open_session("fused", f"local[{SLOTS}]") as spark, SparkExecutor(spark) as executor:
        yield executor


def measure_grid(epochs: int, sample: Sequence[int], goals: list[Goal]) -> tuple[Table, dict[str, float]]:
    """The whole grid, each way, cold and warm; the loop on a sample; the arithmetic."""
    cold: dict[str, Run] = {}
    warm: dict[str, Run] = {}
    for fuse in WAYS:
        with stage() as executor:
            cold[fuse] = search(executor, fuse, SEED + 1, epochs, None, None)
            warm[fuse] = search(executor, fuse, SEED, epochs, None, None)
    loop_s, loop_cpu_s = _time_loop(epochs, sample)
    rate = _flop_rate()
    limit_s = _flops([trial for _, trial in warm["auto"].clock.ended], epochs) / rate
    fused, alone = warm["auto"], warm["off"]
    made = Table(title=f"The 54-point grid on MNIST, {epochs} epochs, local[{SLOTS}]", title_justify="left")
    for header in ("way", "seconds, warm", "cold", "CPU s, warm", "best validation accuracy"):
        made.add_column(header, justify="left" if header == "way" else "right")
    for fuse, label in zip(WAYS, ("fused", "one by one"), strict=True):
        made.add_row(
            label,
            f"{warm[fuse].clock.seconds:.1f}",
            f"{cold[fuse].clock.seconds:.1f}",
            f"{warm[fuse].cpu_s:.0f}",
            f"{warm[fuse].clock.best:.4f}",
        )
    made.add_row(f"Model.fit, 2 processes, from {len(sample)} of them", f"{loop_s:.0f}", "", f"{loop_cpu_s:.0f}", "")
    made.add_row(f"arithmetic, at {rate / 1e9:.0f} GFLOP/s", "", "", f"{limit_s:.1f}", "")
    goals += [
        Goal("grid: times faster than the tutorial's loop", loop_s / fused.clock.seconds, AGAINST_LOOP, form=".1f"),
        Goal(
            "grid: times faster than one by one",
            alone.clock.seconds / fused.clock.seconds,
            AGAINST_UNFUSED,
            form=".1f",
        ),
        Goal("grid: best apart", abs(fused.clock.best - alone.clock.best), SAME_BEST, at_least=False, form=".4f"),
        Goal("grid: CPU against arithmetic", fused.cpu_s / limit_s, AGAINST_ARITHMETIC, at_least=False, form=".1f"),
    ]
    bars = {
        "Model.fit,\n2 processes": loop_s,
        "one by one": alone.clock.seconds,
        "fused, cold": cold["auto"].clock.seconds,
        "fused": fused.clock.seconds,
    }
    return made, bars


def _time_loop(epochs: int, sample: Sequence[int]) -> tuple[float, float]:
    """Seconds and CPU seconds that a tutorial's loop would take for all points in two processes, from a sample."""
    file = read_study_file(GRID, [])
    searcher_points = Study(file.space, file.objective, "grid", "maximize", SEED).searcher.ask(N_POINTS)
    points = [searcher_points[number].params for number in sample]
    with ProcessExecutor(SLOTS) as pool:
        evaluation = Evaluation(Plain(epochs), SEED, file.model.fixed, keeps_models=False)
        warm_up = Evaluation(Plain(1), SEED, file.model.fixed, keeps_models=False)
        for future in [pool.submit(warm_up, Trial(number, points[0], number)) for number in range(SLOTS)]:
            future.result()
        before = _cpu_of_trial_processes()
        trials = list(pool.map(evaluation, [Trial(number, point, number) for number, point in enumerate(points)]))
        cpu_s = _cpu_of_trial_processes() - before
    seconds = statistics.mean(evaluated.trial.seconds or 0.0 for evaluated in trials)
    return seconds * N_POINTS / SLOTS, cpu_s / len(points) * N_POINTS


def _flop_rate(n_inputs: int = 784, n_units: int = 270, batch: int = 32) -> float:
    """Operations a second of one core in the matrix products of a step's first layers, side by side; the best of some.

    These are most of the arithmetic, and as fast as batches of this size allow.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    x = tf.random.stateless_normal((batch, n_inputs), [1, 2])
    gradient = tf.random.stateless_normal((batch, n_units), [3, 4])
    n_steps, rates = 500, []

    @tf.function
    def steps(weights: Any) -> Any:
        def step(number: Any, weights: Any) -> tuple[Any, Any]:
            outputs = tf.matmul(x, weights)
            return number + 1, tf.matmul(x, outputs + gradient, transpose_a=True)

        return tf.while_loop(lambda number, _: number < n_steps, step, (0, weights), parallel_iterations=1)[1]

    weights = tf.zeros((n_inputs, n_units))
    steps(weights)
    for _ in range(5):
        begin = time.process_time()
        steps(weights).numpy()
        rates.append(n_steps * 2 * 2 * batch * n_inputs * n_units / (time.process_time() - begin))
    return max(rates)


def _flops(trials: Sequence[Trial], epochs: int) -> float:
    """Operations of the matrix products of these trainings and of their validation and test."""
    data = read_study_file(GRID, []).objective.data.load(SEED)
    n_train, n_validation, n_test = len(data.train), len(data.validation), len(data.test)
    n_inputs, total = int(np.prod(data.input_shape)), 0.0
    for trial in trials:
        widths = [n_inputs, *[trial.params["hidden_units"]] * trial.params["hidden_layers"], data.n_classes]
        sizes = [one * other for one, other in itertools.pairwise(widths)]
        forward = 2 * sum(sizes)
        # Backwards as much for the weights, and for the inputs of all layers but the first.
        backward = 2 * sum(sizes) + 2 * sum(sizes[1:])
        total += epochs * (n_train * (forward + backward) + n_validation * forward) + n_test * forward
    return total


def measure_search(
    label: str, space: Mapping[str, str], epochs: int, n_trials: int, seeds: Sequence[int], goals: list[Goal]
) -> Table:
    """The default searcher, each way, with each seed."""
    clocks: dict[str, list[Clock]] = {}
    for fuse in WAYS:
        with stage() as executor:
            search(executor, fuse, SEED - 1, epochs, "evolution", WARM_UP, space)
            clocks[fuse] = [search(executor, fuse, seed, epochs, "evolution", n_trials, space).clock for seed in seeds]
    targets = [min(clock.best for clock in pair) for pair in zip(*clocks.values(), strict=True)]
    to_equal = {
        fuse: [clock.seconds_to(target) for clock, target in zip(those, targets, strict=True)]
        for fuse, those in clocks.items()
    }
    made = Table(title=f"evolution on {label}, medians of {len(seeds)} seed(s)", title_justify="left")
    for header in ("way", "trials", "seconds to an equal best", "seconds in all", "best"):
        made.add_column(header, justify="left" if header == "way" else "right")
    for fuse, way in zip(WAYS, ("fused", "one by one"), strict=True):
        made.add_row(
            way,
            f"{statistics.median(len(clock.ended) for clock in clocks[fuse]):.0f}",
            f"{statistics.median(to_equal[fuse]):.1f}",
            f"{statistics.median(clock.seconds for clock in clocks[fuse]):.1f}",
            f"{statistics.median(clock.best for clock in clocks[fuse]):.4f}",
        )
    ratios = sorted(alone / fused for fused, alone in zip(*to_equal.values(), strict=True))
    made.caption = "times sooner, seed by seed: " + ", ".join(f"{ratio:.1f}" for ratio in ratios)
    ratio = statistics.median(ratios)
    goals.append(Goal(f"search on {label}: times sooner at an equal best", ratio, AGAINST_UNFUSED, form=".1f"))
    return made


def dense_model(params: Mapping[str, Any], context: Any) -> Any:
    """A network of hidden layers of equal width."""
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input(context.data.input_shape),
            *(layers.Dense(params["hidden_units"], activation="relu") for _ in range(params["hidden_layers"])),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(params["learning_rate"]), "mse", metrics=["mae"])
    return model


def convolutional_model(params: Mapping[str, Any], context: Any) -> Any:
    """A small convolutional network."""
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input(context.data.input_shape),
            layers.Reshape((8, 8, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(context.data.n_classes, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(params["learning_rate"]), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def measure_large(epochs: int, n_trials: int, repeats: int, goals: list[Goal]) -> Table:
    """What fusing does to models that gain nothing by it, or little."""
    rng = np.random.default_rng(SEED)
    x = rng.normal(size=(20_000, 20)).astype(np.float32)
    y = (x @ rng.normal(size=(20, 1)) + np.sin(3 * x[:, :1])).astype(np.float32)
    rate = Float(1e-4, 1e-2, log=True)
    dense, built_in = (KerasObjective(model, (x, y), epochs, 128, "val_loss") for model in (dense_model, build_model))
    convolution = KerasObjective(convolutional_model, "digits", 4 * epochs, 32, "val_loss")

    def of_units(n_units: int) -> SearchSpace:
        return SearchSpace(hidden_layers=Choice([2]), hidden_units=Choice([n_units]), learning_rate=rate)

    searches = {
        "20-256-256-1, batch 128": (of_units(256), dense),
        "the same, built in": (of_units(256), built_in),
        "small convolution, batch 32": (SearchSpace(learning_rate=rate), convolution),
        "20-160-160-1, which is fused": (of_units(160), dense),
        "20-190-190-1, built in, which is fused": (of_units(190), built_in),
    }
    made = Table(title=f"Large models: seconds of {n_trials} trials, median of {repeats}", title_justify="left")
    for header in ("model", "fuse: auto", "fuse: off", "ratio"):
        made.add_column(header, justify="left" if header == "model" else "right")
    for label, (space, objective) in searches.items():
        seconds: dict[str, list[float]] = {fuse: [] for fuse in WAYS}
        for _ in range(repeats):
            for fuse in WAYS:
                with ProcessExecutor(SLOTS) as pool:
                    clock = Clock()
                    Study(space, objective, "random", "minimize", SEED, callbacks=[clock], fuse=fuse).run(
                        pool, n_trials
                    )
                    seconds[fuse].append(clock.seconds)
        auto, off = (statistics.median(seconds[fuse]) for fuse in WAYS)
        made.add_row(label, f"{auto:.1f}", f"{off:.1f}", f"{auto / off:.2f}")
        goals.append(Goal(f"{label}: auto against off", auto / off, TOO_LARGE, at_least=False, form=".2f"))
    return made


def draw(bars: Mapping[str, float], path: Path) -> None:
    """The grid's seconds as bars, on a logarithmic scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    drawn = axes.barh(list(bars), list(bars.values()))
    axes.bar_label(drawn, fmt="%.0f s", padding=3)
    axes.set(xscale="log", xlabel="seconds", title="54 small networks on MNIST, 2 slots")
    axes.invert_yaxis()
    axes.margins(x=0.15)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, print the tables, and say which goals are missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("grid", "search", "large")
    parser.add_argument("--part", nargs="+", choices=parts, default=parts, metavar="PART", help=", ".join(parts))
    parser.add_argument("--quick", action="store_true", help="one epoch, small samples; keeps nothing")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, metavar="SEED", help="of the searches")
    options = parser.parse_args()
    epochs, sample, n_trials, repeats = (1, SAMPLE[:2], 24, 1) if options.quick else (10, SAMPLE, 120, 3)
    seeds = options.seeds[:1] if options.quick else options.seeds

    console, goals = Console(width=150), list[Goal]()
    if "grid" in options.part:
        table, bars = measure_grid(epochs, sample, goals)
        console.print(table)
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder, PICTURE.name) if options.quick else PICTURE
            draw(bars, picture)
            console.print(f"Picture: {picture}", soft_wrap=True)
    if "search" in options.part:
        console.print(measure_search("the grid's space", {}, epochs, n_trials, seeds, goals))
        console.print(measure_search("its ranges without steps", WITHOUT_STEPS, epochs, n_trials, seeds[:2], goals))
    if "large" in options.part:
        console.print(measure_large(2 if options.quick else 5, 8, repeats, goals))
    named = ", ".join(f"{package} {number}" for package, number in versions().items())
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, load {os.getloadavg()[0]:.1f}"
    console.print(f"{named}; {machine}", soft_wrap=True)
    for goal in goals:
        console.print(str(goal), highlight=False)
    if not options.quick and (missed := [goal.what for goal in goals if not goal.met]):
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
