"""The parts of the benchmark: which methods run on which problems, and what is kept of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from benchmarks.searching import bbob, cost, fingerprint, runs, tables, workers
from benchmarks.searching.methods import METHODS, Method, own
from benchmarks.searching.results import Record, Row
from benchmarks.searching.workers import Barrier

__all__ = ["BATCHES", "BUDGETS", "CONFIRMED", "GENERATIONS", "MAIN", "PARTS", "Part", "measure", "part_of"]

# The searcher that the others are compared with.
MAIN = "evolution"
# The same with repeats of its best among the evaluations: what noise is left to it.
CONFIRMED = "evolution+confirm"
BUDGETS = {"tables": (25, 50, 100, 200), "bbob": (50, 100, 200)}
_N_WORKERS = 8
# What waits where workers are simulated: generations, by what the report calls them, and the main one in batches.
GENERATIONS = {f"genetic {size}": size for size in (8, 16, 20)}
BATCHES = f"batches of {_N_WORKERS}"

_CHECKPOINTS = (5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 100, 125, 150, 175, 200)
# The methods that COCO's functions are for unless others are named: each run costs as much as one on a table, and there
# are more of them.
_ON_BBOB = ("evolution", "genetic", "cmaes", "random", "ensemble", "direct:optuna", "direct:hyperopt")
_NO_COST = {CONFIRMED, "direct:skopt-gp", "direct:optuna-distinct", "grid", "lhs", "random", "sobol"}


@dataclass(frozen=True)
class Part:
    """One part of the benchmark.

    Attributes:
        problems: Names of its problems.
        methods: All that may run on them.
        default: Those that do where none is named.
        n_seeds: On how many seeds.
        modules: The code that its rows depend on, beside the method's.
        settings: What else they depend on.
        run: Makes a row from a method, a problem's name, a seed and the settings.
        apart: Whether runs must not stand beside each other.
    """

    problems: tuple[str, ...]
    methods: dict[str, Method]
    default: tuple[str, ...]
    n_seeds: int
    modules: tuple[str, ...]
    settings: dict[str, Any]
    run: Callable[[Method, str, int, dict[str, Any]], Row]
    apart: bool = False

    def seeds(self, method: Method) -> range:
        """The seeds of a method."""
        return range(self.n_seeds if method.max_seeds is None else min(self.n_seeds, method.max_seeds))

    def record(self, name: str) -> Record:
        """An empty record of a method, as this code and these libraries would make it."""
        method = self.methods[name]
        modules = [*self.modules, *method.modules]
        settings = self.settings | ({"most": method.max_evaluations} if method.max_evaluations else {})
        return Record(fingerprint.versions(modules), fingerprint.code(modules), settings)


def measure(name: str, quick: bool, method: str, problem: str, seed: int) -> tuple[Row, float]:
    """A row of a part, and the CPU seconds that it took."""
    part = part_of(name, quick)
    begin = time.process_time()
    row = part.run(part.methods[method], problem, seed, part.settings)
    return row, time.process_time() - begin


def _regrets(module: Any, method: Method, problem: str, seed: int, settings: dict[str, Any]) -> Row:
    checkpoints = _within(settings["checkpoints"], method)
    with module.open_problem(problem) as opened:
        return method.regrets(method.make(opened.space, seed), opened, seed, checkpoints)


def _simulated(method: Method, problem: str, seed: int, settings: dict[str, Any]) -> Row:
    with tables.open_problem(problem) as table:
        searcher = method.make(table.space, seed)
        counts = _within(settings["counts"], method)
        return workers.simulate(searcher, table, seed, settings["workers"], counts)


def _within(numbers: Sequence[int], method: Method) -> list[int]:
    return [number for number in numbers if number <= (method.max_evaluations or number)]


def _cost(method: Method, problem: str, seed: int, settings: dict[str, Any]) -> Row:
    n_asks = settings["slow_asks" if method.is_slow else "asks"]
    return cost.cpu_ms(method, cost.Bowl(problem), seed, settings["known"], n_asks)


def _tables() -> Part:
    return Part(
        tables.NAMES,
        METHODS,
        tuple(METHODS),
        20,
        (runs.__name__, tables.__name__),
        {"checkpoints": list(_CHECKPOINTS)},
        partial(_regrets, tables),
    )


def _bbob() -> Part:
    default = tuple(name for name in _ON_BBOB if name in METHODS)
    settings = {"checkpoints": [n for n in _CHECKPOINTS if n >= 10]}
    modules = (runs.__name__, bbob.__name__)
    return Part(bbob.NAMES, METHODS, default, 10, modules, settings, partial(_regrets, bbob))


def _workers() -> Part:
    waiting = {name: own({"name": "genetic", "population": size}) for name, size in GENERATIONS.items()}
    waiting[BATCHES] = replace(METHODS[MAIN], make=_in_batches)
    # What waits runs to the first count; what does not, further, for it may be better only later.
    counts = [200, 600]
    methods = {MAIN: METHODS[MAIN]}
    methods |= {name: replace(method, max_evaluations=counts[0]) for name, method in waiting.items()}
    modules = (runs.__name__, tables.__name__, workers.__name__)
    settings = {"workers": _N_WORKERS, "counts": counts}
    return Part(tables.NAMES, methods, tuple(methods), 20, modules, settings, _simulated)


def _in_batches(space: Any, seed: int) -> Barrier:
    return Barrier(METHODS[MAIN].make(space, seed), _N_WORKERS)


def _costs() -> Part:
    methods = {name: method for name, method in METHODS.items() if name not in _NO_COST}
    settings = {"known": 1000, "asks": 400, "slow_asks": 10}
    return Part(tuple(cost.SPACES), methods, tuple(methods), 1, (cost.__name__,), settings, _cost, apart=True)


PARTS = {"tables": _tables, "bbob": _bbob, "workers": _workers, "cost": _costs}


@cache
def part_of(name: str, quick: bool) -> Part:
    """A part; a quick one has fewer problems and seeds, fewer evaluations, and no slow methods."""
    part = PARTS[name]()
    if not quick:
        return part
    few: dict[str, dict[str, Any]] = {
        "tables": {"checkpoints": _up_to(50, _CHECKPOINTS)},
        "bbob": {"checkpoints": _up_to(50, _CHECKPOINTS)},
        "workers": {"counts": [40, 80]},
        "cost": {"known": 100, "asks": 50},
    }
    return replace(
        part,
        problems=part.problems[:: -(-len(part.problems) // 3)],
        default=tuple(name for name in part.default if not part.methods[name].is_slow),
        n_seeds=min(2, part.n_seeds),
        settings=part.settings | few[name],
    )


def _up_to(most: int, numbers: Sequence[int]) -> list[int]:
    return [number for number in numbers if number <= most]
