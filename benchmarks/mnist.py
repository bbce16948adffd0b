"""The searches of the field's tutorials on the real MNIST, against what the tutorials reached.

    make bench-mnist                          all of them, about an hour on two cores
    python -m benchmarks.mnist --only grid    one of them
    python -m benchmarks.mnist --table        what was measured so far
    python -m benchmarks.mnist --help

Each search is a study file of ``conf/`` through the command line, on Spark. The model of the best validation accuracy
is tested once, at the end; where a tutorial picks by test accuracy, the study records it for every trial. Of a
cross-validation the mean accuracy of the folds counts as validation. Outcomes are
kept in ``benchmarks/results/mnist.json`` as they come, so that the table can be made from parts.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hpo_spark.cli import main as hpo_spark

CONF = Path(__file__).parents[1] / "conf"
RESULTS = Path(__file__).parent / "results" / "mnist.json"

# What a tutorial counts: the best by validation, tested; its validation accuracy; or the best of all tests.
TEST, VALIDATION, BEST_TEST = "test", "validation", "best test"


@dataclass(frozen=True)
class Search:
    """One search.

    Attributes:
        label: How the table calls it.
        file: Study file in ``conf/``.
        overrides: What ``--set`` changes.
        counts: Which accuracy goal and tutorial are about.
        goal: Accuracy that it must reach, in the median over seeds; None for none.
        tutorial: Accuracy of the tutorial; None where it gives none.
        seeds: Seeds of the study.
    """

    label: str
    file: str
    overrides: tuple[str, ...] = ()
    counts: str = TEST
    goal: float | None = None
    tutorial: float | None = None
    seeds: tuple[int, ...] = (7,)


SEARCHES = {
    "rate": Search("learning rate, 512-512 with dropout", "mnist_learning_rate.yaml", goal=0.980, tutorial=0.9641),
    "genetic": Search("5-15 units, genetic, 3 generations", "mnist_mlp.yaml", goal=0.9345),
    "genetic-20": Search(
        "5-15 units, genetic, 20 generations", "mnist_mlp.yaml", ("searcher.generations=20",), goal=0.95
    ),
    "grid": Search("5-15 units, grid", "mnist_grid.yaml", counts=BEST_TEST, goal=0.9518, tutorial=0.9518),
    "bayes": Search(
        "5-15 units, bayes, EI", "mnist_bayes.yaml", counts=VALIDATION, goal=0.9493, seeds=(7, 8, 9, 10, 11)
    ),
    "bayes-lcb": Search(
        "5-15 units, bayes, LCB", "mnist_bayes.yaml", ("searcher.acquisition=LCB",), VALIDATION, seeds=(7, 8, 9, 10, 11)
    ),
    "bayes-40": Search("dense layers of a CNN, bayes, gp", "mnist_bayes_40.yaml", counts=VALIDATION, tutorial=0.9880),
    "bayes-40-forest": Search(
        "dense layers of a CNN, bayes, forest", "mnist_bayes_40.yaml", ("searcher.model=forest",), VALIDATION
    ),
    "sklearn": Search(
        "scikit-learn's MLP, 5 folds of 70,000, genetic", "mnist_sklearn_mlp.yaml", counts=VALIDATION, goal=0.9345
    ),
    "tpe": Search("512-1000, dropouts and activation, tpe", "mnist_tpe.yaml"),
}


def run(search: Search, seed: int, master: str | None, executor: str) -> dict[str, Any]:
    """Run a search and return its outcome."""
    options = [word for override in (*search.overrides, f"study.seed={seed}") for word in ("--set", override)]
    if master is not None:
        options += ["--master", master]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        code = hpo_spark(["run", str(CONF / search.file), "--out", str(out), "--executor", executor, *options])
        if code != 0:
            sys.exit(f"the search {search.label!r} with seed {seed} ended with code {code}")
        return {**outcome(out), "executor": executor if master is None else master, "machine": _machine()}


def outcome(out: Path) -> dict[str, Any]:
    """What a run folder says of a search: accuracies, costs, the best configuration, and the versions."""
    result = json.loads((out / "result.json").read_text())
    with (out / "trials.csv").open(newline="") as file:
        tests = [row.get("metric:test_accuracy") for row in csv.DictReader(file)]
    return {
        TEST: result["test"].get("accuracy"),  # folds of all rows leave nothing to test on
        VALIDATION: result["best_trial"]["value"],
        BEST_TEST: max((float(test) for test in tests if test), default=None),
        "params": result["best_trial"]["params"],
        "states": result["counts"],
        "trials": result["trials"],
        "minutes": result["seconds"] / 60,
        "slots": result["slots"],
        "slot_use": result["slot_use"],
        "versions": {**result["versions"], **_searchers_versions()},
    }


def main() -> None:
    """Run the searches and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SEARCHES, metavar="NAME", help=f"which: {', '.join(SEARCHES)}")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds instead of each search's own")
    parser.add_argument("--executor", default="spark", choices=["spark", "processes"])
    parser.add_argument("--master", default=None, help="URL of Spark's master (default local[*])")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where outcomes are kept")
    parser.add_argument("--table", action="store_true", help="run nothing, print what was measured so far")
    arguments = parser.parse_args()

    known: dict[str, dict[str, Any]] = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    for name in [] if arguments.table else arguments.only or SEARCHES:
        search = SEARCHES[name]
        for seed in arguments.seeds or search.seeds:
            found = run(search, seed, arguments.master, arguments.executor)
            known.setdefault(name, {})[str(seed)] = found
            _keep(arguments.results, known)

    shown = {name: known[name] for name in arguments.only or SEARCHES if name in known}
    console = Console(width=180)
    console.print(table(shown))
    for line in dict.fromkeys(_circumstances(found) for runs in shown.values() for found in runs.values()):
        console.print(line, soft_wrap=True)
    if missed := [name for name, runs in shown.items() if is_missed(SEARCHES[name], list(runs.values()))]:
        sys.exit(f"below the goal: {', '.join(missed)}")


