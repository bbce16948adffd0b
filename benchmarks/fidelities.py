"""Do few epochs first pay? On the tutorial's 54-point MNIST space, and on a synthetic function in simulated time.

    make bench-fidelities                        all of it: about an hour on two cores the first time
    python -m benchmarks.fidelities --only hartmann
    python -m benchmarks.fidelities --seeds 7 8
    python -m benchmarks.fidelities --table      what was measured so far

**MNIST.** For each seed the grid of ``conf/mnist_grid.yaml`` is trained in full, 54 points of 10 epochs, and the curve
of every point is kept in ``benchmarks/results/fidelities.json``. Against the best validation accuracy that it finds,

- ``real`` are searches with a fifth of its epochs, through `Study` and trial processes: trials train, stop, and go on
  from their checkpoints, each with a seed of its own;
- ``replayed`` are the same searches through `Study` with the grid's curves in place of training: a trial of k epochs
  has the point's value after k, as it would since the order of batches is the study's. Several searcher seeds a grid;
- ``all one epoch`` is the baseline: every point for one epoch, and with what is left the best few to the end.

**Hartmann-6** of ``mfhpo-benchmark-api``, with its noise and its run times: workers run as many trials at once in
simulated time; each rung costs its whole run time, as if there were no checkpoints. The regret is that of the true
value of what looks best among the trials of the highest fidelity.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.goals import Goal
from hpo_spark import Float, ProcessExecutor, SearchSpace, SerialExecutor, Study, Trial, TrialState
from hpo_spark.config import StudyFile, read_study_file
from hpo_spark.searchers import make_searcher

GRID = Path(__file__).parents[1] / "conf" / "mnist_grid.yaml"
RESULTS = Path(__file__).parent / "results" / "fidelities.json"
SEEDS = (7, 8, 9, 10, 11)

EPOCHS, SHARE = 10, 5
FIDELITY = {"min": 1, "max": EPOCHS, "eta": 3}
# By their names here: the searcher of a study with these fidelities.
SEARCHERS: dict[str, Any] = {
    "dehb": "dehb",
    "evolution, fidelity": "evolution",
    "asha": "asha",
    "hyperband": "hyperband",
}
MAIN = "evolution, fidelity"
REAL = ("dehb", MAIN)
BASELINE = "all one epoch"
N_REPLAYS = 10
CLOSE = 0.002

# On Hartmann-6: a searcher with fidelities, and the same without.
PAIRS: dict[str, tuple[Any, Any]] = {
    "evolution": ({"name": "asha", "searcher": "evolution"}, "evolution"),
    "random, asha": ({"name": "asha"}, "random"),
    "random, hyperband": ({"name": "hyperband"}, "random"),
    "de, dehb": ("dehb", "de"),
}
N_WORKERS, N_SIMULATIONS = 4, 20
# In run times of one full evaluation, of all workers together.
BUDGETS = (25, 50, 100)
OPTIMUM = -3.32237

Curves = Mapping[str, Sequence[float]]


class Replayed:
    """An objective that takes recorded curves for training.

    Args:
        curves: Values after each epoch, by the key of the configuration.
    """

    def __init__(self, curves: Curves) -> None:
        self._curves = curves

    def __call__(self, params: dict[str, Any], context: Any) -> float:
        """Report the epochs from the checkpoint on."""
        curve = self._curves[SearchSpace.key(params)]
        start = context.checkpoint.step if context.checkpoint else 0
        for epoch in range(start, context.fidelity):
            context.report(epoch + 1, curve[epoch])
        context.keep_checkpoint(context.fidelity, b"")
        return curve[context.fidelity - 1]


def grid_file(seed: int) -> StudyFile:
    """The tutorial's grid with a seed of its own."""
    return read_study_file(GRID, [f"study.seed={seed}", "objective.test_every_trial=false"])


def record_grid(seed: int) -> dict[str, list[float]]:
    """Train the whole grid; the curve of each point by its key."""
    with tempfile.TemporaryDirectory() as folder, ProcessExecutor() as pool:
        result = grid_file(seed).study(Path(folder, "run")).run(pool)
    return {SearchSpace.key(trial.params): [value for _, value in trial.curve] for trial in result.trials}


def search_for_real(name: str, seed: int, budget: int) -> dict[str, Any]:
    """A search on the grid's space that trains."""
    file = grid_file(seed)
    with tempfile.TemporaryDirectory() as folder, ProcessExecutor() as pool:
        study = Study(
            file.space, file.objective, SEARCHERS[name], "maximize", seed,
            out=Path(folder, "run"), fixed=file.model.fixed, fidelity=FIDELITY,
        )  # fmt: skip
        return outcome(study.run(pool, max_epochs=budget))


