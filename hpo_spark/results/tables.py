"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hpo_spark.preflight import Preflight
from hpo_spark.refit import Refit
from hpo_spark.results.columns import cell_text
from hpo_spark.results.result import Result, best_first
from hpo_spark.trial import Trial

__all__ = ["format_param", "format_params", "format_seconds", "format_value", "refit_table", "summary", "workers_table"]

_HALL_OF_FAME = 5


def summary(result: Result) -> RenderableType:
    """The best trial, what was confirmed, the hall of fame and what the search cost."""
    best = result.best_trial
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("best trial", f"{best.number}: {_values(best)}{_of_repeat(result)}")
    if (volume := result.hypervolume) is not None:
        facts.add_row("Pareto front", f"{len(result.best_trials)} trial(s), hypervolume {format_value(volume)}")
    for name, score in result.test.items():
        facts.add_row(Text(f"test {name}"), Text(format_value(score)))
    if result.test_error is not None:
        facts.add_row("test", Text(f"not evaluated: {result.test_error.splitlines()[0]}"))
    for name, value in best.params.items():
        facts.add_row(Text(name), Text(format_param(value)))
    counts = ", ".join(f"{n} {state.lower().replace('_', ' ')}" for state, n in result.counts.items())
    facts.add_row(
        "trials", f"{counts}; {format_seconds(result.seconds)}, {result.slot_use:.0%} of {result.slots} slot(s) used"
    )
    if result.model_error is not None:
        facts.add_row("model", Text(result.model_error))
    facts.add_row("ended", Text(result.reason))
    confirmed: list[RenderableType] = [_confirmed_table(result), Text()] if result.confirmed else []
    return Group(facts, Text(), *confirmed, _hall_of_fame(result))


def _of_repeat(result: Result) -> str:
    if not result.confirmed:
        return ""
    winner = result.confirmed[0]
    return f", the median of {winner.n} repeat(s) of trial {winner.original.number}"


def _confirmed_table(result: Result) -> Table:
    """The configurations that were trained again, best mean first."""
    rows = []
    for one in result.confirmed:
        std = "-" if one.std is None else format_value(one.std)
        failed = f" ({one.n_failed} failed)" if one.n_failed else ""
        rows.append((one.original, [format_value(one.mean), std, f"{one.n}{failed}"]))
    return _table_of("Trained again with other seeds", ("mean", "std", "n"), rows)


def refit_table(done: Refit) -> RenderableType:
    """What came of a configuration that was trained again, beside what its trial had come to."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("trial", f"{done.trial.number}: {_values(done.trial) or done.trial.state}")
    if done.values is not None:
        table.add_row("trained again", " / ".join(map(format_value, done.values)))
    else:
        table.add_row("trained again", "on train and validation part together, so that nothing is left to validate on")
    for name, score in done.test.items():
        table.add_row(Text(f"test {name}"), Text(format_value(score)))
    if done.test_error is not None:
        table.add_row("test", Text(f"not evaluated: {done.test_error.splitlines()[0]}"))
    for name, value in done.trial.params.items():
        table.add_row(Text(name), Text(format_param(value)))
    return table


def _hall_of_fame(result: Result) -> Table:
    best = best_first(result.trials, result.directions)[:_HALL_OF_FAME]
    rows = [(one, [_values(one), "" if one.seconds is None else f"{one.seconds:.1f}"]) for one in best]
    return _table_of("Hall of fame", ("value", "seconds"), rows)


def _table_of(title: str, headers: Sequence[str], rows: Sequence[tuple[Trial, Sequence[str]]]) -> Table:
    """A row a trial: its number, a cell for each header, and its configuration."""
    params = list(dict.fromkeys(name for trial, _ in rows for name in trial.params))
    table = Table(title=title, title_justify="left", title_style="bold")
    for header in ("trial", *headers, *params):
        table.add_column(Text(header), justify="right", overflow="fold")
    for trial, cells in rows:
        values = (format_param(trial.params[p]) if p in trial.params else "-" for p in params)
        table.add_row(*map(Text, [str(trial.number), *cells, *values]))
    return table


def workers_table(found: Preflight) -> Table:
    """What each executor's workers are; what differs from the driver is red."""
    title = f"{found.n_executors} executor(s), {found.slots} slot(s)"
    table = Table(title=title, title_justify="left", title_style="bold")
    for header in ("host", "executor", *found.expected, "cores", "GPUs", "free memory", "objective"):
        table.add_column(Text(header), overflow="fold")
    expected = ["driver", "", *found.expected.values(), "", "", "", ""]
    table.add_row(*map(Text, expected), style="dim")
    for worker in found.workers:
        versions = [
            Text(own := worker.versions.get(name, "missing"), style="" if own == wanted else "red")
            for name, wanted in found.expected.items()
        ]
        loaded = Text("loads") if worker.error is None else Text(worker.error.splitlines()[0], style="red")
        memory = f"{worker.free_mb / 1000:.1f} GB"
        what = map(Text, (str(worker.cpus), worker.gpus or "-", memory))
        table.add_row(Text(worker.host), Text(str(worker.executor)), *versions, *what, loaded)
    return table


def format_value(value: Any) -> str:
    """A number in at most six digits; anything else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def format_param(value: Any) -> str:
    """A parameter's value; a text that would be taken for something else is in double quotes."""
    return "None" if value is None else format_value(value) if isinstance(value, float) else cell_text(value)


def format_params(params: dict[str, Any]) -> str:
    """A configuration in one line."""
    return " ".join(f"{name}={format_param(value)}" for name, value in params.items())


def format_seconds(seconds: float) -> str:
    """A duration."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _values(trial: Trial) -> str:
    return " / ".join(format_value(value) for value in trial.values or [])
