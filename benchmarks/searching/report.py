"""What the rows say, as tables and goals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.goals import Goal
from benchmarks.searching import bbob, plot
from benchmarks.searching.parts import BATCHES, BUDGETS, CONFIRMED, GENERATIONS, MAIN, Part
from benchmarks.searching.results import Record
from benchmarks.searching.statistics import Rows, mean_and_error, mean_ranks, paired
from benchmarks.searching.workers import Simulated, first_time, mean_curve
from hpo_spark import Float, SearchSpace
from hpo_spark.searchers import make_searcher

__all__ = ["REPORTS"]

Records = Mapping[str, Record]
Report = Callable[[Console, Part, Records, Path], list[Goal]]

# What is asked of the main searcher on the tables, and of the ensemble against its best member.
_REGRETS = {25: 0.185, 50: 0.115, 100: 0.082, 200: 0.072}
_BEATS_ON_TABLES = {"direct:optuna": (50, 100, 200), "direct:optuna-distinct": (100, 200)}
_ENSEMBLE, _ENSEMBLE_BUDGET, _ENSEMBLE_BOUND = "ensemble", 100, 0.010
_BEATS_ON_BBOB = ("direct:optuna", "direct:hyperopt", "cmaes", "genetic")
_COST_MS = 5.0

# What is said of the main searcher beside what waits.
_AGAINST = ("through", "all", "sooner", "mean")


def report_tables(console: Console, part: Part, records: Records, folder: Path) -> list[Goal]:
    """Mean regret on the tables, ranks, tests and the plot."""
    rows: dict[str, Rows] = {name: record.rows for name, record in records.items()}
    checkpoints = part.settings["checkpoints"]
    budgets = [budget for budget in BUDGETS["tables"] if budget in checkpoints]
    title = f"Mean regret on {len(part.problems)} tables; 0: the best configuration, 1: the median one"
    _compare(console, part, rows, budgets, title)
    curves = _curves(rows, checkpoints)
    _draw(console, folder / "search-tables.png", part, curves, "Regret of the best-looking configuration", "regret")
    goals = []
    for name in (MAIN, CONFIRMED):
        if name not in rows:
            continue
        figures = dict(zip(checkpoints, curves[name], strict=True))
        goals += [
            Goal(f"mean regret of {name} after {budget}", figures[budget], _REGRETS[budget], at_least=False)
            for budget in budgets
        ]
        for peer, wanted in _BEATS_ON_TABLES.items():
            for budget in sorted(set(budgets) & set(wanted)) if peer in rows else ():
                found = paired(rows[name], rows[peer], checkpoints.index(budget))
                p = found.p if found.difference < 0 else 1.0
                what = f"p that {name} is no better than {peer} after {budget}"
                goals.append(Goal(what, p, 0.05, at_least=False, form=".2g"))
    if _ENSEMBLE in rows and _ENSEMBLE_BUDGET in budgets:
        place = checkpoints.index(_ENSEMBLE_BUDGET)
        members = {name: mean_and_error(rows[name], place)[0] for name in _members() if name in rows}
        best = min(members, key=lambda name: members[name])
        what = f"{_ENSEMBLE} less {best} after {_ENSEMBLE_BUDGET}, upper 95 % bound"
        upper = paired(rows[_ENSEMBLE], rows[best], place).upper
        goals.append(Goal(what, upper, _ENSEMBLE_BOUND, at_least=False, form=".4f"))
    return goals


def report_bbob(console: Console, part: Part, records: Records, folder: Path) -> list[Goal]:
    """The same on COCO's functions, of the logarithm."""
    rows: dict[str, Rows] = {
        name: {
            problem: {seed: np.log10(np.maximum(row, bbob.FLOOR)).tolist() for seed, row in seeds.items()}
            for problem, seeds in record.rows.items()
        }
        for name, record in records.items()
    }
    checkpoints = part.settings["checkpoints"]
    budgets = [budget for budget in BUDGETS["bbob"] if budget in checkpoints]
    title = f"Mean log10 regret on {len(part.problems)} problems of bbob-mixint; 0: the median configuration"
    _compare(console, part, rows, budgets, title)
    curves = {name: [10**figure for figure in curve] for name, curve in _curves(rows, checkpoints).items()}
    _draw(console, folder / "search-bbob.png", part, curves, "bbob-mixint", "regret, geometric mean")
    goals = []
    for budget in budgets if MAIN in rows else ():
        ranks = mean_ranks({name: rows[name] for name in _complete(part, rows)}, checkpoints.index(budget))
        goals += [
            Goal(f"mean rank of {MAIN} after {budget}, against {peer}'s", ranks[MAIN], ranks[peer], False, form=".2f")
            for peer in _BEATS_ON_BBOB
            if peer in ranks and MAIN in ranks
        ]
    return goals


