"""Repeats: the best configurations trained again with other seeds, and the winner chosen by mean."""

import io
import json
import os
import signal
import statistics
import subprocess
import sys
from collections import Counter

import joblib
import numpy as np
import pytest
from rich.console import Console
from sklearn.tree import DecisionTreeClassifier

from hpo_spark import (
    ConfigError,
    Float,
    Int,
    KerasObjective,
    ProcessExecutor,
    SearchSpace,
    SerialExecutor,
    SklearnObjective,
    SparkExecutor,
    Study,
)
from hpo_spark.config import read_study_file
from hpo_spark.journal import read_record
from hpo_spark.objectives.mlp import build_model
from hpo_spark.refit import refit
from hpo_spark.results.tables import summary
from hpo_spark.runner import Runner

SPACE = SearchSpace(x=Float(0.0, 1.0))
CONFIRM = {"top_k": 3, "repeats": 4}


def noisy(params, context):
    """The smaller x is, the better in truth; one draw says little. Its model tells the trial."""
    context.keep_model(b"PK%d" % context.number)
    return params["x"] + np.random.default_rng(context.seed).normal()


def run(executor, out=None, max_trials=12, objective=noisy, space=SPACE, direction="minimize", **options):
    options = {"confirm": CONFIRM, **options}
    return Study(space, objective, "random", direction, 5, out=out, **options).run(executor, max_trials)


def table(result):
    return [(t.number, t.params, t.fidelity, t.seed, t.state, t.values, t.repeat_of, t.repeat) for t in result.trials]


def of_search(result):
    return [trial for trial in result.trials if trial.repeat is None]


@pytest.fixture(scope="module")
def pool():
    with ProcessExecutor(2) as executor:
        yield executor


def test_the_best_are_trained_again_and_the_best_mean_wins(pool, tmp_path):
    result = run(pool, tmp_path)
    best = sorted(of_search(result), key=lambda trial: trial.value)[:3]
    assert len(of_search(result)) == 12
    repeats = {trial.number: [one for one in result.trials if one.repeat_of == trial.number] for trial in best}
    assert sum(map(len, repeats.values())) == len(result.trials) - 12
    means = {}
    for trial in best:
        own = repeats[trial.number]
        assert [one.repeat for one in own] == [1, 2, 3, 4]
        assert all(one.params == trial.params for one in own)
        means[trial.number] = statistics.fmean(one.value for one in own)
    assert len({trial.seed for trial in result.trials}) == len(result.trials)
    winner = result.confirmed[0]
    assert winner.original.number == min(means, key=means.get)
    assert winner.mean == pytest.approx(min(means.values()))
    assert winner.n == 4
    assert winner.std == pytest.approx(statistics.stdev(winner.values))
    assert [one.mean for one in result.confirmed] == sorted(one.mean for one in result.confirmed)


def test_best_holds_the_winners_repeat_of_median_value(pool, tmp_path):
    result = run(pool, tmp_path)
    winner, best = result.confirmed[0], result.best_trial
    assert best.repeat_of == winner.original.number
    assert best.value == sorted(winner.values)[2]  # of four the worse of the two in the middle
    assert result.best_model == (tmp_path / "best" / "model.keras").read_bytes() == b"PK%d" % best.number
    leader = min(of_search(result), key=lambda trial: trial.value).number
    kept = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert kept == sorted(f"trial-{number}-attempt-1.keras" for number in (leader, best.number))
    said = json.loads((tmp_path / "result.json").read_text())
    assert said["best_trial"]["number"] == best.number
    told = said["confirmed"][0]
    assert (told["trial"], told["n"], told["median_trial"]) == (winner.original.number, 4, best.number)
    assert (told["mean"], told["std"], told["params"]) == (winner.mean, winner.std, best.params)
    assert "repeat_of" in (tmp_path / "trials.csv").read_text().splitlines()[0]
    with io.StringIO() as file:
        Console(file=file, width=120).print(summary(result))
        shown = file.getvalue()
    for words in ("Trained again", "mean", "std", "median of 4 repeat(s)"):
        assert words in shown


