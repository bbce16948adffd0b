"""What is seen while a search runs: a panel in a terminal, lines elsewhere."""

import io
import re

from rich.console import Console

from hpo_spark import Callback, Choice, Float, Int, SearchSpace, SerialExecutor, Study
from hpo_spark.journal import read_record
from hpo_spark.pace import time_left
from hpo_spark.progress import LiveProgress, PlainProgress, bars

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
    progress = LiveProgress(console, lambda: 1)
    result, panel = searched(progress, console)
    n_failed = result.counts["FAILED"]
    assert f"12 of 12 done, 0 running, {n_failed} failed, 0 pruned" in panel
    assert f"(trial {result.best_trial.number})" in panel
    assert "kind=good" in panel
    assert "█" in panel or "|" in panel
    assert "0 of 1 busy" in panel
    assert re.search(r"\d s gone, about 0\.0 s left", panel)
    written = console.file.getvalue()
    assert written.count("failed: ValueError: no [good]") == n_failed
    assert "completed in" not in written


def test_verbose_adds_a_line_a_trial():
    console = Console(file=io.StringIO(), force_terminal=True, width=200, legacy_windows=False)
    result, _ = searched(LiveProgress(console, lambda: 1, verbose=True), console)
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


def test_time_left_goes_by_seconds_of_a_trial_until_each_slot_has_ended_one():
    assert time_left(0, 3, 10.0, 1.0, 2) == 0.0
    assert time_left(8, 0, 10.0, None, 4) is None
    assert time_left(8, 1, 5.0, 5.0, 4) == 10.0  # not 40, though one of four has ended in 5 s
    assert time_left(2, 1, 5.0, 5.0, 4) == 5.0
    assert time_left(8, 4, 6.0, 5.0, 4) == 12.0
    assert time_left(8, 0, 0.0, 3.0, 1) == 24.0  # resumed: what is known of the earlier part


def left_at(trials, study):
    """How many trials are left when so many have ended."""
    found = {}
    study.callbacks.append(lambda study, trial: found.setdefault(len(study.trials), study.n_left))
    with SerialExecutor() as executor:
        study.run(executor, trials)
    return found


def test_what_is_left_is_known_of_the_default_and_of_a_grid_and_with_repeats():
    space = SearchSpace(x=Float(0, 1))
    found = left_at(None, Study(space, lambda params: params["x"], "random", seed=1))
    assert (found[1], found[59], found[60]) == (59, 1, 0)
    grid = SearchSpace(k=Choice([1, 2]), x=Float(0, 1, when={"k": 1}), y=Int(1, 3))
    found = left_at(None, Study(grid, lambda params: params["y"], "grid", seed=1, x0=[{"k": 1, "x": 0.123, "y": 1}]))
    assert found == {n: 19 - n for n in range(1, 20)}  # 5 x 3 and 3, and one beside the grid
    found = left_at(4, Study(space, lambda params: params["x"], "random", seed=1, confirm={"top_k": 2, "repeats": 3}))
    assert found == {n: 10 - n for n in range(1, 11)}
    found = left_at(7, Study(grid, lambda params: params["y"], "grid", seed=1))
    assert found == {n: 7 - n for n in range(1, 8)}


def test_a_search_that_goes_on_knows_what_is_left_of_it_and_of_its_time(tmp_path):
    def study(resume):
        return Study(SPACE, score, "random", seed=1, out=tmp_path / "run", resume=resume)

    found = left_at(5, study(False))
    assert found[5] == 0
    console = Console(file=io.StringIO(), force_terminal=True, width=100, legacy_windows=False)
    progress = LiveProgress(console, lambda: 1)
    seen = []

    class Looks(Callback):
        def on_study_start(self, study):
            seen.append((study.n_left, study.seconds, study.seconds_left, progress._time(study)))

    again = study(True)
    again.callbacks += [progress, Looks()]
    with SerialExecutor() as executor:
        again.run(executor, 12, timeout_s=1000.0)
    ((n_left, seconds, seconds_left, said),) = seen
    assert n_left == 7
    assert seconds >= read_record(tmp_path / "run").ended[0].seconds
    assert seconds_left <= 1000.0 - seconds + 1e-3
    assert " left" in said  # before any of its own trials has ended