def _compare(console: Console, part: Part, rows: Mapping[str, Rows], budgets: list[int], title: str) -> None:
    """A row a method, by its figure after the last budget that it has."""
    checkpoints = part.settings["checkpoints"]
    places = {budget: checkpoints.index(budget) for budget in budgets}
    complete = {name: rows[name] for name in _complete(part, rows)}
    ranks = {budget: mean_ranks(complete, place) for budget, place in places.items() if complete}
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.caption = (
        "In brackets the standard error over seeds. Ranks: among the methods with all seeds, over problems and seeds. "
        f"p: of {MAIN} against the method, Wilcoxon over problems and seeds, two-sided; + where {MAIN} is better."
    )
    for header in ("", "seeds"):
        table.add_column(header)
    for header in ("", "rank ", "p "):
        for budget in budgets:
            table.add_column(f"{header}{budget}", justify="right")
    means = {name: _curves({name: each}, checkpoints)[name] for name, each in rows.items()}
    for name in sorted(rows, key=lambda name: means[name][-1]):
        length = len(means[name])
        cells = [str(max(len(seeds) for seeds in rows[name].values()))]
        for place in places.values():
            mean, error = mean_and_error(rows[name], place) if place < length else (np.nan, np.nan)
            cells.append(f"{mean:.3f} ({error:.3f})" if place < length else "-")
        cells += [f"{ranks[budget][name]:.2f}" if name in complete else "-" for budget in budgets]
        for place in places.values():
            if name == MAIN or MAIN not in rows or place >= length:
                cells.append("")
                continue
            found = paired(rows[MAIN], rows[name], place)
            cells.append(f"{found.p:.1g} {'+' if found.difference < 0 else '-'}")
        table.add_row(name, *cells)
    console.print(table)


def _complete(part: Part, rows: Mapping[str, Rows]) -> list[str]:
    """The methods with all seeds and evaluations, whose ranks can be compared."""
    n_rows = len(part.problems) * part.n_seeds
    most = max(part.settings["checkpoints"])
    return [
        name
        for name, problems in rows.items()
        if sum(map(len, problems.values())) == n_rows and (part.methods[name].max_evaluations or most) >= most
    ]


def _curves(rows: Mapping[str, Rows], checkpoints: list[int]) -> dict[str, list[float]]:
    """Each method's mean at the checkpoints that it has, the main one first."""
    names = sorted(rows, key=lambda name: name != MAIN)
    lengths = {name: min(len(row) for seeds in rows[name].values() for row in seeds.values()) for name in names}
    return {name: [mean_and_error(rows[name], place)[0] for place in range(lengths[name])] for name in names}


def _draw(console: Console, path: Path, part: Part, curves: dict[str, list[float]], title: str, label: str) -> None:
    if curves:
        path.parent.mkdir(parents=True, exist_ok=True)
        plot.draw(path, part.settings["checkpoints"], curves, title, label)
        console.print(f"Plot: {path}", highlight=False)


def _members() -> list[str]:
    ensemble = make_searcher(_ENSEMBLE, SearchSpace(x=Float(0, 1), y=Float(0, 1)), ("minimize",), 0)
    return [member.name for member in ensemble.members]  # type: ignore[attr-defined]


