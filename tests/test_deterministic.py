"""Deterministic mode: one trial table, whatever runs the trials and whichever ends first."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hpo_spark import Choice, ConfigError, Float, Int, ProcessExecutor, SearchSpace, SerialExecutor, Study

SPACE = SearchSpace(
    rate=Float(1e-4, 1e-1, log=True),
    layers=Int(1, 4),
    optimizer=Choice(["sgd", "adam"]),
    momentum=Float(0.0, 0.99, when={"optimizer": "sgd"}),
)
SEARCHERS = ["evolution", {"name": "genetic", "population": 5}, {"name": "cmaes", "population": 5}, "de", "random"]


def sleepy(params):
    """Takes its time, by no rule; every seventh configuration fails."""
    time.sleep(random.SystemRandom().random() * 0.02)
    if int(params["rate"] * 1e7) % 7 == 0:
        raise ValueError("a bad rate")
    return abs(params["rate"] - 0.01) * 100 + params["layers"] + params.get("momentum", 0.5)


@pytest.fixture(scope="module")
def pools():
    """Executors by their number of slots; 0 runs the trials in this thread."""
    with SerialExecutor() as serial, ProcessExecutor(1) as one, ProcessExecutor(2) as two, ProcessExecutor(8) as eight:
        yield {0: serial, 1: one, 2: two, 8: eight}


def run(executor, searcher="evolution", objective=sleepy, max_trials=40, limits=None, **options):
    study = Study(SPACE, objective, searcher, "minimize", 3, deterministic=True, **options)
    return study.run(executor, max_trials, **(limits or {}))


def table(result):
    return [(t.number, t.params, t.fidelity, t.seed, t.state, t.values) for t in result.trials]


@pytest.mark.parametrize("searcher", SEARCHERS, ids=str)
def test_the_table_is_the_same_on_1_2_and_8_slots(searcher, pools):
    tables = [table(run(pool, searcher)) for pool in pools.values()]
    assert tables[0] == tables[1] == tables[2] == tables[3]
    assert len(tables[0]) == 40


@pytest.mark.parametrize("limits", [{"target": 2.0}, {"patience": 6}, {"max_failures": 3}], ids=str)
def test_stop_rules_end_at_the_same_trial(limits, pools):
    results = [run(pools[slots], max_trials=200, limits=limits) for slots in (1, 8)]
    assert table(results[0]) == table(results[1])
    assert results[0].reason == results[1].reason
    assert next(iter(limits)) in results[0].reason


def test_results_are_told_in_order_and_no_further_ahead_than_agreed(pools):
    told, running, most = [], set(), 0

    class Watch:
        def on_trial_start(self, study, trial):
            nonlocal most
            running.add(trial.number)
            most = max(most, len(running))

        def on_trial_end(self, study, trial):
            running.discard(trial.number)
            told.append(trial.number)

    run(pools[8], callbacks=[Watch()], lookahead=4)
    assert told == list(range(40))
    assert most == 4


def test_the_lookahead_is_part_of_the_search(pools):
    assert table(run(pools[0], lookahead=2)) != table(run(pools[0], lookahead=16))


def test_a_stopped_search_keeps_what_has_ended():
    """Trial 0 does not end by itself; what ended after it waits for its turn, and is in the result all the same."""

    def objective(params):
        if params["layers"] == 1:
            time.sleep(60)
        return 1.0

    x0 = [{"rate": 0.01, "layers": layers, "optimizer": "adam"} for layers in (1, 2, 3, 4)]
    with ProcessExecutor(4) as executor:
        study = Study(SPACE, objective, "random", "minimize", 0, x0=x0, deterministic=True, lookahead=4)
        threading.Timer(4.0, lambda: [study.stop(), study.cancel(0)]).start()
        result = study.run(executor, 40)
    assert [(trial.number, str(trial.state)) for trial in result.trials] == [
        (0, "CANCELLED"),
        (1, "COMPLETED"),
        (2, "COMPLETED"),
        (3, "COMPLETED"),
    ]


@pytest.mark.parametrize(
    ("study", "limits", "words"),
    [
        ({}, {"timeout_s": 5}, "timeout_s=5 depends on the clock"),
        ({"lookahead": 0}, {}, "lookahead=0"),
        ({"lookahead": True}, {}, "lookahead=True"),
        ({"deterministic": False, "lookahead": 3}, {}, "belongs to deterministic"),
    ],
)
def test_what_depends_on_the_clock_is_refused(study, limits, words):
    with pytest.raises(ConfigError, match=words), SerialExecutor() as executor:
        Study(SPACE, sleepy, "random", **{"deterministic": True, **study}).run(executor, 3, **limits)


def test_a_time_limit_of_the_executor_is_refused():
    with pytest.raises(ConfigError, match="task_timeout_s=9"), ProcessExecutor(1, task_timeout_s=9) as executor:
        Study(SPACE, sleepy, "random", deterministic=True).run(executor, 3)


def test_threads_are_refused():
    with pytest.raises(ConfigError, match="share one random generator"), ThreadPoolExecutor(2) as executor:
        Study(SPACE, sleepy, "random", deterministic=True).run(executor, 3)
