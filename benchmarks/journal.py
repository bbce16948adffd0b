"""What the record costs: a tell on this disk, beside the disk's own fsync and Optuna's storages, and reading it all.

    make bench-journal                      100,000 trials, about ten minutes on a slow disk

Optuna's storages are given the same trials: asked for, ten values on the way, told. Its journal is read by a new study.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from rich.console import Console
from rich.table import Table

from benchmarks.goals import Goal
from hpo_spark import Choice, Float, Int, SearchSpace, Trial, TrialState
from hpo_spark.journal import Journal, read_record
from hpo_spark.storage import open_storage
from hpo_spark.versions import versions

SPACE = SearchSpace(
    rate=Float(1e-4, 1e-1, log=True),
    momentum=Float(0.0, 0.99),
    layers=Int(1, 5),
    units=Int(5, 512, log=True),
    optimizer=Choice(["sgd", "adam", "rmsprop"]),
)
N_TRIALS, N_OF_PEERS, N_STEPS = 100_000, 500, 10


def finished(number: int) -> Trial:
    """A trial as a worker returns it, with the curve of ten epochs."""
    curve = [[step, 1.0 / (number + step + 1)] for step in range(N_STEPS)]
    return Trial(
        number, SPACE.sample(number), number, state=TrialState.COMPLETED, values=[curve[-1][1]], curve=curve,
        metrics={"val_loss": 0.1, "val_accuracy": 0.9}, started=time.time(), seconds=1.5, host="worker-1.example.org",
    )  # fmt: skip


def own_record(folder: Path, n_trials: int) -> tuple[list[float], list[float], float, float]:
    """Seconds of each tell, and of the bare disk's writes in between, and wall and CPU seconds in which all is read."""
    journal = Journal(open_storage(folder))
    journal.begin({"study": {"study": {"name": "bench"}, "space": SPACE.to_dict()}, "seed": 0})
    seconds, bare = [], []
    disk = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(n_trials):
        trial = finished(number)
        if number % 20 == 0:
            begin = time.perf_counter()
            os.write(disk, b"x" * 600)
            os.fdatasync(disk)
            bare.append(time.perf_counter() - begin)
        journal.ask(Trial(number, trial.params, trial.seed), number)
        begin = time.perf_counter()
        journal.tell(trial)
        seconds.append(time.perf_counter() - begin)
    journal.close()
    os.close(disk)
    begin, cpu = time.perf_counter(), time.process_time()
    record = read_record(folder)
    assert len(record.ended) == n_trials
    return seconds, bare, time.perf_counter() - begin, time.process_time() - cpu


def of_optuna(storage: BaseStorage, reopen: Callable[[], BaseStorage], n: int) -> tuple[list[float], float]:
    """Seconds of each tell, and those in which a new process's study has read all."""
    study = optuna.create_study(storage=storage, study_name="bench", sampler=optuna.samplers.RandomSampler(0))
    seconds = []
    for number in range(n):
        trial = study.ask()
        for name, parameter in (("rate", (1e-4, 1e-1)), ("momentum", (0.0, 0.99))):
            trial.suggest_float(name, *parameter)
        trial.suggest_int("layers", 1, 5)
        trial.suggest_int("units", 5, 512)
        trial.suggest_categorical("optimizer", ["sgd", "adam", "rmsprop"])
        begin = time.perf_counter()
        for step in range(N_STEPS):
            trial.report(1.0 / (number + step + 1), step)
        study.tell(trial, 1.0 / (number + 1))
        seconds.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    assert len(optuna.load_study(study_name="bench", storage=reopen()).trials) == n
    return seconds, time.perf_counter() - begin


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=N_TRIALS, help="trials in our own journal")
    parser.add_argument("--peers", type=int, default=N_OF_PEERS, help="trials in Optuna's storages")
    parser.add_argument("--folder", type=Path, help="where to write, to measure another disk")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    console = Console(width=120)
    table = Table(title="the record of a search", title_justify="left")
    for header in ("", "trials", "tell, median ms", "tell, p99 ms", "read, s", "read, µs a trial"):
        table.add_column(header, justify="right")

    def show(name: str, seconds: list[float], read_s: float | None) -> None:
        n = len(seconds)
        read = ("", "") if read_s is None else (f"{read_s:.2f}", f"{read_s / n * 1e6:.0f}")
        table.add_row(name, f"{n:,}", *(f"{1e3 * np.percentile(seconds, q):.2f}" for q in (50, 99)), *read)

    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        seconds, bare, read_s, cpu_s = own_record(folder / "own", options.trials)
        show("journal.jsonl", seconds, read_s)
        show("a bare write and fdatasync", bare, None)
        path = str(folder / "optuna.log")
        journal = JournalStorage(JournalFileBackend(path))
        show("Optuna's JournalStorage", *of_optuna(
            journal, lambda: JournalStorage(JournalFileBackend(path)), options.peers))  # fmt: skip
        url = f"sqlite:///{folder / 'optuna.db'}"
        show("Optuna's RDBStorage, SQLite", *of_optuna(RDBStorage(url), lambda: RDBStorage(url), options.peers))
    console.print(table)
    console.print(f"reading took {cpu_s:.2f} s of CPU; a load of {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    console.print(f"{versions()}, optuna {optuna.__version__}")
    for goal in (
        Goal(f"{options.trials:,} trials are read in less than 5 s", read_s, 5.0, at_least=False),
        Goal("a tell, median ms", 1e3 * float(np.median(seconds)), 5.0, at_least=False),
    ):
        console.print(str(goal))


if __name__ == "__main__":
    main()