def test_no_configuration_runs_twice_without_repeats(pool):
    result = run(pool, confirm=None)
    assert len(result.trials) == 12
    assert result.confirmed == []


def test_the_searcher_learns_nothing_from_repeats(tmp_path):
    with SerialExecutor() as executor:
        without = Study(SPACE, noisy, "evolution", "minimize", 5, deterministic=True).run(executor, 20)
        study = Study(SPACE, noisy, "evolution", "minimize", 5, tmp_path, deterministic=True, confirm=CONFIRM)
        assert [trial.params for trial in of_search(study.run(executor, 12))] == [
            trial.params for trial in without.trials[:12]
        ]
        told = []
        again = Study(
            SPACE, noisy, "evolution", "minimize", 5, tmp_path, deterministic=True, confirm=CONFIRM, resume=True
        )
        again.searcher.tell = lambda trial: told.append(trial)
        result = again.run(executor, 20)
    assert len(of_search(result)) == 20
    assert all(trial.repeat is None for trial in told)


def test_failures_count_against_a_configuration(pool):
    def objective(params, context):
        if context.shuffle_seed != context.study_seed and params["x"] < 0.5 and context.number % 4 == 0:
            raise ValueError("now and then")
        return params["x"]

    result = run(pool, objective=objective, x0=[{"x": 0.1}, {"x": 0.6}], max_trials=2)
    first, second = result.confirmed
    assert (first.original.params["x"], first.n_failed) == (0.6, 0)
    assert (second.original.params["x"], second.n_failed, second.n) == (0.1, 2, 2)


def test_where_all_repeats_fail_the_search_decides(pool):
    def objective(params, context):
        if context.shuffle_seed != context.study_seed:
            raise ValueError("never again")
        return params["x"]

    result = run(pool, objective=objective)
    assert result.confirmed == []
    assert result.best_trial.repeat is None
    assert result.state == "finished"


def test_after_a_target_too_but_not_after_a_stop(pool):
    def easy(params):
        return params["x"]

    study = Study(SPACE, easy, "random", "minimize", 5, confirm=CONFIRM)
    reached = study.run(pool, 50, target=0.9)
    assert reached.reason.startswith("target")
    assert reached.confirmed
    study = Study(SPACE, easy, "random", "minimize", 5, confirm=CONFIRM)
    study.callbacks.append(lambda study, trial: study.stop())
    stopped = study.run(pool, 50)
    assert stopped.confirmed == []
    assert all(trial.repeat is None for trial in stopped.trials)


def test_a_stop_is_heeded_however_late_before_the_repeats_it_comes(monkeypatch):
    """As the repeats are about to begin: when it has been looked whether somebody has stopped the search."""

    class Flag:
        def __get__(self, runner, owner):
            halted = vars(runner).get("halted", False)
            if sys._getframe(1).f_code.co_name == "_repeat_best":
                runner.stop()
            return halted

        def __set__(self, runner, value):
            vars(runner)["halted"] = value

    monkeypatch.setattr(Runner, "_is_halted", Flag(), raising=False)
    with SerialExecutor() as one:
        result = run(one)
    assert len(result.trials) == 12
    assert not any(trial.repeat for trial in result.trials)


def test_a_stop_between_repeats_leaves_the_searchs_best(pool):
    study = Study(SPACE, noisy, "random", "minimize", 5, confirm=CONFIRM)
    study.callbacks.append(lambda study, trial: study.stop() if trial.repeat == 2 else None)
    result = study.run(pool, 12)
    assert result.confirmed == []
    assert result.best_trial.value == min(trial.value for trial in of_search(result))


@pytest.mark.parametrize("executor", ["serial", "one", "four"])
def test_one_table_on_any_number_of_slots(executor, pool):
    expected = run(pool, deterministic=True)
    other = {"serial": SerialExecutor, "one": lambda: ProcessExecutor(1), "four": lambda: ProcessExecutor(4)}[executor]
    with other() as executor:
        result = run(executor, deterministic=True)
    assert table(result) == table(expected)
    assert result.best_trial.number == expected.best_trial.number


