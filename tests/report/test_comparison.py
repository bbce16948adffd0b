"""Searches side by side."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from searches import KINDS, MIXED, ONE, some_trials, write_journal

from hpo_spark import ConfigError, Trial, TrialState
from hpo_spark.report.compare import comparison_table, write_comparison
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


def told(comparison):
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(comparison_table(comparison))
    return console.export_text()


@pytest.mark.parametrize(
    ("key", "value", "label"),
    [
        ("pruner", "median", "genetic, pruner=median"),
        ("fidelity", {"min": 1, "max": 9, "eta": 3}, 'genetic, fidelity={"eta": 3, "max": 9, "min": 1}'),
        ("warm_start", "runs/old", "genetic, warm_start=runs/old"),
    ],
)
def test_another_method_is_another_group_of_the_same_problem(tmp_path, key, value, label):
    runs = [a_run(tmp_path / name, [1.0, 2.0], "genetic", name=name) for name in ("a", "b")]
    runs.append(a_run(tmp_path / "c", [7.0], "genetic", name="c", **{key: value}))
    comparison = Comparison(runs)
    assert [len(group.runs) for group in comparison.groups] == [2, 1]
    assert comparison.groups[1].label.startswith(label[:30])
    assert len(comparison.problems) == 1
    assert "problem" not in told(comparison)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"fixed": {"units": 15}}, "fixed.units: none -> 15"),
        ({"objective": {"function": "mine.py:score", "data": "digits"}}, "objective.data: none -> digits"),
        ({"objective": {"function": "mine.py:other"}}, "objective.function: mine.py:score -> mine.py:other"),
    ],
)
def test_runs_of_another_problem_are_never_averaged_and_the_table_says_so(tmp_path, more, words):
    same = {"objective": {"function": "mine.py:score"}}
    runs = [a_run(tmp_path / "a", [1.0], "genetic", name="a", **same)]
    elsewhere = {"objective": {"function": "/elsewhere/mine.py:score"}}
    runs.append(a_run(tmp_path / "b", [2.0], "genetic", name="b", **elsewhere))
    runs.append(a_run(tmp_path / "c", [9.0], "genetic", name="c", **{**same, **more}))
    comparison = Comparison(runs)
    assert [len(group.runs) for group in comparison.groups] == [2, 1]
    text = told(comparison)
    assert "Problem B is not problem A, so that their values do not compare" in text
    assert words in text
    rows = {
        line.split("│")[1].strip(): line.split("│")[4].strip()
        for line in text.splitlines()
        if "running" in line or "finished" in line
    }
    assert rows == {"a": "A", "b": "A", "c": "B"}


def test_other_code_or_data_is_another_problem(tmp_path):
    one, other, unknown = (a_run(tmp_path / name, [1.0], "genetic", name=name) for name in "abc")
    one.record.fingerprint, other.record.fingerprint = {"code": "12ab", "data": "5"}, {"code": "34cd", "data": "5"}
    unknown.record.fingerprint = {}
    assert len(Comparison([one, other]).problems) == 2
    assert "the objective's code: 12ab -> 34cd" in told(Comparison([one, other]))
    assert len(Comparison([one, unknown]).problems) == 1


def test_a_space_that_runs_share_is_shown_once(tmp_path):
    runs = [a_run(tmp_path / name, [1.0], searcher, name=name) for name, searcher in (("a", "grid"), ("b", "bayes"))]
    write_comparison(Comparison(runs), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "All runs searched the same space." in page
    assert page.count("<pre>") == 1


def test_limits_seed_and_place_make_no_other_method(tmp_path):
    runs = [a_run(tmp_path / "a", [1.0, 2.0], "genetic", name="a", seed=1, executor="spark")]
    runs.append(a_run(tmp_path / "b", [3.0], "genetic", name="b", seed=2, executor="processes", keep_models=3))
    assert len(Comparison(runs).groups) == 1


def test_the_best_of_a_run_with_repeats_is_the_winners_mean(tmp_path):
    plain = Run.read(KINDS["mixed"](tmp_path / "plain"))
    run = Run.read(KINDS["repeats"](tmp_path / "repeats"))
    assert run.best_values == [pytest.approx(0.7)]
    text = told(Comparison([plain, run]))
    assert "0.7 ± 0.1 (n=3)" in text
    (best,) = [line for line in text.splitlines() if re.search(r"│\s+23 │", line)]
    assert str(run.best.params["hidden_layers"]) in best


def test_hypervolumes_are_measured_from_the_studies_reference_point(tmp_path):
    ways = ["minimize", "minimize"]
    trials = [
        Trial(number, {"x": 0.5}, 0, state=TrialState.COMPLETED, values=list(values))
        for number, values in enumerate([(1.0, 3.0), (2.0, 2.0), (9.0, 9.0)])
    ]

    def read(name, point):
        section = {"name": name, "direction": ways, "seed": 0, "reference_point": point}
        return Run.read(write_journal(tmp_path / name, ONE, trials, ways, study=section))

    comparison = Comparison([read("a", [4.0, 4.0]), read("b", [4.0, 4.0])])
    assert comparison.hypervolumes == [pytest.approx(5.0)] * 2  # 3 x 1 and 2 x 2, of which 2 x 1 is in both
    assert "Hypervolumes are measured from 4 / 4." in told(comparison)
    assert Comparison([read("c", [4.0, 4.0]), read("d", [5.0, 5.0])]).reference_point == [9.0, 9.0]


def test_what_cannot_be_compared_is_refused(tmp_path):
    run = a_run(tmp_path / "a", [1.0])
    with pytest.raises(ConfigError, match="two run folders or more, got 1"):
        Comparison([run])
    with pytest.raises(ConfigError, match="Searches of the same directions can be compared"):
        Comparison([run, a_run(tmp_path / "b", [1.0], direction="minimize")])
