"""Training on the real MNIST: `KerasObjective` against a plain ``Model.fit``, and how soon a trial begins to train.

    make bench-training                        some five minutes; HPO_SPARK_DATA names the folder that holds mnist.npz
    python -m benchmarks.training --quick      two epochs

The model is the 784-15-10 perceptron with batches of 32, trained in one trial process with one thread. Both ways have
the same rows, the same seed and the same number of epochs; plain `fit` shuffles by itself. Seconds of CPU an epoch are
the median over the epochs and the repeats, without each training's first epoch, in which Keras compiles; they are the
process's, all its threads together, and so does the validation after each epoch count. The accuracy is the mean over
the repeats and their last three epochs: that of one epoch moves by half a hundredth from epoch to epoch.

The second table is of another process: seconds from the moment that the driver submits a trial to an idle slot until
the trial's first training step has ended (and those of CPU in the objective), for the first three trials of a
structure, of which each has another learning rate and momentum, and of another structure.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.goals import Goal
from hpo_spark import KerasObjective, ProcessExecutor, Trial
from hpo_spark.data import DataSource
from hpo_spark.objectives.evaluate import Evaluation
from hpo_spark.objectives.mlp import build_model
from hpo_spark.versions import versions

BATCH = 32
STUDY_SEED = 7
# So long a trial process may put things back after a trial, which is no part of the next one.
SETTLES_S = 3.0
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "learning_rate": 0.1},
    "sgd with momentum": {"optimizer": "sgd", "learning_rate": 0.02, "momentum": 0.9},
    "adam": {"optimizer": "adam", "learning_rate": 0.002},
}
# Epochs at the end of a training whose accuracies are averaged.
LAST = 3
MODEL = {"hidden_layers": 1, "hidden_units": 15}


class Clock:
    """Reads seconds of CPU and of the clock at the end of each epoch, and its validation accuracy."""

    def __init__(self) -> None:
        self.cpu, self.wall = [time.process_time()], [time.perf_counter()]
        self.accuracy: list[float] = []

    def tick(self, logs: Mapping[str, float]) -> None:
        """An epoch has ended."""
        self.cpu.append(time.process_time())
        self.wall.append(time.perf_counter())
        self.accuracy.append(logs["val_accuracy"])

    def outcome(self) -> dict[str, Any]:
        """Seconds an epoch, without the first, and the accuracy of the last epochs."""
        seconds = {name: statistics.median(_steps(getattr(self, name))[1:]) for name in ("cpu", "wall")}
        return {**seconds, "late_accuracy": statistics.mean(self.accuracy[-LAST:])}


def _steps(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def _callback(clock: Clock) -> Any:
    import keras

    return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: clock.tick(logs))


class Timed:
    """`KerasObjective` with a clock."""

    def __init__(self, epochs: int) -> None:
        self.objective = KerasObjective(build_model, "mnist", epochs, BATCH, callbacks=[self._make])
        self.data = self.objective.data

    def _make(self, params: Any) -> Any:
        self.clock = Clock()
        return _callback(self.clock)

    def __call__(self, params: Any, context: Any) -> dict[str, Any]:
        """Train."""
        return {**self.objective(params, context), **self.clock.outcome()}


class Plain:
    """What a tutorial has in its objective."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.data = DataSource.of("mnist")  # in [0, 1], as a tutorial has them

    def __call__(self, params: Any, context: Any) -> dict[str, Any]:
        """Train."""
        import keras

        keras.utils.set_random_seed(context.seed)
        train, validation = context.data.train, context.data.validation
        model = build_model(params, context)
        clock = Clock()
        history = model.fit(
            *(train.x, train.y, BATCH, self.epochs),
            validation_data=(validation.x, validation.y),
            callbacks=[_callback(clock)],
            verbose=0,
        ).history
        return {"value": history["val_accuracy"][-1], **clock.outcome()}


class Begins:
    """`KerasObjective`, and when its first training step has ended."""

    def __init__(self) -> None:
        self.objective = KerasObjective(build_model, "mnist", 1, BATCH, callbacks=[self._make])
        self.data = self.objective.data
        self.began = self.cpu = 0.0

    def _make(self, params: Any) -> Any:
        import keras

        def first(batch: int, logs: Any) -> None:
            if not self.began:
                self.began, self.cpu = time.time(), time.process_time()

        return keras.callbacks.LambdaCallback(on_train_batch_end=first)

    def __call__(self, params: Any, context: Any) -> dict[str, Any]:
        """Train."""
        started = time.process_time()
        outcome = self.objective(params, context)
        return {**outcome, "began": self.began, "began_cpu": self.cpu - started}