PROGRAM = """\
import os, signal, sys
from hpo_spark import ProcessExecutor, SerialExecutor, Study
from test_confirm import CONFIRM, SPACE, logged

out, last, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def die(study, trial):
    if len(study.trials) >= last:
        os.kill(os.getpid(), signal.SIGKILL)

with ProcessExecutor(slots) if slots else SerialExecutor() as executor:
    Study(SPACE, logged, "evolution", "minimize", 5, out, [die], deterministic=True, lookahead=4, confirm=CONFIRM,
          fixed={"log": out + ".log"}, resume=True).run(executor, 12)
"""


def logged(params, context):
    with open(params["log"], "ab") as file:
        file.write(b"%d\n" % context.number)
    return noisy(params, context)


@pytest.mark.parametrize("slots", [0, 2])
def test_a_search_that_is_killed_among_its_repeats_ends_like_one_that_was_not(pool, tmp_path, slots):
    out = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, os.path.dirname(__file__)])}
    log = tmp_path / "run.log"
    ended, counts = {}, Counter()
    for last in (9, 12, 17):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(out), str(last), str(slots)], env=environment, check=False
        )
        assert done.returncode == -signal.SIGKILL
        now = Counter(log.read_text().split())
        assert all(now[number] == counts[number] for number in ended)  # what had ended did not run again
        ended, counts = {str(trial.number): trial for trial in read_record(out).ended}, now
        assert len(ended) >= last
    options = {"deterministic": True, "lookahead": 4, "confirm": CONFIRM}
    options["fixed"] = {"log": str(log)}
    result = Study(SPACE, logged, "evolution", "minimize", 5, out, resume=True, **options).run(pool, 12)
    whole = Study(SPACE, logged, "evolution", "minimize", 5, tmp_path / "whole", **options).run(pool, 12)
    assert table(result) == table(whole)
    assert len(result.trials) == 12 + 3 * 4
    assert result.best_trial.number == whole.best_trial.number
    assert result.best_model == whole.best_model is not None


def test_an_ended_search_that_is_resumed_repeats_nothing(pool, tmp_path):
    first = run(pool, tmp_path)
    again = run(pool, tmp_path, resume=True)
    assert table(again) == table(first)
    assert again.best_trial == first.best_trial
    assert again.best_model == first.best_model


def test_a_search_that_goes_on_repeats_only_what_is_new_among_the_best(pool, tmp_path):
    first = run(pool, tmp_path)
    more = run(pool, tmp_path, 40, resume=True)
    assert len(of_search(more)) == 40
    pairs = [(trial.repeat_of, trial.repeat) for trial in more.trials if trial.repeat is not None]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) >= {(trial.repeat_of, trial.repeat) for trial in first.trials if trial.repeat is not None}
    assert {one.original.number for one in more.confirmed} == {
        trial.number for trial in sorted(of_search(more), key=lambda trial: trial.value)[:3]
    }
    assert more.best_model is None or more.best_model == b"PK%d" % more.best_trial.number


def test_it_gains_on_a_noisy_objective(pool):
    """The true value, x, of what is chosen: better on average than what the search alone has chosen."""

    def truth(seed, confirm, n_trials):
        study = Study(SPACE, noisy, "random", "minimize", seed, confirm=confirm)
        with SerialExecutor() as executor:
            return study.run(executor, n_trials).best_trial.params["x"]

    seeds = range(25)
    chosen = [truth(seed, {"top_k": 8, "repeats": 9}, 28) for seed in seeds]
    longer = [truth(seed, None, 100) for seed in seeds]
    assert statistics.fmean(chosen) < statistics.fmean(longer) - 0.05


def test_cross_validation_draws_other_folds_for_each_repeat(pool, tmp_path):
    objective = SklearnObjective(DecisionTreeClassifier, "digits", cv=3, scoring="accuracy")
    space = SearchSpace(max_depth=Int(2, 12))
    result = run(pool, tmp_path, 4, objective, space, "maximize", confirm={"top_k": 2, "repeats": 3})
    first, _ = result.confirmed
    assert first.std > 0
    assert len(set(first.values)) == 3
    model = joblib.load(tmp_path / "best" / "model.joblib")
    assert model.get_depth() == result.best_trial.params["max_depth"]
    assert model.random_state == result.best_trial.seed
    assert result.test["accuracy"] > 0.5
    again = refit(tmp_path, objective, pool)
    assert (again.trial.number, again.values) == (result.best_trial.number, result.best_trial.values)


