"""Trials side by side in slots, and how busy these were."""

from itertools import pairwise

import pytest
from searches import MIXED, some_trials

from hpo_spark import Trial, TrialState
from hpo_spark.report.slots import busy_over_time, rows_of


def ran(number, started, seconds, host="a"):
    return Trial(number, {}, 0, state=TrialState.COMPLETED, values=[1.0], started=started, seconds=seconds, host=host)


def test_no_slot_runs_two_trials_at_once_and_none_is_there_in_vain():
    trials = some_trials(200, MIXED)
    rows = rows_of(trials)
    assert [(row.host, row.place) for row in rows] == [("host-0", 0), ("host-0", 1), ("host-1", 0), ("host-1", 1)]
    assert sorted(trial.number for row in rows for trial in row.trials) == list(range(200))
    for row in rows:
        for one, other in pairwise(row.trials):
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
