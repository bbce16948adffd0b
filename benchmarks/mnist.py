"""The searches of the field's tutorials on the real MNIST, against what the tutorials reached.

    make bench-mnist                 all of them, some ten minutes on two cores
    python -m benchmarks.mnist --help

Each search is the study file of ``conf/`` through the command line, on Spark; the test part is touched once, for the
model of the best validation accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hpo_spark.cli import main as hpo_spark
from hpo_spark.versions import versions

CONF = Path(__file__).parents[1] / "conf"


@dataclass(frozen=True)
class Search:
    """One search.

    Attributes:
        name: How the table calls it.
        file: Study file in ``conf/``.
        overrides: What ``--set`` changes.
        goal: Test accuracy that it must reach.
        tutorial: Test accuracy of the tutorial; None where it gives none.
    """

    name: str
    file: str
    overrides: tuple[str, ...]
    goal: float
    tutorial: float | None = None


SEARCHES = (
    Search("learning rate, 512-512 with dropout", "mnist_learning_rate.yaml", (), 0.980, 0.9641),
    Search("5-15 units, 3 generations", "mnist_mlp.yaml", (), 0.9345),
    Search("5-15 units, 20 generations", "mnist_mlp.yaml", ("searcher.generations=20",), 0.95),
)


def run(search: Search, seed: int | None, master: str | None, executor: str) -> dict[str, Any]:
    """Run a search and return its ``result.json``."""
    overrides = [*search.overrides, *([] if seed is None else [f"study.seed={seed}"])]
    options = [word for override in overrides for word in ("--set", override)]
    if master is not None:
        options += ["--master", master]
    with tempfile.TemporaryDirectory() as folder:
        code = hpo_spark(["run", str(CONF / search.file), "--out", f"{folder}/run", "--executor", executor, *options])
        if code != 0:
            sys.exit(f"the search {search.name!r} ended with code {code}")
        result: dict[str, Any] = json.loads(Path(folder, "run", "result.json").read_text())
    return result


def main() -> None:
    """Run the searches and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", help="seeds instead of the study files' own")
    parser.add_argument("--only", type=int, nargs="*", help="which searches, counted from 1")
    parser.add_argument("--executor", default="spark", choices=["spark", "processes"])
    parser.add_argument("--master", default=None, help="URL of Spark's master (default local[*])")
    arguments = parser.parse_args()
    chosen = [SEARCHES[index - 1] for index in arguments.only] if arguments.only else SEARCHES

    table = Table(title="Test accuracy on MNIST of the model with the best validation accuracy", title_justify="left")
    for header in ("search", "goal", "tutorial", "test accuracy", "validation", "trials", "minutes", "slot use"):
        table.add_column(header, justify="left" if header == "search" else "right")
    missed = []
    for search in chosen:
        results = [run(search, seed, arguments.master, arguments.executor) for seed in arguments.seeds or [None]]
        tests = [result["test"]["accuracy"] for result in results]
        table.add_row(
            search.name,
            f"{search.goal:.4f}",
            "-" if search.tutorial is None else f"{search.tutorial:.4f}",
            _spread(tests),
            _spread([result["best_trial"]["value"] for result in results]),
            _spread([result["trials"] for result in results], ".0f"),
            _spread([result["seconds"] / 60 for result in results], ".1f"),
            _spread([result["slot_use"] for result in results], ".2f"),
        )
        if statistics.median(tests) < search.goal:
            missed.append(search.name)
    console = Console(width=160)
    console.print(table)
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    console.print(", ".join(f"{name} {version}" for name, version in versions().items()) + f"; {machine}")
    if missed:
        sys.exit(f"below the goal: {', '.join(missed)}")


def _spread(values: list[float], form: str = ".4f") -> str:
    """The median, and the range where there are several."""
    middle = format(statistics.median(values), form)
    return middle if len(values) == 1 else f"{middle} ({min(values):{form}}-{max(values):{form}})"


if __name__ == "__main__":
    main()