def test_keras_models_too(tmp_path):
    objective = KerasObjective(build_model, "digits", epochs=2)
    space = SearchSpace(learning_rate=Float(1e-3, 1e-2, log=True))
    with ProcessExecutor(1) as executor:
        result = run(executor, tmp_path, 2, objective, space, "maximize", confirm={"top_k": 1, "repeats": 3})
    winner = result.confirmed[0]
    assert winner.n == 3
    assert result.best_trial.value == sorted(winner.values)[1]
    assert result.test["accuracy"] > 0.05
    assert (tmp_path / "best" / "model.keras").read_bytes() == result.model_of(result.best_trial)


def test_on_spark(spark):
    with SparkExecutor(spark, slots=2) as executor:
        result = run(executor)
    assert [one.n for one in result.confirmed] == [4, 4, 4]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"confirm": {"top_k": 0}}, "top_k=0"),
        ({"confirm": {"repeats": True}}, "repeats=True"),
        ({"confirm": {"best": 3}}, "takes the keys"),
        ({"confirm": 5}, "must be a mapping"),
        ({"direction": ["minimize", "maximize"]}, "one winner by its mean"),
    ],
)
def test_what_makes_no_sense_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        run(None, **options)


FILE = """\
study: {seed: 3, max_trials: 4}
space: {x: {float: [0, 1]}}
objective: {function: "mine.py:score"}
confirm: %s
executor: processes
"""


def test_a_study_file_asks_for_it(pool, tmp_path):
    (tmp_path / "mine.py").write_text("def score(params):\n    return params['x']\n")
    (tmp_path / "study.yaml").write_text(FILE % "{top_k: 2, repeats: 1}")
    file = read_study_file(tmp_path / "study.yaml")
    result = file.study(tmp_path / "run").run(pool, **vars(file.limits))
    assert [(one.n, one.std) for one in result.confirmed] == [(1, None), (1, None)]
    same = read_study_file(tmp_path / "run" / "study.yaml", ["confirm.repeats=2"])
    more = same.study(tmp_path / "run", resume=True).run(pool, **vars(file.limits))
    assert [one.n for one in more.confirmed] == [2, 2]
    assert len(more.trials) == 4 + 4
    for wrong, words in (("{top: 2}", "Did you mean 'top_k'"), ("{top_k: 0}", "confirm.top_k"), ("[5, 3]", "confirm")):
        (tmp_path / "study.yaml").write_text(FILE % wrong)
        with pytest.raises(ConfigError, match=words):
            read_study_file(tmp_path / "study.yaml")


def test_a_table_tells_repeats_and_a_warm_start_leaves_them_out(pool, tmp_path):
    run(pool, tmp_path / "run")
    for source in (tmp_path / "run", tmp_path / "run" / "trials.csv"):
        told = []
        study = Study(SPACE, noisy, "random", "minimize", 5, warm_start=str(source))
        study.searcher.tell = told.append
        study.run(pool, 1)
        assert [trial.number for trial in told if trial.number < 0] == [-1 - place for place in range(12)]


def test_repeats_in_the_budget_are_taken_from_the_trials(pool):
    result = run(pool, max_trials=40, confirm={"top_k": 5, "repeats": 2, "in_budget": True})
    assert len(result.trials) == 40
    assert len(of_search(result)) == 30
    assert len(result.confirmed) == 5


@pytest.mark.parametrize("max_trials", [19, None])
def test_a_budget_that_leaves_too_little_to_search_is_refused(max_trials):
    with pytest.raises(ConfigError, match="at least twice as many, got max_trials"):
        Study(SPACE, noisy, "random", confirm={"top_k": 5, "repeats": 2, "in_budget": True}).run(
            SerialExecutor(), max_trials, timeout_s=5
        )
