"""Searches side by side."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from searches import MIXED, ONE, some_trials, write_journal

from hpo_spark import ConfigError, Trial, TrialState
from hpo_spark.report.compare import comparison_table
from hpo_spark.report.comparison import Comparison, Progress
from hpo_spark.report.run import Run


def a_run(folder, values, searcher="grid", seconds=2.0, direction="maximize", space=ONE, **more):
    trials = [
        Trial(
            number,
            {"x": number / 100},
            0,
            state=TrialState.FAILED if value is None else TrialState.COMPLETED,
            values=None if value is None else [value],
            error=None if value is not None else "Wrong: it is",
            started=number * seconds,
            seconds=seconds,
        )
        for number, value in enumerate(values)
    ]
    return Run.read(write_journal(folder, space, trials, [direction], searcher=searcher, **more))


def test_the_best_so_far_counts_failures_and_all_machine_time(tmp_path):
    run = a_run(tmp_path / "run", [None, 1.0, 0.5, 3.0])
    progress = Progress.of(run)
    assert progress.evaluations.tolist() == [1, 2, 3, 4]
    assert np.isnan(progress.best[0]) and progress.best[1:].tolist() == [1.0, 1.0, 3.0]
    assert progress.reach(0.7, maximize=True) == (2, 4.0)
    assert progress.reach(2.0, maximize=True) == (4, 8.0)
    assert progress.reach(9.0, maximize=True) is None
    lower = Progress.of(a_run(tmp_path / "lower", [5.0, 7.0, 2.0], direction="minimize"))
    assert lower.best.tolist() == [5.0, 5.0, 2.0]
    assert lower.reach(2.0, maximize=False) == (3, 6.0)


def test_runs_of_one_searcher_and_space_are_a_group_with_a_band(tmp_path):
    runs = [
        a_run(tmp_path / "a", [1.0, 2.0, 3.0], "genetic"),
        a_run(tmp_path / "b", [3.0, 3.0], {"name": "genetic"}),
        a_run(tmp_path / "c", [2.0, 5.0], {"name": "genetic", "population": 4}),
    ]
    comparison = Comparison(runs)
    assert [(group.label, len(group.runs)) for group in comparison.groups] == [
        ("genetic", 2),
        ("genetic (population=4)", 1),
    ]
    band = comparison.groups[0].band("evaluations")
    assert band.x.tolist() == [1, 2, 3]
    assert band.median.tolist() == [2.0, 2.5, 3.0]  # the second has ended after two, and keeps its own
    assert band.low.tolist() == [1.5, 2.25, 3.0]
    assert comparison.values == [3.0, 5.0]


def test_spaces_that_differ_are_told_apart(tmp_path):
    runs = [a_run(tmp_path / "a", [1.0], name="one")]
    runs.append(Run.read(write_journal(tmp_path / "b", MIXED, some_trials(2, MIXED), searcher="grid", name="two")))
    assert [group.label for group in Comparison(runs).groups] == ["grid, one", "grid, two"]


def test_the_table_tells_what_it_took(tmp_path):
    runs = [a_run(tmp_path / "a", [1.0, 4.0], "grid"), a_run(tmp_path / "b", [None, 2.0], "bayes")]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(comparison_table(Comparison(runs, [1.5, 3.0])))
    text = console.export_text()
    assert "to 1.5" in text and "to 3" in text
    (grid,) = [line for line in text.splitlines() if line.startswith("│ grid")]
    assert grid.count("2 trials, 4.0 s") == 2
    (bayes,) = [line for line in text.splitlines() if line.startswith("│ bayes")]
    assert [cell.strip() for cell in bayes.split("│")][1:-1] == ["bayes", "1", "2", "2 trials, 4.0 s", "-"]


def test_several_objectives_have_hypervolumes_from_one_point(tmp_path):
    trials = some_trials(20, MIXED, 2)
    runs = [Run.read(write_journal(tmp_path / "a", MIXED, trials, ["minimize", "maximize"]))]
    better = [replace(trial, values=[v - 1 for v in trial.values]) if trial.values else trial for trial in trials]
    runs.append(Run.read(write_journal(tmp_path / "b", MIXED, better, ["minimize", "maximize"])))
    runs.append(Run.read(write_journal(tmp_path / "c", MIXED, [], ["minimize", "maximize"])))
    first, second, third = Comparison(runs).hypervolumes
    assert first > 0 and second > 0 and third is None


def test_what_cannot_be_compared_is_refused(tmp_path):
    run = a_run(tmp_path / "a", [1.0])
    with pytest.raises(ConfigError, match="two run folders or more, got 1"):
        Comparison([run])
    with pytest.raises(ConfigError, match="Searches of the same directions can be compared"):
        Comparison([run, a_run(tmp_path / "b", [1.0], direction="minimize")])