def replay(name: str, curves: Curves, seed: int, budget: int) -> dict[str, Any]:
    """The same over recorded curves."""
    space = grid_file(0).space
    with SerialExecutor() as pool:
        study = Study(space, Replayed(curves), SEARCHERS[name], "maximize", seed, fidelity=FIDELITY)
        return outcome(study.run(pool, max_epochs=budget))


def outcome(result: Any) -> dict[str, Any]:
    """What is kept of a search."""
    best = result.best_trial
    return {"value": best.value, "fidelity": best.fidelity, "epochs": result.epochs, "params": best.params}


def best_of_grid(curves: Curves) -> float:
    """The best value after all epochs."""
    return max(curve[-1] for curve in curves.values())


def baseline(curves: Curves, budget: int) -> float:
    """Train everything one epoch, and the best few to the end."""
    n_few = (budget - len(curves)) // (EPOCHS - 1)
    few = sorted(curves.values(), key=lambda curve: -curve[0])[:n_few]
    return max(curve[-1] for curve in few)


def simulate(choice: Any, full_only: bool, seed: int) -> list[float]:
    """Regret on Hartmann-6 when each of the budgets is spent."""
    from benchmark_apis import MFHartmann

    noisy = MFHartmann(dim=6, seed=seed, runtime_factor=1.0)
    true = MFHartmann(dim=6, runtime_factor=1.0, deterministic=True)
    (low,), (high,) = noisy.min_fidels.values(), noisy.max_fidels.values()
    space = SearchSpace(**{f"x{d}": Float(0.0, 1.0) for d in range(6)})
    options = {"name": choice} if isinstance(choice, str) else dict(choice)
    searcher = make_searcher(options if full_only else {**options, "min": low, "max": high}, space, ("minimize",), seed)
    running: list[tuple[float, int, Trial]] = []
    clock, number, leader = 0.0, 0, (0, 0.0, np.nan)
    regrets: list[float] = []
    while len(regrets) < len(BUDGETS):
        while len(running) < N_WORKERS and (proposals := searcher.ask(1)):
            (asked,) = proposals
            fidelity = asked.fidelity or high
            seen = noisy(asked.params, fidels={"z0": fidelity})
            trial = Trial(
                number, asked.params, 0, asked.fidelity, asked.parent, token=asked.token, origin=asked.origin,
                state=TrialState.COMPLETED, values=[float(seen["loss"])],
            )  # fmt: skip
            heapq.heappush(running, (clock + seen["runtime"], number, trial))
            number += 1
        clock, _, trial = heapq.heappop(running)
        while len(regrets) < len(BUDGETS) and clock * N_WORKERS > BUDGETS[len(regrets)]:
            regrets.append(leader[2])
        looks = -(trial.fidelity or high), trial.values[0] if trial.values else np.inf
        if looks < leader[:2]:
            exact = float(true(trial.params, fidels={"z0": high})["loss"])
            leader = (*looks, exact - OPTIMUM)
        searcher.tell(trial)
    return regrets


def measure(known: dict[str, Any], path: Path, parts: Iterable[str], seeds: Sequence[int]) -> None:
    """Run what is not known yet, and keep each outcome as it comes."""
    grids = known.setdefault("grids", {})
    for seed in map(str, seeds if "mnist" in parts else ()):
        if seed not in grids:
            grids[seed] = record_grid(int(seed))
            keep(path, known)
        budget = len(grids[seed]) * EPOCHS // SHARE
        for name in SEARCHERS:
            known.setdefault("replayed", {}).setdefault(name, {})[seed] = [
                replay(name, grids[seed], draw, budget) for draw in range(N_REPLAYS)
            ]
        keep(path, known)
        for name in REAL:
            found = known.setdefault("real", {}).setdefault(name, {})
            if seed not in found:
                found[seed] = search_for_real(name, int(seed), budget)
                keep(path, known)
    if "hartmann" in parts:
        known["hartmann"] = {
            name: [[simulate(choice, bool(place), seed) for seed in range(N_SIMULATIONS)]
                   for place, choice in enumerate(pair)]
            for name, pair in PAIRS.items()
        }  # fmt: skip
        keep(path, known)


