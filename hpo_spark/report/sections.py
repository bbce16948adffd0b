"""The parts of a report. One that fails says why in its place, and the others are there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from shlex import quote
from typing import Any

from hpo_spark import yaml
from hpo_spark.losses import as_losses
from hpo_spark.plain import canonical, to_finite
from hpo_spark.redaction import redact
from hpo_spark.report import plots
from hpo_spark.report.labels import short
from hpo_spark.report.page import Block, Plot, Problem, Section, Source, Table, Text
from hpo_spark.report.plots import NothingToShow
from hpo_spark.report.run import Run
from hpo_spark.report.timeline import timeline
from hpo_spark.report.view import View
from hpo_spark.results.front import hypervolume
from hpo_spark.results.tables import format_param, format_seconds, format_value
from hpo_spark.trial import Trial

__all__ = ["attempt", "sections_of"]

logger = logging.getLogger(__name__)

_HALL_OF_FAME = 10
_MAX_ROWS = 200
_LONGEST_REASON = 500

Blocks = Iterator[Block]


def sections_of(run: Run) -> list[Section]:
    """All sections of the report of a search."""
    view = run.view()
    several = len(run.directions) > 1
    parts: list[tuple[str, str, Callable[[], Blocks]]] = [
        ("summary", "Summary", lambda: _summary(run)),
        ("best", "Best trial and hall of fame", lambda: _best(run, view)),
        ("history", "History", lambda: _each(view, plots.history, "History")),
        ("parallel", "Parallel coordinates", lambda: _parallel(view)),
        ("slices", "Slices", lambda: _each(view, plots.slices, "Slices")),
        ("contours", "Contours", lambda: _contours(view)),
        ("importances", "Parameter importances", lambda: _importances(view)),
        ("curves", "Learning curves", lambda: _curves(view)),
    ]
    if several:
        parts.append(("pareto", "Pareto front and hypervolume", lambda: _front(view)))
    parts += [
        ("timeline", "Timeline of slots", lambda: _timeline(run)),
        ("failures", "Failed trials", lambda: _failures(run)),
        ("environment", "Environment, and how to run it again", lambda: _environment(run)),
    ]
    return [Section(name, title, attempt(title, part)) for name, title, part in parts]


def attempt(what: str, part: Callable[[], Blocks]) -> list[Block]:
    """What a part of a page holds, up to what fails in it, and then why."""
    blocks: list[Block] = []
    try:
        blocks.extend(part())
    except NothingToShow as error:
        blocks.append(Text(str(error)))
    except Exception as error:
        logger.warning("the report's section %r is not whole: %s: %s", what, type(error).__name__, error)
        logger.debug("the cause", exc_info=True)
        blocks.append(Problem(redact(f"This could not be made: {type(error).__name__}: {error}")))
    return blocks


def _summary(run: Run) -> Blocks:
    record, settings = run.record, run.settings
    counts = ", ".join(f"{n} {state.lower().replace('_', ' ')}" for state, n in run.counts.items())
    rows = [("state", run.state)]
    if record.end is not None and record.end.get("reason"):
        rows.append(("ended", str(record.end["reason"])))
    rows += [
        ("trials", f"{len(run.trials)}" + (f": {counts}" if counts else "")),
        ("searcher", run.searcher_text),
        ("direction", " / ".join(run.directions)),
    ]
    if run.is_running:
        rows.append(("in flight", str(len(record.unfinished))))
        if (limit := settings.get("max_trials")) is not None:
            rows.append(("limit", f"{limit} trials"))
    if (best := run.best) is not None:
        rows.append(("best value", f"{_values(best)} (trial {best.number})"))
    if (winner := run.winner) is not None:
        std = "" if winner.std is None else f", standard deviation {format_value(winner.std)}"
        rows.append(
            (
                "confirmed",
                f"{format_value(winner.mean)}, mean of {winner.n} repeats of trial {winner.original.number}{std}",
            )
        )
    rows += [(f"test {name}", format_value(score)) for name, score in ((record.tested or {}).get("test") or {}).items()]
    rows += [
        ("search time", format_seconds(record.seconds)),
        ("machine time", f"{format_seconds(run.machine_seconds)}, all slots together"),
        ("slots", str(run.slots) + ("" if run.slot_use is None else f", {run.slot_use:.0%} used")),
        ("seed", str(record.seed)),
        ("made", time.strftime("%Y-%m-%d %H:%M:%S %z")),
    ]
    yield Table((), rows)


def _best(run: Run, view: View) -> Blocks:
    best = run.best
    if best is None:
        yield Text("No trial has a value yet." if run.is_running or not run.trials else "No trial succeeded.")
        return
    facts = [("trial", str(best.number)), ("value", _values(best))]
    facts += [(name, format_param(value)) for name, value in best.params.items()]
    fixed: Mapping[str, Any] = run.record.study.get("fixed") or {}
    facts += [(f"{name} (fixed)", format_param(value)) for name, value in fixed.items()]
    facts += [(name, format_value(value)) for name, value in best.metrics.items()]
    yield Table((), facts, f"Trial {best.number}")
    if run.confirmed:
        yield Table(
            ("trial", "mean", "standard deviation", "n", "failed", "values"),
            [
                [
                    str(one.original.number),
                    format_value(one.mean),
                    "-" if one.std is None else format_value(one.std),
                    str(one.n),
                    str(one.n_failed),
                    " / ".join(map(format_value, one.values)),
                ]
                for one in run.confirmed
            ],
            "Trained again with other seeds; the best mean wins",
        )
    chosen = view.front if len(run.directions) > 1 else run.ranked
    title = "Pareto front" if len(run.directions) > 1 else "Hall of fame"
    shown = chosen[:_HALL_OF_FAME]
    params = list(dict.fromkeys(name for trial in shown for name in trial.params))
    fidelity = ["fidelity"] if any(trial.fidelity is not None for trial in shown) else []
    headers = ["trial", *run.view(escape=str).objectives, *fidelity, "seconds", *params]
    rows = [
        [
            str(trial.number),
            *map(format_value, trial.values or []),
            *([str(trial.fidelity or "")] if fidelity else []),
            _seconds(trial),
            *(format_param(trial.params[name]) if name in trial.params else "-" for name in params),
        ]
        for trial in shown
    ]
    yield Table(headers, rows, title)
    if len(chosen) > len(shown):
        yield Text(f"The first {len(shown)} of {len(chosen)}.")


def _each(view: View, plot: Callable[[View, int], Any], what: str) -> Blocks:
    """A plot for each objective."""
    if (note := _of_what(view)) is not None:
        yield Text(note)
    names = replace(view, escape=str).objectives
    for objective, name in enumerate(names):
        title = f"Objective {objective}: {name}" if len(names) > 1 else None
        yield from _drawn(what, lambda objective=objective: plot(view, objective), title)  # type: ignore[misc]
    if what == "Slices" and len(view.comparable) > plots.N_POINTS:
        yield Text(_sample_note(plots.N_POINTS, view))


def _parallel(view: View) -> Blocks:
    yield from _drawn("Parallel coordinates", lambda: plots.parallel(view))
    if len(view.comparable) > plots.N_LINES:
        yield Text(_sample_note(plots.N_LINES, view))


def _contours(view: View) -> Blocks:
    yield from _each(view, plots.contour, "Contours")
    if len(view.comparable) > plots.N_GRID:
        yield Text(_sample_note(plots.N_GRID, view))
    if len(view.active) > plots.N_PAIRED:
        yield Text(f"The {plots.N_PAIRED} most important of {len(view.active)} parameters are shown.")


def _importances(view: View) -> Blocks:
    yield from _each(view, plots.importances, "Importances")
    if 2 <= len(view.comparable) < 50:
        yield Text(
            f"By PED-ANOVA, which looks at the best tenth: of {len(view.comparable)} trials that is few, "
            "and the importances are rough."
        )
    elif len(view.comparable) > plots.N_POINTS:
        yield Text(f"By {plots.N_POINTS} of {len(view.comparable)} trials, an even draw.")


def _curves(view: View) -> Blocks:
    yield from _drawn("Learning curves", lambda: plots.curves(view))
    if running := [str(trial.number) for trial in view.running if trial.curve]:
        yield Text(f"Still running, and shown as far as they have come: {', '.join(running[:_MAX_ROWS])}.")
    n_told = sum(bool(trial.curve) for trial in (*view.trials, *view.running))
    if n_told > plots.N_CURVES:
        yield Text(f"{plots.N_CURVES} of {n_told} trials: the best, and an even draw of the others.")


def _front(view: View) -> Blocks:
    yield from _drawn("Pareto front", lambda: plots.pareto(view))
    if view.comparable:
        reference = plots.reference_of(view)
        front = [as_losses(trial.values or [], view.directions) for trial in view.front]
        volume = hypervolume(front, as_losses(reference, view.directions))
        yield Text(
            f"{len(view.front)} trial(s) are on the front. Its hypervolume is {format_value(volume)}, measured from "
            f"{' / '.join(map(format_value, reference))}"
            + ("." if view.reference_point is not None else ", the worst value of each objective.")
        )
    yield from _drawn("Hypervolume", lambda: plots.hypervolume(view), "Hypervolume")


def _timeline(run: Run) -> Blocks:
    if run.slot_use is not None and run.trials:
        time_of_search = format_seconds(run.record.seconds)
        yield Text(f"{run.slots} slot(s) ran trials for {run.slot_use:.1%} of the search's {time_of_search}.")
    yield from _drawn("Timeline", lambda: timeline(run.trials, run.slots))
    again = [trial for trial in run.trials if trial.attempt > 1]
    if not again:
        yield Text("No trial was run again.")
        return
    rows = [
        [str(trial.number), str(trial.attempt), trial.state.lower(), trial.host or "", _seconds(trial)]
        for trial in again[:_MAX_ROWS]
    ]
    yield Table(("trial", "attempts", "ended as", "last host", "last seconds"), rows, f"{len(again)} run again")
    yield from _beyond(again)


def _failures(run: Run) -> Blocks:
    failed = run.failed
    if not failed:
        yield Text("No trial failed.")
        return
    by_reason: dict[tuple[str, str], list[Trial]] = {}
    for trial in failed:
        by_reason.setdefault((str(trial.state), trial.reason or ""), []).append(trial)
    ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    rows = [
        [str(len(trials)), state.lower().replace("_", " "), short(reason, _LONGEST_REASON), str(trials[0].number)]
        for (state, reason), trials in ordered
    ]
    title = f"{len(failed)} of {len(run.trials)} trials failed, for {len(rows)} reason(s)"
    yield Table(("trials", "how", "reason", "first"), rows[:_MAX_ROWS], title)
    yield from _beyond(rows)
    yield Table(
        ("trial", "how", "host", "attempt", "seconds", "params", "reason"),
        [
            [
                str(trial.number),
                trial.state.lower().replace("_", " "),
                trial.host or "",
                str(trial.attempt),
                _seconds(trial),
                ", ".join(f"{name}={format_param(value)}" for name, value in trial.params.items()),
                short(trial.reason or "", _LONGEST_REASON),
            ]
            for trial in failed[:_MAX_ROWS]
        ],
        "Trial by trial",
    )
    yield from _beyond(failed)
    yield Text("The whole error of a trial, and what it printed, is in logs/trial-NUMBER.log in the run folder.")


def _environment(run: Run) -> Blocks:
    specs = run.space.to_dict()
    rows = [
        [name, ", ".join(f"{key}: {canonical(to_finite(value))}" for key, value in spec.items())]
        for name, spec in specs.items()
    ]
    yield Table(("parameter", "what it may be"), rows, "Search space")
    yield Table((), [(name, str(version)) for name, version in run.record.versions.items()], "Versions")
    hosts: dict[str, int] = {}
    for trial in run.trials:
        if trial.host:
            hosts[trial.host] = hosts.get(trial.host, 0) + 1
    if hosts:
        yield Table(("host", "trials"), [(host, str(n)) for host, n in sorted(hosts.items())], "Hosts")
    if "executor" in run.record.study:
        again = f"hpo-spark run {quote(f'{run.place}/study.yaml')} --out runs/again"
        yield Text("The search again, from its study file and with its seed; and on from where it ended:")
        yield Source(f"{again}\nhpo-spark resume {quote(run.place)} --set study.max_trials=N")
    else:
        yield Text(
            f"A Python program began this search: run it again, with seed={run.record.seed}. The study as it was:"
        )
    yield Source(yaml.dump(run.record.study))


def _drawn(what: str, draw: Callable[[], Any], title: str | None = None) -> Blocks:
    """A plot; or what prevents it, in a sentence."""
    yield from attempt(what, lambda: iter([Plot.of(draw(), title)]))


def _of_what(view: View) -> str | None:
    """Which trials are shown, where it is not all that completed."""
    completed = [trial for trial in view.trials if trial.values]
    if len(view.comparable) == len(completed):
        return None
    top = max((trial.fidelity for trial in view.comparable if trial.fidelity is not None), default=None)
    at = "" if top is None else f" at the highest fidelity, {top}"
    return f"{len(view.comparable)} of {len(completed)} completed trials are shown: those of the search itself{at}."


def _sample_note(n: int, view: View) -> str:
    return f"{n} of {len(view.comparable)} trials: the best third, and an even draw of the others."


def _beyond(rows: Sequence[Any]) -> Blocks:
    if len(rows) > _MAX_ROWS:
        yield Text(f"The first {_MAX_ROWS} of {len(rows)}.")


def _values(trial: Trial) -> str:
    return " / ".join(map(format_value, trial.values or []))


def _seconds(trial: Trial) -> str:
    return "" if trial.seconds is None else f"{trial.seconds:.2f}"