def table(known: dict[str, dict[str, Any]]) -> Table:
    """A row a search, with the median and the range over its seeds."""
    made = Table(title="Accuracy on MNIST; median over the seeds (range)", title_justify="left")
    for header in ("search", "what counts", "goal", "tutorial", "outcome", TEST, VALIDATION, "seeds", "trials"):
        made.add_column(header, justify="left" if header in ("search", "what counts") else "right")
    made.add_column("minutes", justify="right")
    made.add_column("slot use", justify="right")
    for name, runs in known.items():
        search, found = SEARCHES[name], list(runs.values())
        made.add_row(
            search.label,
            search.counts,
            "-" if search.goal is None else f"{search.goal:.4f}",
            "-" if search.tutorial is None else f"{search.tutorial:.4f}",
            *(_spread([one[key] for one in found]) for key in (search.counts, TEST, VALIDATION)),
            str(len(found)),
            _spread([one["trials"] for one in found], ".0f"),
            _spread([one["minutes"] for one in found], ".1f"),
            _spread([one["slot_use"] for one in found], ".2f"),
        )
    return made


def is_missed(search: Search, found: list[dict[str, Any]]) -> bool:
    """Whether the median outcome is below the goal."""
    return search.goal is not None and statistics.median(one[search.counts] for one in found) < search.goal


def _keep(path: Path, known: dict[str, dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(known, indent=1) + "\n")
    draft.replace(path)


def _searchers_versions() -> dict[str, str]:
    """Of the libraries that only the driver has."""
    found = {}
    for package in ("scikit-optimize", "hyperopt"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _circumstances(found: dict[str, Any]) -> str:
    named = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
    return f"{named}; {found['executor']}, {found['slots']} slots, {found['machine']}"


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def _spread(values: list[float | None], form: str = ".4f") -> str:
    """The median, and the range where they differ; a dash where nothing was measured."""
    if None in values:
        return "-"
    middle = format(statistics.median(values), form)
    return middle if min(values) == max(values) else f"{middle} ({min(values):{form}}-{max(values):{form}})"


if __name__ == "__main__":
    main()
