"""What is seen while a search runs: a panel in a terminal, lines elsewhere."""

import io
import re

from rich.console import Console

from hpo_spark import Choice, Float, SearchSpace, SerialExecutor, Study
from hpo_spark.progress import LiveProgress, PlainProgress, bars
from hpo_spark.stopping import Limits

SPACE = SearchSpace(x=Float(0, 1), kind=Choice(["good", "[red]bad[/red]"]))


def score(params):
    if params["kind"] != "good":
        raise ValueError("no [good]")
    return params["x"]


def searched(progress, console, n=12, **limits):
    """What is written, and the last panel before the end."""
    panels = []

    def look(study, trial):
        if isinstance(progress, LiveProgress):
            with console.capture() as seen:
                console.print(progress._panel())
            panels.append(seen.get())

    study = Study(SPACE, score, seed=1, callbacks=[progress, look])
    with SerialExecutor() as executor:
        result = study.run(executor, n, **limits)
    return result, re.sub(r"\x1b\[[\d;?]*\w", "", panels[-1]) if panels else ""


def test_the_panel_tells_counts_best_history_slots_and_time():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, legacy_windows=False)
    progress = LiveProgress(console, lambda: 1, Limits(max_trials=20))
    result, panel = searched(progress, console)
    n_failed = result.counts["FAILED"]
    assert f"12 of 20 done, 0 running, {n_failed} failed, 0 pruned" in panel
    assert f"(trial {result.best_trial.number})" in panel
    assert "kind=good" in panel
    assert "█" in panel or "|" in panel
    assert "0 of 1 busy" in panel
    assert re.search(r"\d:\d\d gone, about \d:\d\d left", panel)
    written = console.file.getvalue()
    assert written.count("failed: ValueError: no [good]") == n_failed
    assert "completed in" not in written


def test_verbose_adds_a_line_a_trial():
    console = Console(file=io.StringIO(), force_terminal=True, width=200, legacy_windows=False)
    result, _ = searched(LiveProgress(console, lambda: 1, Limits(), verbose=True), console)
    written = console.file.getvalue()
    assert len(re.findall(r"trial \d+ (?:completed|failed) in", written)) == len(result.trials)
    assert "[red]bad[/red]" in written


def test_where_there_is_no_terminal_there_are_plain_lines():
    console = Console(file=io.StringIO(), width=200)
    result, _ = searched(PlainProgress(console), console)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == len(result.trials)
    assert "\x1b" not in console.file.getvalue()


def test_a_chart_shows_low_and_high_and_the_last_of_each_span():
    assert bars([0.0, 8.0], 1, 10) == ["▁█"]
    assert bars([1.0, 1.0], 1, 10) == ["██"]
    top, bottom = bars(list(range(100)), 2, 10)
    assert len(bottom) == 10 and bottom[0] == "▁" and bottom[-1] == top[-1] == "█" and top[0] == " "
    assert bars([], 2, 10) == ["", ""]
    assert bars([float("nan"), 1.0], 1, 10) == ["█"]
