"""The page and the table that put several searches side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Group as Renderables
from rich.console import RenderableType
from rich.table import Table as TerminalTable
from rich.text import Text as TerminalText

from hpo_spark.exchange.files import write_file
from hpo_spark.plain import canonical, plain_text
from hpo_spark.report.comparison import Comparison, Group, Progress
from hpo_spark.report.grouping import problem_differences
from hpo_spark.report.labels import for_plotly, short
from hpo_spark.report.page import Block, Plot, Section, Source, Table, Text, render
from hpo_spark.report.plots import NothingToShow, dressed, graph_objects
from hpo_spark.report.run import Run
from hpo_spark.report.sections import attempt
from hpo_spark.report.write import check_extra
from hpo_spark.results.tables import format_param, format_seconds, format_value

if TYPE_CHECKING:
    import plotly.graph_objects

__all__ = ["comparison_table", "write_comparison"]

_COLOURS = (
    "#4c78a8",
    "#f58518",
    "#54a24b",
    "#e45756",
    "#72b7b2",
    "#b279a2",
    "#eeca3b",
    "#9d755d",
    "#ff9da6",
    "#79706e",
)
_NEVER = "-"
# Of two problems that differ in more, the table says how many.
_MAX_DIFFERENCES = 5

Blocks = Iterator[Block]


def write_comparison(comparison: Comparison, out: str | os.PathLike[str]) -> None:
    """Write the page.

    Args:
        comparison: The searches.
        out: Path or URL.

    Raises:
        ConfigError: If it cannot be written.
        MissingExtra: If what draws it is not installed.
    """
    check_extra()
    parts: list[tuple[str, str, Callable[[], Blocks]]] = [
        ("runs", "Runs", lambda: iter([Table(*_runs(comparison)), *map(Text, _notes(comparison))])),
        ("reach", "Evaluations and machine time to reach a value", lambda: _reach_blocks(comparison)),
        ("curves", "Best value so far", lambda: _curves(comparison)),
        ("best", "Parameters of the best", lambda: iter([Table(*_best(comparison))])),
        ("spaces", "Search spaces", lambda: _spaces(comparison)),
    ]
    sections = [Section(name, title, attempt(title, part)) for name, title, part in parts]
    subtitle = f"{len(comparison.runs)} runs, {len(comparison.groups)} method(s)"
    write_file(out, render("Comparison", subtitle, sections))


def comparison_table(comparison: Comparison) -> RenderableType:
    """The same for a terminal."""
    return Renderables(
        _terminal("Runs", *_runs(comparison)),
        *map(TerminalText, _notes(comparison)),
        TerminalText(),
        _terminal("Evaluations and machine time to reach a value", *_reach(comparison)),
        TerminalText(),
        _terminal("Parameters of the best", *_best(comparison)),
    )


Rows = tuple[list[str], list[list[str]]]


def _runs(comparison: Comparison) -> Rows:
    several, problems = comparison.n_objectives > 1, len(comparison.problems) > 1
    headers = ["run", "searcher", "seed", *(["problem"] if problems else []), "trials", "failed", "best value"]
    headers += ["hypervolume", "front"] if several else []
    headers += ["machine time", "search time", "slots used", "state"]
    rows = []
    for run, name, volume in zip(
        comparison.runs,
        comparison.names,
        comparison.hypervolumes if several else [None] * len(comparison.runs),
        strict=True,
    ):
        row = [name, run.searcher_text, str(run.record.seed), *([comparison.problem_of(run)] if problems else [])]
        row += [str(len(run.trials)), str(len(run.failed)), _best_value(run)]
        if several:
            row += [_NEVER if volume is None else format_value(volume), str(len(run.view().front))]
        use = _NEVER if run.slot_use is None else f"{run.slot_use:.0%} of {run.slots}"
        rows.append([*row, format_seconds(run.machine_seconds), format_seconds(run.record.seconds), use, run.state])
    return headers, rows


def _best_value(run: Run) -> str:
    """The best value; of a winner that was trained again the mean, its deviation and how often."""
    value = " / ".join(map(format_value, run.best_values)) or _NEVER
    if (winner := run.winner) is None:
        return value
    return value + ("" if winner.std is None else f" ± {format_value(winner.std)}") + f" (n={winner.n})"


def _notes(comparison: Comparison) -> Iterator[str]:
    """What a reader of the table of runs must know."""
    first = comparison.problems[0][0]
    for own in comparison.problems[1:]:
        found = problem_differences(first, own[0])
        said = "; ".join(f"{key}: {_said(old)} -> {_said(new)}" for key, old, new in found[:_MAX_DIFFERENCES])
        more = f"; and {len(found) - _MAX_DIFFERENCES} more" if len(found) > _MAX_DIFFERENCES else ""
        yield (
            f"Problem {comparison.problem_of(own[0])} is not problem A, so that their values do not compare: "
            f"{said}{more}."
        )
    if any(run.winner for run in comparison.runs):
        yield "The best value of a run that trained its best again is the winner's mean over its n repeats."
    if comparison.n_objectives > 1 and (point := comparison.reference_point) is not None:
        yield f"Hypervolumes are measured from {' / '.join(map(format_value, point))}."


def _said(value: Any) -> str:
    return "none" if value is None else short(plain_text(value), 60)


def _reach(comparison: Comparison) -> Rows:
    headers = ["method", "runs", "median best"]
    headers += [f"to {format_value(value)}" for value in comparison.values]
    rows = []
    for group in comparison.groups:
        bests = [run.best_values[0] for run in group.runs if run.best_values]
        row = [group.label, str(len(group.runs)), format_value(float(median(bests))) if bests else _NEVER]
        rows.append(row + [_reached(group.progress, value, comparison.maximize) for value in comparison.values])
    return headers, rows


def _reached(progress: Sequence[Progress], value: float, maximize: bool) -> str:
    reached = [found for one in progress if (found := one.reach(value, maximize)) is not None]
    if not reached:
        return _NEVER
    evaluations = median(count for count, _ in reached)
    seconds = median(seconds for _, seconds in reached)
    text = f"{evaluations:g} trials, {format_seconds(seconds)}"
    return text if len(reached) == len(progress) else f"{text} ({len(reached)} of {len(progress)} runs)"


def _reach_blocks(comparison: Comparison) -> Blocks:
    if not comparison.values:
        raise NothingToShow("No run has a value.")
    yield Table(*_reach(comparison))
    yield Text(
        "Medians over the runs that reached the value. Machine time is what the trials took that had ended by then, "
        "all slots together; trials that failed count."
    )


def _curves(comparison: Comparison) -> Blocks:
    for over, axis in (("evaluations", "trials that have ended"), ("seconds", "machine time, s")):
        yield Plot.of(_figure(comparison, over, axis), f"By {axis}")
    yield Text(
        "The line is the median over the runs of a method, and the band lies between their quartiles. It begins when "
        "all of them have a value, and a run that has ended keeps its last."
    )


def _figure(comparison: Comparison, over: str, axis: str) -> plotly.graph_objects.Figure:
    go = graph_objects()
    figure = go.Figure()
    for place, group in enumerate(comparison.groups):
        _add_band(figure, go, group, over, _COLOURS[place % len(_COLOURS)])
    if not figure.data:
        raise NothingToShow("No run has a value.")
    dressed(figure, height=460)
    figure.update_xaxes(title=axis, rangemode="tozero")
    figure.update_yaxes(title="best " + comparison.runs[0].view().objectives[0])
    return figure


def _add_band(figure: Any, go: Any, group: Group, over: str, colour: str) -> None:
    band = group.band(over)
    if band is None:
        return
    label = for_plotly(short(group.label, 60))
    step = {"shape": "hv", "color": colour}
    if len(group.runs) > 1:
        edge = {"mode": "lines", "legendgroup": label, "showlegend": False, "hoverinfo": "skip"}
        figure.add_trace(go.Scatter(x=band.x, y=band.high, line={**step, "width": 0}, **edge))
        figure.add_trace(
            go.Scatter(
                x=band.x, y=band.low, line={**step, "width": 0}, fill="tonexty", fillcolor=_faint(colour), **edge
            )
        )
    name = label if len(group.runs) == 1 else f"{label}, {len(group.runs)} runs"
    figure.add_trace(
        go.Scatter(x=band.x, y=band.median, mode="lines", name=name, legendgroup=label, line={**step, "width": 2})
    )


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.2)"


def _best(comparison: Comparison) -> Rows:
    bests = [run.best for run in comparison.runs]
    params = list(dict.fromkeys(name for trial in bests if trial for name in trial.params))
    rows = [
        [name, _NEVER if trial is None else str(trial.number)]
        + [
            _NEVER if trial is None or parameter not in trial.params else format_param(trial.params[parameter])
            for parameter in params
        ]
        for name, trial in zip(comparison.names, bests, strict=True)
    ]
    return ["run", "trial", *params], rows


def _spaces(comparison: Comparison) -> Blocks:
    by_space: dict[str, list[Group]] = {}
    for group in comparison.groups:
        by_space.setdefault(canonical(group.runs[0].record.study["space"]), []).append(group)
    for groups in by_space.values():
        everyone = len(by_space) == 1
        yield Text("All runs searched the same space." if everyone else ", ".join(group.label for group in groups))
        lines = (f"{name}: {canonical(spec)}" for name, spec in groups[0].runs[0].space.to_dict().items())
        yield Source("\n".join(lines))


def _terminal(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> TerminalTable:
    table = TerminalTable(title=title, title_justify="left", title_style="bold")
    for place, header in enumerate(headers):
        table.add_column(TerminalText(header), overflow="fold", justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*map(TerminalText, row))
    return table