def report_workers(console: Console, part: Part, records: Records, folder: Path) -> list[Goal]:
    """How much more simulated workers do, and how much sooner, where nothing waits."""
    if MAIN not in records:
        return []
    waiting = [name for name in (*GENERATIONS, BATCHES) if name in records]
    table = Table(
        title=f"{MAIN} on {part.settings['workers']} simulated workers, against what waits at a barrier",
        title_justify="left",
        caption_justify="left",
    )
    count, most = part.settings["counts"]
    table.caption = (
        f"through: throughput, evaluations a second until {count} had ended, over the same of what waits; median of "
        f"seeds. all: the same until the first {count} that began had ended, stragglers too. sooner: the seconds until "
        f"what waits had ended {count}, over those until {MAIN} was as good as that was then; median of seeds; 0: not "
        f"within {most} evaluations. mean: the same of the regret averaged over seeds."
    )
    table.add_column("")
    for name in waiting:
        for place, header in enumerate(_AGAINST):
            table.add_column(f"{name if place == 0 else ''}\n{header}", justify="right")
    figures = []
    for problem in part.problems:
        found = [_against(records[MAIN].rows[problem], records[name].rows[problem]) for name in waiting]
        figures.append([figure for each in found for figure in each])
        table.add_row(problem, *(f"{figure:.3g}" for figure in figures[-1]))
    table.add_section()
    columns = np.array(figures)
    for title, summary in (("median", np.median(columns, axis=0)), ("best", columns.max(axis=0))):
        table.add_row(title, *(f"{figure:.3g}" for figure in summary))
    console.print(table)
    goals = []
    for place, name in enumerate(waiting):
        if name in GENERATIONS:
            throughput, _, sooner, _ = columns[:, len(_AGAINST) * place : len(_AGAINST) * (place + 1)].T
            goals += [
                Goal(f"throughput against {name}, median", float(np.median(throughput)), 2.0, form=".2f"),
                Goal(f"throughput against {name}, best", float(throughput.max()), 3.0, form=".2f"),
                Goal(f"quality of {name} so many times sooner, median", float(np.median(sooner)), 5.0, form=".2f"),
            ]
    return goals


def _against(free: Mapping[int, Simulated], waiting: Mapping[int, Simulated]) -> list[float]:
    """The figures of ``_AGAINST``."""
    ratios, finals, ends = [], [], []
    for seed in sorted(set(free) & set(waiting)):
        (end, *_), (last, *_), *changes = waiting[seed]
        finals.append(next(regret for seconds, regret in reversed(changes) if seconds <= end))
        ends.append(end)
        (free_end, *_), (free_last, *_), *free_changes = free[seed]
        ratios.append([end / free_end, last / free_last, end / first_time(free_changes, finals[-1])])
    all_changes = [run[2:] for run in free.values()]
    times = np.unique([seconds for changes in all_changes for seconds, _ in changes])
    good = times[mean_curve(all_changes, times) <= np.mean(finals)]
    return [*np.median(ratios, axis=0).tolist(), float(np.mean(ends) / good[0]) if len(good) else 0.0]


def report_cost(console: Console, part: Part, records: Records, folder: Path) -> list[Goal]:
    """CPU time of a proposal."""
    table = Table(
        title=f"CPU ms after {part.settings['known']:,} trials in 10 dimensions", title_justify="left", caption=""
    )
    headers = [f"{space}: {what}" for space in part.problems for what in ("ask, median", "p99", "tell, median")]
    for place, header in enumerate(("", "asks", *headers)):
        table.add_column(header, justify="right" if place else "left")
    goals = []
    for name, record in records.items():
        cells = []
        for space in part.problems:
            asks, tells = record.rows[space][0]
            worst = float(np.quantile(asks, 0.99))
            cells += [f"{np.median(asks):.1f}", f"{worst:.1f}", f"{np.median(tells):.1f}"]
            if name == MAIN:
                goals.append(Goal(f"ms of an ask of {MAIN}, p99, {space}", worst, _COST_MS, at_least=False, form=".1f"))
        table.add_row(name, str(len(asks)), *cells)
    console.print(table)
    return goals


REPORTS: dict[str, Report] = {
    "tables": report_tables,
    "bbob": report_bbob,
    "workers": report_workers,
    "cost": report_cost,
}