def report_mnist(console: Console, known: Mapping[str, Any]) -> list[Goal]:
    """How far each search is from the best of the grid, seed for seed."""
    grids = known["grids"]
    best = {seed: best_of_grid(curves) for seed, curves in grids.items()}
    budgets = {seed: len(curves) * EPOCHS // SHARE for seed, curves in grids.items()}
    n_epochs = {seed: len(curves) * EPOCHS for seed, curves in grids.items()}
    table = Table(title="MNIST, 54 points: best validation accuracy below the grid's", title_justify="left")
    for header in ("search", "how", "epochs", "median", "mean", "worst", "seeds"):
        table.add_column(header, justify="left" if header in ("search", "how") else "right")

    def add(name: str, how: str, epochs: Iterable[int], gaps: list[float]) -> float:
        middle = statistics.median(gaps)
        row = (f"{max(epochs)}", f"{middle:.4f}", f"{statistics.mean(gaps):.4f}", f"{max(gaps):.4f}", str(len(gaps)))
        table.add_row(name, how, *row)
        return middle

    table.add_row("grid", "real", str(max(n_epochs.values())), *["0"] * 3, str(len(grids)))
    few = [best[seed] - baseline(curves, budgets[seed]) for seed, curves in grids.items()]
    add(BASELINE, "replayed", budgets.values(), few)
    goals = []
    for name, found in known.get("real", {}).items():
        gaps = [best[seed] - one["value"] for seed, one in found.items() if seed in best]
        middle = add(name, "real", [one["epochs"] for one in found.values()], gaps)
        if name == MAIN:
            goals.append(Goal(f"{name}, real: below the grid, median", middle, CLOSE, at_least=False, form=".4f"))
    means: dict[str, float] = {}
    for name, by_seed in known["replayed"].items():
        gaps = [best[seed] - one["value"] for seed, runs in by_seed.items() for one in runs if seed in best]
        add(name, "replayed", [one["epochs"] for runs in by_seed.values() for one in runs], gaps)
        means[name] = statistics.mean(gaps)
        if name == MAIN:
            middle = statistics.median(gaps)
            goals.append(Goal(f"{name}, replayed: below the grid, median", middle, CLOSE, at_least=False, form=".4f"))
    console.print(table)
    against = f"{MAIN}, replayed: mean below the grid, against {BASELINE!r}"
    goals.append(Goal(against, means[MAIN], statistics.mean(few), at_least=False, form=".4f"))
    return goals


def report_hartmann(console: Console, known: Mapping[str, Any]) -> list[Goal]:
    """Regrets with fidelities and without."""
    table = Table(title=f"Hartmann-6: median regret, {N_WORKERS} workers, simulated time", title_justify="left")
    table.add_column("searcher")
    for budget in BUDGETS:
        table.add_column(f"{budget} full run times: with", justify="right")
        table.add_column("without", justify="right")
    goals = []
    for name, pair in known["hartmann"].items():
        medians = [np.median(np.array(runs), axis=0) for runs in pair]
        table.add_row(name, *(f"{median[place]:.3f}" for place in range(len(BUDGETS)) for median in medians))
        if name in ("evolution", "de, dehb"):
            goals += [
                Goal(f"Hartmann-6, {name}, {budget}: with fidelities against without", with_, without, at_least=False)
                for budget, with_, without in zip(BUDGETS, *medians, strict=True)
            ]
    console.print(table)
    return goals


def keep(path: Path, known: Mapping[str, Any]) -> None:
    """Write what is known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(known, indent=1) + "\n")
    draft.replace(path)


def main() -> None:
    """Measure and print tables and goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=["mnist", "hartmann"], help="one part")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of the MNIST studies")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where outcomes are kept")
    parser.add_argument("--table", action="store_true", help="run nothing, print what was measured so far")
    arguments = parser.parse_args()
    known: dict[str, Any] = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    parts = [arguments.only] if arguments.only else ["mnist", "hartmann"]
    if not arguments.table:
        measure(known, arguments.results, parts, arguments.seeds)
    console = Console(width=160)
    goals: list[Goal] = []
    if "mnist" in parts and known.get("replayed"):
        goals += report_mnist(console, known)
    if "hartmann" in parts and known.get("hartmann"):
        goals += report_hartmann(console, known)
    for goal in goals:
        console.print(str(goal))
    packages = ("numpy", "deap", "mfhpo-benchmark-api", "tensorflow-cpu", "keras")
    found = ", ".join(f"{package} {version(package)}" for package in packages)
    console.print(f"Python {platform.python_version()}, {found}; {os.cpu_count()} cores", soft_wrap=True)
    if missed := [goal for goal in goals if not goal.met]:
        sys.exit(f"{len(missed)} goal(s) missed")


if __name__ == "__main__":
    main()
