"""How a search goes, while it goes: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hpo_spark.results.result import Result
from hpo_spark.results.tables import format_params, format_value
from hpo_spark.study import Callback, Study
from hpo_spark.trial import Trial, TrialState

__all__ = ["LiveProgress", "PlainProgress"]


class PlainProgress(Callback):
    """A line for each trial that ends.

    Args:
        console: Where to write.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def on_trial_end(self, study: Study, trial: Trial) -> None:
        """Write one line."""
        outcome = trial.reason if trial.values is None else " / ".join(map(format_value, trial.values))
        seconds = "" if trial.seconds is None else f" in {trial.seconds:.1f} s"
        line = f"trial {trial.number} {trial.state.lower()}{seconds}: {outcome} [{format_params(trial.params)}]"
        best = study.best_trial
        if best is not None:
            line += f" best: {format_value(best.value)} (trial {best.number})"
        self._console.print(Text(line), soft_wrap=True)


class LiveProgress(Callback):
    """One line that is renewed: trials done, best value, slots busy, time left.

    Args:
        console: A terminal.
        slots: Tells how many trials can run at once now.
        max_trials: Trials that there will be; None where nobody knows.
    """

    def __init__(self, console: Console, slots: Callable[[], int], max_trials: int | None) -> None:
        self._console = console
        self._slots = slots
        self._max_trials = max_trials
        self._live: Live | None = None
        self._started = time.monotonic()
        self._study: Study | None = None

    def on_study_start(self, study: Study) -> None:
        """Begin to show the line."""
        self._study = study
        self._started = time.monotonic()
        self._live = Live(get_renderable=self._line, console=self._console, refresh_per_second=2, transient=True)
        self._live.start()

    def on_trial_end(self, study: Study, trial: Trial) -> None:
        """Write the reason of a failure above the line."""
        if trial.state not in (TrialState.COMPLETED, TrialState.PRUNED, TrialState.CANCELLED):
            self._console.print(Text(f"trial {trial.number} {trial.state.lower()}: {trial.reason}", style="red"))

    def on_study_end(self, study: Study, result: Result) -> None:
        """Take the line away."""
        self.stop()

    def stop(self) -> None:
        """Take the line away; harmless when there is none."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _line(self) -> Table:
        study = self._study
        assert study is not None
        trials, best, seconds = study.trials, study.best_trial, time.monotonic() - self._started
        n_pruned = sum(trial.state is TrialState.PRUNED for trial in trials)
        n_failed = sum(trial.values is None for trial in trials) - n_pruned
        of = f"/{self._max_trials}" if self._max_trials else ""
        parts: list[Any] = [Text(study.name, style="bold"), f"trials {len(trials)}{of}"]
        if n_pruned:
            parts.append(f"pruned {n_pruned}")
        if n_failed:
            parts.append(f"[red]failed {n_failed}[/red]")
        parts.append(
            f"best [bold green]{format_value(best.value)}[/bold green] (trial {best.number})" if best else "best -"
        )
        slots = self._slots()
        parts.append(f"slots {min(study.n_tasks, slots)}/{slots}")
        parts.append(f"{_clock(seconds)} gone")
        if self._max_trials and trials:
            parts.append(f"{_clock(seconds / len(trials) * (self._max_trials - len(trials)))} left")
        grid = Table.grid(padding=(0, 2))
        grid.add_row(*parts)
        return grid


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
