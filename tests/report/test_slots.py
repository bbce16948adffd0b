"""Trials side by side in slots, and how busy these were."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from searches import MIXED, ONE, some_trials
from sklearn.tree import DecisionTreeClassifier

from hpo_spark import Int, ProcessExecutor, SearchSpace, SklearnObjective, Study, Trial, TrialState
from hpo_spark.report.run import Run
from hpo_spark.report.slots import busy_over_time, rows_of
from hpo_spark.report.timeline import timeline


def ran(number, started, seconds, host="a"):
    return Trial(number, {}, 0, state=TrialState.COMPLETED, values=[1.0], started=started, seconds=seconds, host=host)


def test_no_slot_runs_two_trials_at_once_and_none_is_there_in_vain():
    trials = some_trials(200, MIXED)
    rows = rows_of(trials)
    assert [(row.host, row.place) for row in rows] == [("host-0", 0), ("host-0", 1), ("host-1", 0), ("host-1", 1)]
    assert sorted(task.trial.number for row in rows for task in row.tasks) == list(range(200))
    for row in rows:
        for one, other in pairwise(row.tasks):
            assert one.started + one.seconds <= other.started + 0.05


def test_the_area_under_the_curve_is_the_machine_time():
    trials = [ran(0, 100.0, 10.0), ran(1, 105.0, 10.0), ran(2, 130.0, 0.5)]
    times, busy = busy_over_time(trials, 61)
    assert sum(busy) * (times[1] - times[0]) == pytest.approx(20.5)
    assert max(busy) == pytest.approx(2.0)
    assert min(busy) == 0.0


def test_what_never_ran_is_in_no_slot():
    never = Trial(0, {}, 0, state=TrialState.CANCELLED)
    assert rows_of([never]) == []
    assert busy_over_time([never], 10) == ([], [])
    assert len(rows_of([ran(0, 5.0, 0.0), ran(1, 5.0, 0.0)])) == 1


def test_the_tasks_of_a_trial_are_drawn_where_and_when_they_ran():
    """Not as one bar of their seconds together, which would reach far beyond the search's end."""
    folds = [["a", 100.0, 4.0], ["b", 100.0, 5.0], ["a", 104.0, 4.0]]
    trial = Trial(
        0, {}, 0, state=TrialState.COMPLETED, values=[1.0], started=100.0, seconds=13.0, host="a", spans=folds
    )
    assert trial.ended == 108.0
    rows = rows_of([trial])
    assert [(row.host, [task.seconds for task in row.tasks]) for row in rows] == [("a", [4.0, 4.0]), ("b", [5.0])]
    times, busy = busy_over_time([trial], 8)
    assert times[-1] < 108.0
    assert busy == pytest.approx([2, 2, 2, 2, 2, 1, 1, 1])
    (bars, _) = timeline([trial], 2).data
    assert list(bars.x) == [4000, 4000, 5000]
    assert "4.00 s of 13.00 s in 3 tasks" in bars.text[0]


def test_trials_that_were_trained_together_are_in_one_slot():
    shares = (2.0, 1.0, 3.0)
    trials = [replace(ran(number, 100.0, share), group=[0, 3]) for number, share in enumerate(shares)]
    (row,) = rows_of([*trials, ran(3, 106.0, 4.0)])
    assert [(task.started, task.seconds) for task in row.tasks] == [(100, 2), (102, 1), (103, 3), (106, 4)]
    assert busy_over_time(trials, 6)[1] == pytest.approx([1.0] * 6)


def test_the_folds_of_a_search_fit_into_its_time_and_its_slots(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 4)), rng.integers(0, 2, 200)
    objective = SklearnObjective(DecisionTreeClassifier, (x, y), cv=4)
    with ProcessExecutor(2) as executor:
        Study(SearchSpace(max_depth=Int(1, 9)), objective, "random", seed=0, out=tmp_path / "run").run(executor, 2)
    run = Run.read(tmp_path / "run")
    first = run.trials[0]
    assert len(first.spans) >= 4
    assert first.seconds == pytest.approx(sum(seconds for _, _, seconds in first.spans))
    assert len(rows_of(run.trials)) <= 2
    assert all(trial.ended - trial.started <= run.record.seconds for trial in run.trials)


def search(folder, n_slots, n_trials):
    study = Study(ONE, lambda params: params["x"], "random", seed=0, out=folder, resume=True)
    with ThreadPoolExecutor(n_slots) as executor:
        return study.run(executor, n_trials)


def test_slot_use_is_one_number_and_each_part_of_a_search_has_its_own_slots(tmp_path):
    first = search(tmp_path / "run", 1, 4)
    assert first.slot_seconds == pytest.approx(first.seconds)
    whole = search(tmp_path / "run", 8, 30)
    assert whole.slots == 8
    assert whole.slot_seconds == pytest.approx(first.seconds + 8 * (whole.seconds - first.seconds))
    busy = sum(trial.seconds for trial in whole.trials)
    assert whole.slot_use == pytest.approx(busy / whole.slot_seconds)
    assert Run.read(tmp_path / "run").slot_use == whole.slot_use
    assert json.loads((tmp_path / "run" / "result.json").read_text())["slot_use"] == whole.slot_use


def test_slots_are_known_of_a_search_that_was_killed(tmp_path):
    search(tmp_path / "run", 3, 4)
    journal = tmp_path / "run" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    run = Run.read(tmp_path / "run")
    assert run.is_running
    assert run.slots == 3
    assert run.record.slot_seconds == pytest.approx(3 * run.record.seconds)