@dataclass
class Measured:
    """What was measured of one way to train one model."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)

    def add(self, trial: Trial) -> None:
        """Add a trial."""
        self.cpu.append(trial.metrics["cpu"])
        self.wall.append(trial.metrics["wall"])
        self.accuracy.append(trial.metrics["late_accuracy"])


def evaluate(pool: ProcessExecutor, objective: Any, params: dict[str, Any], number: int) -> Trial:
    """Run a trial; its failure ends the benchmark."""
    trial = pool.submit(Evaluation(objective, STUDY_SEED, {}), Trial(number, params, 100 + number)).result().trial
    if not trial.values:
        sys.exit(f"a trial failed: {trial.error}")
    return trial


def measure_training(epochs: int, repeats: int) -> dict[str, tuple[Measured, Measured]]:
    """Plain `fit` and ours by turns, for each optimizer."""
    found = {}
    for name, optimizer in OPTIMIZERS.items():
        plain, ours = Measured(), Measured()
        for repeat in range(repeats):
            for measured, objective in ((plain, Plain(epochs)), (ours, Timed(epochs))):
                with ProcessExecutor(1) as pool:
                    measured.add(evaluate(pool, objective, {**MODEL, **optimizer}, repeat))
        found[name] = plain, ours
    return found


Starts = dict[str, list[list[tuple[float, float]]]]


def measure_starts(repeats: int) -> Starts:
    """Seconds, of the clock and of CPU, until the first step of three trials of each of two structures."""
    structures = {"15 units": MODEL, "12 and 8 units": {"hidden_units": [12, 8]}}
    found: Starts = {name: [[], [], []] for name in structures}
    for _ in range(repeats):
        objective = Begins()
        with ProcessExecutor(1) as pool:
            for name, structure in structures.items():
                for number, seconds in enumerate(found[name]):
                    rates = {"optimizer": "sgd", "learning_rate": 0.05 + 0.01 * number, "momentum": 0.5 + 0.1 * number}
                    time.sleep(SETTLES_S)
                    submitted = time.time()
                    trial = evaluate(pool, objective, {**structure, **rates}, number)
                    seconds.append((trial.metrics["began"] - submitted, trial.metrics["began_cpu"]))
    return found


def main() -> None:
    """Measure, print the tables, and say which goals are missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two epochs, once")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of a training")
    parser.add_argument("--repeats", type=int, default=5, help="how often each is measured")
    arguments = parser.parse_args()
    epochs, repeats = (2, 1) if arguments.quick else (arguments.epochs, arguments.repeats)

    goals: list[Goal] = []
    console = Console(width=150)
    console.print(_training_table(measure_training(epochs, repeats), goals))
    console.print(_starts_table(measure_starts(repeats), goals))
    named = ", ".join(f"{package} {number}" for package, number in versions().items())
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    console.print(f"{named}; {machine}; {epochs} epochs, medians of {repeats}", soft_wrap=True)
    for goal in goals:
        console.print(str(goal))
    if missed := [goal.what for goal in goals if not goal.met]:
        sys.exit(f"missed: {'; '.join(missed)}")


def _training_table(found: dict[str, tuple[Measured, Measured]], goals: list[Goal]) -> Table:
    made = Table(title="MNIST, 784-15-10, batches of 32, one thread", title_justify="left")
    headers = ("optimizer", "way", "CPU s an epoch", "ratio", "s an epoch", "validation accuracy")
    for header in headers:
        made.add_column(header, justify="left" if header in ("optimizer", "way") else "right")
    middle = statistics.median
    for name, (plain, ours) in found.items():
        ratio = middle(ours.cpu) / middle(plain.cpu)
        for way, one, share in (("Model.fit", plain, 1.0), ("KerasObjective", ours, ratio)):
            figures = (
                f"{middle(one.cpu):.2f}",
                f"{share:.2f}",
                f"{middle(one.wall):.2f}",
                f"{statistics.mean(one.accuracy):.4f}",
            )
            made.add_row(name, way, *figures)
        goals.append(Goal(f"{name}: CPU against fit", ratio, 0.4, at_least=False, form=".2f"))
        apart = abs(statistics.mean(ours.accuracy) - statistics.mean(plain.accuracy))
        goals.append(Goal(f"{name}: accuracy apart from fit's", apart, 0.005, at_least=False, form=".4f"))
    return made


def _starts_table(found: Starts, goals: list[Goal]) -> Table:
    made = Table(title="Seconds (of CPU) until the first training step has ended", title_justify="left")
    for header in ("structure", "first trial", "second", "third"):
        made.add_column(header, justify="left" if header == "structure" else "right")
    for name, trials in found.items():
        middles = [[statistics.median(column) for column in zip(*runs, strict=True)] for runs in trials]
        made.add_row(name, *(f"{seconds:.2f} ({cpu:.2f})" for seconds, cpu in middles))
        slower = max(seconds for seconds, _ in middles[1:])
        goals.append(Goal(f"{name}: the slower of its second and third start", slower, 0.5, at_least=False))
    return made


if __name__ == "__main__":
    main()
