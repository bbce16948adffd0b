"""The slots of a search over time: what ran where, how it ended, what was run again, and how many ran at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from hpo_spark.report.labels import for_plotly, short
from hpo_spark.report.plots import NothingToShow, dressed, graph_objects
from hpo_spark.report.slots import Row, Task, busy_over_time, rows_of
from hpo_spark.results.tables import format_value
from hpo_spark.trial import Trial

if TYPE_CHECKING:
    import plotly.graph_objects

__all__ = ["STATE_COLOURS", "timeline"]

STATE_COLOURS = {
    "COMPLETED": "#4c78a8",
    "PRUNED": "#f2b134",
    "FAILED": "#d62728",
    "TIMED_OUT": "#9467bd",
    "CRASHED": "#8c2d04",
    "CANCELLED": "#b0b0b0",
}
_OTHER = "#555555"
_N_BINS = 300
_ROW_PX, _MAX_ROWS_PX = 20, 900


def timeline(trials: Sequence[Trial], slots: int | None = None) -> plotly.graph_objects.Figure:
    """A row a slot, a bar a trial or a task of one, in the colour of how it ended; hatched where it was run again.

    Below is how many trials ran at once.

    Args:
        trials: Those that ran are shown.
        slots: How many could run at once; None where nobody knows.

    Raises:
        NothingToShow: If none ran.
    """
    rows = rows_of(trials)
    if not rows:
        raise NothingToShow("No trial has run on a worker yet.")
    go = graph_objects()
    from plotly.subplots import make_subplots

    height = min(_MAX_ROWS_PX, max(120, _ROW_PX * len(rows)))
    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.04,
        row_heights=[height / (height + 110), 110 / (height + 110)],
    )
    names = _names(rows)
    states = sorted({str(task.trial.state) for row in rows for task in row.tasks}, key=_order)
    for state in states:
        bars = [
            (name, task)
            for row, name in zip(rows, names, strict=True)
            for task in row.tasks
            if str(task.trial.state) == state
        ]
        figure.add_trace(
            go.Bar(
                name=state.lower().replace("_", " "),
                orientation="h",
                y=[name for name, _ in bars],
                base=[_time(task.started) for _, task in bars],
                x=[1000 * task.seconds for _, task in bars],
                text=[_hover(task) for _, task in bars],
                hovertemplate="%{text}<extra></extra>",
                textposition="none",
                marker={
                    "color": STATE_COLOURS.get(state, _OTHER),
                    "line": {"width": 0.5, "color": "white"},
                    "pattern": {"shape": ["/" if task.trial.attempt > 1 else "" for _, task in bars]},
                },
            ),
            row=1,
            col=1,
        )
    times, busy = busy_over_time(trials, _N_BINS)
    figure.add_trace(
        go.Scatter(
            x=list(map(_time, times)),
            y=busy,
            name="running",
            mode="lines",
            line={"color": "#2ca02c", "shape": "hvh"},
            fill="tozeroy",
            hovertemplate="%{y:.2f} running<extra></extra>",
        ),
        row=2,
        col=1,
    )
    if slots is not None:
        figure.add_hline(y=slots, line={"dash": "dot", "color": "#888"}, row=2, col=1)
    dressed(figure, height=height + 220, width=480)
    figure.update_layout(barmode="overlay", bargap=0.15, hovermode="closest")
    figure.update_xaxes(type="date")
    figure.update_yaxes(row=1, col=1, type="category", categoryorder="array", categoryarray=names[::-1], title="slot")
    figure.update_yaxes(row=2, col=1, title="running", rangemode="tozero")
    return figure


def _names(rows: Sequence[Row]) -> list[str]:
    """What each row is called: by its host, where there are several."""
    hosts = {row.host for row in rows}
    if len(hosts) == 1:
        return [f"{row.place} " for row in rows]  # the blank keeps Plotly from taking it for a number
    return [f"{for_plotly(short(row.host))} {row.place}" for row in rows]


def _hover(task: Task) -> str:
    trial = task.trial
    lines = [f"trial {trial.number}, {trial.state.lower()}", f"{task.seconds:.2f} s"]
    if trial.spans:
        lines[1] += f" of {trial.seconds or 0.0:.2f} s in {len(trial.spans)} tasks"
    if trial.values:
        lines.append("value " + " / ".join(map(format_value, trial.values)))
    if trial.attempt > 1:
        lines.append(f"attempt {trial.attempt}")
    if trial.reason:
        lines.append(for_plotly(short(trial.reason, 90)))
    return "<br>".join(lines)


def _time(seconds: float) -> str:
    """Seconds since the epoch as this machine's time."""
    return datetime.fromtimestamp(seconds).isoformat(sep=" ", timespec="milliseconds")


def _order(state: str) -> tuple[int, str]:
    order = list(STATE_COLOURS)
    return (order.index(state) if state in order else len(order)), state
