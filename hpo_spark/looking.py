"""The commands that look at searches, while they run and afterwards: ``show``, ``report``, ``compare``."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.text import Text

from hpo_spark.errors import ConfigError, MissingExtra
from hpo_spark.plain import to_finite
from hpo_spark.report.run import Run
from hpo_spark.results.columns import csv_of
from hpo_spark.results.listing import BEST, sorted_trials, trials_table
from hpo_spark.terminal import FINISHED, log_to, open_console

__all__ = ["compare", "report", "show"]

_Folder = Annotated[str, typer.Argument(metavar="DIR", help="A run folder, a path or a URL; its journal is read.")]


def show(
    folder: _Folder,
    top: Annotated[int | None, typer.Option(min=1, metavar="N", help="The first N only.")] = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="COLUMN",
            help="best, best first; or a column, ascending: number, seconds, value, mean, a parameter, ...",
        ),
    ] = BEST,
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a list of records.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, with the columns of trials.csv.")] = False,
) -> int:
    """Show the trials of a search, sorted."""
    if as_json and as_csv:
        raise ConfigError("--json and --csv: choose one of the two.")
    run = Run.read(folder)
    trials = sorted_trials(run.trials, run.directions, sort, reverse, run.confirmed)[:top]
    if as_json:
        repeats = {one.original.number: one.to_dict() for one in run.confirmed}
        # Their searcher's own are of no use to anybody else.
        records = [{k: v for k, v in trial.to_record().items() if k != "token"} for trial in trials]
        records = [
            {**own, **({"confirmed": repeats[own["number"]]} if own["number"] in repeats else {})} for own in records
        ]
        typer.echo(json.dumps(to_finite(records), ensure_ascii=False, indent=2))
    elif as_csv:
        typer.echo(csv_of(trials), nl=False)
    else:
        of = f"{len(trials)} of {len(run.trials)}" if len(trials) < len(run.trials) else str(len(trials))
        console = open_console()
        console.print(Text(f"{run.name}: {of} trial(s), {run.state}", style="bold"))
        if trials:
            console.print(trials_table(trials, run.confirmed))
        if (winner := run.winner) is not None:
            said = (
                f"best: trial {winner.original.number}, by the mean of {winner.n} repeats; its model is that of trial"
            )
            console.print(Text(f"{said} {winner.trial.number}, the median of them"))
    return FINISHED


def report(
    folder: _Folder,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where the page goes; report.html in DIR by default.")
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="The main plots too, as PNG files in DIR/plots.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep the page current until the search ends; it reloads itself.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, metavar="S", help="With --watch, seconds between two looks.")] = 10.0,
) -> int:
    """Write the report of a search: one page that needs no network."""
    from hpo_spark.report import write

    log_to(open_console(stderr=True))
    if watch:
        try:
            for number, place in enumerate(write.watch(folder, out, every)):
                if number == 0:
                    typer.echo(f"{place} is kept current until the search ends, or Ctrl-C.")
        except KeyboardInterrupt:
            typer.echo("The page stays as it is.")
            return FINISHED
    else:
        typer.echo(write.write_report(folder, out))
    if png:
        for place in write.write_pictures(folder):
            typer.echo(place)
    return FINISHED


def compare(
    folders: Annotated[list[str], typer.Argument(metavar="DIR DIR ...", help="Run folders, two or more.")],
    reach: Annotated[
        list[float] | None,
        typer.Option(metavar="VALUE", help="A value to reach, may be repeated; what the runs reached by default."),
    ] = None,
    out: Annotated[str, typer.Option(metavar="FILE", help="Where the page goes.")] = "compare.html",
) -> int:
    """Compare searches: a table here, and a page with their curves."""
    from hpo_spark.report.compare import comparison_table, write_comparison
    from hpo_spark.report.comparison import Comparison

    comparison = Comparison([Run.read(folder) for folder in folders], reach)
    open_console().print(comparison_table(comparison))
    try:
        write_comparison(comparison, out)
    except MissingExtra as error:
        typer.echo(f"no {out}: {error}")
        return FINISHED
    typer.echo(f"\n{out}")
    return FINISHED
