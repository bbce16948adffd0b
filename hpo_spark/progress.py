"""How a search goes, while it goes: a live panel in a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpo_spark.pace import time_left
from hpo_spark.results.leaders import Leaders
from hpo_spark.results.result import Result
from hpo_spark.results.tables import format_params, format_seconds, format_value
from hpo_spark.study import Callback, Study
from hpo_spark.trial import Trial, TrialState

__all__ = ["LiveProgress", "PlainProgress", "bars", "outcome_line"]

_CHART_ROWS, _CHART_COLUMNS = 3, 48
_BLOCKS, _PLAIN_BLOCKS = " ▁▂▃▄▅▆▇█", " .:|"
# Columns of what each line of the panel is.
_NAMES_WIDTH = 8


class PlainProgress(Callback):
    """A line for each trial that ends.

    Args:
        console: Where to write.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def on_trial_end(self, study: Study, trial: Trial) -> None:
        """Write one line."""
        line = outcome_line(trial)
        best = study.best_trial
        if best is not None:
            line += f" best: {format_value(best.value)} (trial {best.number})"
        self._console.print(Text(line), soft_wrap=True)


class LiveProgress(Callback):
    """A panel that is renewed: trials by state, the best and its params, values over time, slots busy, time left.

    Args:
        console: A terminal.
        slots: Tells how many trials can run at once now.
        verbose: Whether each trial that ends has a line above the panel; else only those that fail have.
    """

    def __init__(self, console: Console, slots: Callable[[], int], verbose: bool = False) -> None:
        self._console = console
        self._slots = slots
        self._verbose = verbose
        self._live: Live | None = None
        self._study: Study | None = None
        self._leaders = Leaders(())
        self._counts: Counter[TrialState] = Counter()
        self._bests: list[float] = []
        self._n_before = 0
        self._seconds: list[float] = []
        self._started = time.monotonic()

    def on_study_start(self, study: Study) -> None:
        """Begin to show the panel."""
        self._study = study
        self._leaders = Leaders(study.directions)
        self._started = time.monotonic()
        for trial in study.trials:
            self._count(trial)
        self._n_before = len(self._seconds)
        self._live = Live(get_renderable=self._panel, console=self._console, refresh_per_second=2, transient=True)
        self._live.start()

    def on_trial_end(self, study: Study, trial: Trial) -> None:
        """Count it, and write a line above the panel where somebody wants to know."""
        self._count(trial)
        failed = trial.state.is_failure
        if failed or self._verbose:
            line = outcome_line(trial) if self._verbose else f"trial {trial.number} {_said(trial)}: {trial.reason}"
            self._console.print(Text(line, style="red" if failed else ""), soft_wrap=True)

    def on_study_end(self, study: Study, result: Result) -> None:
        """Take the panel away."""
        self.stop()

    def stop(self) -> None:
        """Take the panel away; harmless when there is none."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _count(self, trial: Trial) -> None:
        self._counts[trial.state] += 1
        if trial.seconds is not None:
            self._seconds.append(trial.seconds)
        if trial.repeat is not None:  # whose value says nothing of the search
            return
        self._leaders.add(trial)
        if trial.values and (best := self._leaders.best) is not None and best.values:
            self._bests.append(best.values[0])

    def _panel(self) -> Panel:
        study = self._study
        assert study is not None
        rows = Table.grid(padding=(0, 1))
        rows.add_column(style="dim", min_width=_NAMES_WIDTH)
        rows.add_column(overflow="fold")
        rows.add_row("trials", self._trials(study))
        best = self._leaders.best
        if best is None:
            rows.add_row("best", "none yet")
        else:
            value = " / ".join(map(format_value, best.values or []))
            rows.add_row("best", Text.assemble((value, "bold green"), f" (trial {best.number})"))
            rows.add_row("", Text(format_params(best.params)))
            rows.add_row("history", self._chart())
        slots = self._slots()
        rows.add_row("slots", f"{min(study.n_tasks, slots)} of {slots} busy")
        rows.add_row("time", self._time(study))
        return Panel(rows, title=Text(study.name, style="bold"), title_align="left", expand=False)

    def _trials(self, study: Study) -> RenderableType:
        done, left = self._counts.total(), study.n_left
        limit = None if left is None else done + left
        running = min(study.n_running, self._slots())
        n_failed = sum(n for state, n in self._counts.items() if state.is_failure)
        said = Text.assemble(
            (f"{done}" + (f" of {limit}" if limit else ""), "bold"),
            " done",
            f", {running} running",
            (f", {n_failed} failed", "red" if n_failed else ""),
            f", {self._counts[TrialState.PRUNED]} pruned",
        )
        if n_cancelled := self._counts[TrialState.CANCELLED]:
            said.append(f", {n_cancelled} cancelled")
        if not limit:
            return said
        return Group(said, ProgressBar(total=limit, completed=done, width=_CHART_COLUMNS))

    def _chart(self) -> RenderableType:
        """The best value of the first objective, after each trial that had one."""
        is_plain = not (self._console.encoding or "").lower().startswith("utf")
        lines = bars(self._bests, _CHART_ROWS, _CHART_COLUMNS, _PLAIN_BLOCKS if is_plain else _BLOCKS)
        low, high = min(self._bests), max(self._bests)
        ends = [format_value(high), *([""] * (_CHART_ROWS - 2)), format_value(low)]
        return Text("\n").join(
            Text.assemble((line, "cyan"), (f" {end}", "dim")) for line, end in zip(lines, ends, strict=True)
        )

    def _time(self, study: Study) -> str:
        left = []
        if (n_left := study.n_left) is not None:
            mean_s = statistics.fmean(self._seconds) if self._seconds else None
            n_ended, gone_s = len(self._seconds) - self._n_before, time.monotonic() - self._started
            left.append(time_left(n_left, n_ended, gone_s, mean_s, self._slots()))
        left.append(study.seconds_left)
        known = [seconds for seconds in left if seconds is not None]
        gone = f"{format_seconds(study.seconds)} gone"
        return gone + (f", about {format_seconds(min(known))} left" if known else "")


def outcome_line(trial: Trial) -> str:
    """How a trial ended, in one line."""
    outcome = trial.reason if trial.values is None else " / ".join(map(format_value, trial.values))
    seconds = "" if trial.seconds is None else f" in {trial.seconds:.1f} s"
    return f"trial {trial.number} {_said(trial)}{seconds}: {outcome} [{format_params(trial.params)}]"


def bars(values: Sequence[float], n_rows: int, n_columns: int, blocks: str = _BLOCKS) -> list[str]:
    """Numbers as a bar chart of text, the lowest still to be seen.

    Args:
        values: In their order; of more than there are columns, the last of each span is shown.
        n_rows, n_columns: Size in characters.
        blocks: From an empty character to a full one.

    Returns:
        The lines from the top down.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return [""] * n_rows
    n_bars = min(len(finite), n_columns)
    edges = [round(place * len(finite) / n_bars) for place in range(n_bars + 1)]
    shown = [finite[end - 1] for _, end in pairwise(edges)]
    low, high = min(shown), max(shown)
    full = len(blocks) - 1
    steps = n_rows * full
    heights = [1 + round((steps - 1) * ((value - low) / (high - low) if high > low else 1.0)) for value in shown]
    return [
        "".join(blocks[max(0, min(full, height - row * full))] for height in heights) for row in reversed(range(n_rows))
    ]


def _said(trial: Trial) -> str:
    return trial.state.lower()
