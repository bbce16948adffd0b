"""Cross-validation of scikit-learn's estimators, fold by fold, in one task or in a task for each fold."""

import io
import json
import os
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, ShuffleSplit, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from hpo_spark import (
    Choice,
    Float,
    Int,
    ProcessExecutor,
    SearchSpace,
    SerialExecutor,
    SklearnObjective,
    SparkExecutor,
    Study,
)
from hpo_spark.config import read_study_file
from hpo_spark.data import DataSource
from hpo_spark.refit import refit

SPACE = SearchSpace(max_depth=Int(2, 12), min_samples_leaf=Int(1, 4))
rng = np.random.default_rng(0)
X = rng.normal(size=(120, 4))
Y = (X[:, 0] + 0.5 * rng.normal(size=120) > 0).astype(int)


class Telling(ClassifierMixin, BaseEstimator):
    """A classifier that leaves a line for each fit, and misbehaves in one fold if its threshold is below 0."""

    def __init__(self, log=None, x=0.0, fit_s=0.0, fault=None, random_state=None):
        self.log, self.x, self.fit_s, self.fault, self.random_state = log, x, fit_s, fault, random_state

    def fit(self, x, y):
        with open(self.log, "ab") as file:
            file.write(f"{os.getpid()} {len(x)} {self.random_state}\n".encode())
        time.sleep(self.fit_s)
        if self.x < 0 and not (x == X[0]).all(axis=1).any():  # the fold that is scored on the first row
            self.misbehave()
        self.classes_ = np.unique(y)
        return self

    def misbehave(self):
        if self.fault == "raise":
            raise ValueError("a bad fold")
        if self.fault == "die once" and not Path(f"{self.log}.died").exists():
            Path(f"{self.log}.died").touch()
            os._exit(1)
        if self.fault == "hang":
            time.sleep(60)
        if self.fault == "grow":
            self.memory_ = np.ones(60_000_000)
            time.sleep(20)

    def predict(self, x):
        return (x[:, 0] > self.x).astype(int)


@pytest.fixture(scope="module")
def one():
    with ProcessExecutor(1) as executor:
        yield executor


@pytest.fixture(scope="module")
def two():
    with ProcessExecutor(2) as executor:
        yield executor


def search(executor, objective, out=None, max_trials=4, space=SPACE, **options):
    return Study(space, objective, "random", seed=3, out=out, **options).run(executor, max_trials)


def table(result):
    return [(t.number, t.params, t.seed, str(t.state), t.values, t.metrics, t.curve) for t in result.trials]


def fits(log):
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def telling(tmp_path, **options):
    log = tmp_path / "fits"
    return SklearnObjective(Telling(str(log), **options), (X, Y), cv=5), log


THRESHOLD = SearchSpace(x=Float(-1.0, 1.0))


def test_the_result_is_the_same_in_one_task_and_in_one_for_each_fold(one, two, tmp_path):
    objective = SklearnObjective(RandomForestClassifier(n_estimators=5), "digits", scoring="accuracy")
    whole, parts = search(one, objective, tmp_path / "one"), search(two, objective, tmp_path / "two")
    assert sorted(table(whole)) == sorted(table(parts))
    best = parts.best_trial
    assert best.value == best.metrics["mean"] == pytest.approx(np.mean(best.metrics["scores"]))
    assert best.metrics["std"] == pytest.approx(np.std(best.metrics["scores"]))
    assert len(best.metrics["scores"]) == 5
    assert whole.test == parts.test
    assert (tmp_path / "one" / "best" / "model.joblib").exists()
    assert [path.name for path in (tmp_path / "two" / "models").iterdir()] == [f"trial-{best.number}-attempt-1.joblib"]


def test_folds_are_tasks_of_their_own_where_slots_are_free(two, tmp_path):
    objective, log = telling(tmp_path, fit_s=0.1)
    result = search(two, objective, max_trials=1, space=THRESHOLD, keep_models=0)
    assert len({pid for pid, *_ in fits(log)}) == 2
    assert len(fits(log)) == 5
    assert result.best_trial.seconds > 0.5


def test_the_scores_are_those_of_scikit_learn(one):
    objective = SklearnObjective(make_pipeline(StandardScaler(), LogisticRegression()), (X, Y), cv=4, scoring="roc_auc")
    space = SearchSpace(logisticregression__C=Float(1e-3, 10.0, log=True))
    result = search(one, objective, max_trials=2, space=space)
    folds = StratifiedKFold(4, shuffle=True, random_state=3)
    for trial in result.trials:
        estimator = make_pipeline(StandardScaler(), LogisticRegression(C=trial.params["logisticregression__C"]))
        assert trial.metrics["scores"] == pytest.approx(cross_val_score(estimator, X, Y, cv=folds, scoring="roc_auc"))


@pytest.mark.parametrize("cv", [ShuffleSplit(3), LeaveOneOut(), [([*range(80)], [*range(80, 120)])]], ids=str)
def test_splitters_and_pairs_of_rows(two, cv):
    objective = SklearnObjective(DecisionTreeClassifier, (X, Y), cv=cv)
    result = search(two, objective, max_trials=2)
    sizes = {len(trial.metrics["scores"]) for trial in result.trials}
    assert sizes == {{ShuffleSplit: 3, LeaveOneOut: 120}.get(type(cv), 1)}
    assert table(result) == table(search(two, objective, max_trials=2))


def test_the_trials_seed_is_every_random_state(tmp_path):
    objective, log = telling(tmp_path)
    with SerialExecutor() as executor:
        result = search(executor, objective, max_trials=2, space=THRESHOLD, keep_models=0)
    assert [int(seed) for _, _, seed in fits(log)] == [trial.seed for trial in result.trials for _ in range(5)]


def test_a_model_is_fitted_on_all_training_rows_and_by_leaders_only(two, tmp_path):
    objective, log = telling(tmp_path)
    space = SearchSpace(x=Choice([0.0, 3.0]))
    x0 = [{"x": 0.0}, {"x": 3.0}]  # the second never leads
    with SerialExecutor() as executor:
        result = search(executor, objective, max_trials=2, space=space, x0=x0)
    assert [int(rows) for _, rows, _ in fits(log)] == [96] * 5 + [120] + [96] * 5
    model = joblib.load(io.BytesIO(result.best_model))
    assert (model.x, len(model.classes_)) == (0.0, 2)


def build(params, context):
    """A pipeline that no plain pickle holds."""
    width = 1.0 if context is None else float(context.data.train.x.shape[1])
    scale = FunctionTransformer(lambda x: x / width)
    return make_pipeline(scale, DecisionTreeClassifier(max_depth=params["max_depth"]))


def test_a_builder_makes_what_no_pickle_can_hold(two):
    result = search(two, SklearnObjective(build, "digits", cv=2), max_trials=2, space=SearchSpace(max_depth=Int(2, 9)))
    assert result.test["score"] == pytest.approx(result.best_trial.value, abs=0.15)


def test_several_scores_are_several_objectives(two):
    objective = SklearnObjective(DecisionTreeClassifier, "digits", scoring=["accuracy", "neg_log_loss"], cv=3)
    study = Study(SPACE, objective, direction=["maximize", "maximize"], seed=0)
    result = study.run(two, max_trials=3)
    for trial in result.trials:
        assert trial.values == [trial.metrics["accuracy_mean"], trial.metrics["neg_log_loss_mean"]]
    assert set(result.test) == {"accuracy", "neg_log_loss"}


def test_weights_reach_the_last_step_of_a_pipeline(one):
    weights = np.where(Y == 1, 100.0, 1e-6)
    weighted = DataSource.of((X, Y, weights))
    estimator = make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=1))
    space = SearchSpace(decisiontreeclassifier__max_depth=Choice([1]))
    heavy = search(one, SklearnObjective(estimator, weighted, cv=3), max_trials=1, space=space)
    even = search(one, SklearnObjective(estimator, (X, Y), cv=3), max_trials=1, space=space)
    assert heavy.best_trial.value < even.best_trial.value - 0.1  # it says 1 for all


def test_a_process_loads_data_once_for_all_parts(two, tmp_path):
    def load():
        with open(tmp_path / "loads", "ab") as file:
            file.write(b"%d\n" % os.getpid())
        return X, Y

    result = search(two, SklearnObjective(DecisionTreeClassifier, load, cv=5))
    assert result.counts == {"COMPLETED": 4}
    loads = (tmp_path / "loads").read_text().split()
    assert len(loads) == len(set(loads)) <= 2


def trials_of(executor, objective):
    """A trial of which a fold misbehaves, and one of which none does."""
    return search(executor, objective, max_trials=2, space=THRESHOLD, x0=[{"x": -0.5}, {"x": 0.5}]).trials


@pytest.mark.parametrize("n_slots", [1, 2])
def test_a_fold_that_raises_fails_its_trial(n_slots, tmp_path):
    objective, _ = telling(tmp_path, fault="raise")
    with ProcessExecutor(n_slots) as executor:
        failed, other = trials_of(executor, objective)
    folds = StratifiedKFold(5, shuffle=True, random_state=3).split(X, Y)
    (number,) = [number for number, (_, scored) in enumerate(folds, start=1) if 0 in scored]
    assert str(failed.state) == "FAILED"
    assert failed.reason == "ValueError: a bad fold"
    assert f"in fold {number} of 5" in failed.error
    assert str(other.state) == "COMPLETED"


def test_a_fold_whose_process_dies_has_its_trial_run_again(tmp_path):
    objective, _ = telling(tmp_path, fault="die once")
    with ProcessExecutor(2) as executor:
        again, other = trials_of(executor, objective)
    assert (str(again.state), again.attempt) == ("COMPLETED", 2)
    assert (str(other.state), other.attempt) == ("COMPLETED", 1)


def test_a_fold_that_hangs_has_its_trial_time_out(tmp_path):
    objective, _ = telling(tmp_path, fault="hang")
    with ProcessExecutor(2, task_timeout_s=5.0) as executor:
        late, other = trials_of(executor, objective)
    assert (str(late.state), str(other.state)) == ("TIMED_OUT", "COMPLETED")


def test_the_time_limit_is_that_of_all_folds_together(tmp_path):
    objective, _ = telling(tmp_path, fit_s=1.0)
    with ProcessExecutor(2, task_timeout_s=3.5) as executor:
        result = search(executor, objective, max_trials=1, space=THRESHOLD)
    (trial,) = result.trials
    assert str(trial.state) == "TIMED_OUT"
    assert trial.seconds > 3.5


def test_the_memory_limit_holds_for_each_fold(tmp_path):
    objective, _ = telling(tmp_path, fault="grow")
    with ProcessExecutor(2, memory_mb=400) as executor:
        grown, other = trials_of(executor, objective)
    assert grown.reason.startswith("MemoryExceeded")
    assert str(other.state) == "COMPLETED"


def test_a_trial_in_parts_can_be_cancelled(two, tmp_path):
    objective, log = telling(tmp_path, fit_s=20)
    study = Study(THRESHOLD, objective, "random", seed=0)

    def cancel():
        while len(fits(log)) < 2:
            time.sleep(0.05)
        study.cancel(0)

    threading.Thread(target=cancel, daemon=True).start()
    result = study.run(two, max_trials=1)
    assert result.counts == {"CANCELLED": 1}
    assert len(fits(log)) == 2


def test_a_stopped_search_ends_the_folds_of_trials_that_run(two, tmp_path):
    objective, _ = telling(tmp_path, fit_s=0.2)
    study = Study(THRESHOLD, objective, "random", seed=0, callbacks=[lambda study, trial: study.stop()])
    result = study.run(two, max_trials=50)
    assert result.counts["COMPLETED"] >= 1
    assert len(result.trials) <= 3


def test_a_model_that_cannot_be_trained_fails_no_trial(two, tmp_path):
    class Small(Telling):
        def fit(self, x, y):
            if len(x) > 100:
                raise MemoryError("too many rows")
            return super().fit(x, y)

    objective = SklearnObjective(Small(str(tmp_path / "fits")), (X, Y), cv=5)
    for pool in (two, SerialExecutor()):
        result = search(pool, objective, max_trials=2, space=THRESHOLD)
        assert result.counts == {"COMPLETED": 2}
        assert "too many rows" in result.model_error


def test_on_spark_folds_run_side_by_side(spark, tmp_path):
    objective, log = telling(tmp_path, fit_s=0.2)
    with SparkExecutor(spark, slots=2) as executor:
        result = search(executor, objective, tmp_path / "run", max_trials=2, space=THRESHOLD)
    assert result.counts == {"COMPLETED": 2}
    assert len({pid for pid, *_ in fits(log)}) == 2
    assert (tmp_path / "run" / "best" / "model.joblib").exists()


def test_refit_trains_without_folds(two, tmp_path):
    objective = SklearnObjective(DecisionTreeClassifier, "digits", cv=3, scoring="accuracy")
    result = search(two, objective, tmp_path, max_trials=2, space=SearchSpace(max_depth=Int(9, 12)))
    again = refit(tmp_path, objective, two)
    assert again.values == result.best_trial.values
    assert again.test == result.test
    full = refit(tmp_path, objective, two, full=True)
    assert full.metrics["accuracy"] > result.best_trial.value
    assert full.test == pytest.approx(result.test, abs=0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cv": 1}, "cv=1"),
        ({"cv": True}, "cv=True"),
        ({"cv": "five"}, "cv='five'"),
        ({"cv": []}, "at least one pair"),
        ({"scoring": "acuracy"}, "Did you mean 'accuracy'"),
        ({"scoring": []}, "name a scorer"),
        ({"estimator": 3}, "estimator must be"),
    ],
)
def test_what_is_wrong_is_said_at_once(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        SklearnObjective(**{"estimator": DecisionTreeClassifier, "data": "digits", **options})


FILE = """\
study: {{name: trees, seed: 3, max_trials: 3}}
space: {{max_depth: {{int: [2, 9]}}}}
objective: {objective}
executor: processes
"""


def read(tmp_path, objective):
    (tmp_path / "mine.py").write_text(
        "from sklearn.pipeline import make_pipeline\nfrom sklearn.tree import DecisionTreeClassifier\n"
        "def build(params):\n    return DecisionTreeClassifier(**params)\n"
        "piped = make_pipeline(DecisionTreeClassifier())\n"
    )
    path = tmp_path / "study.yaml"
    path.write_text(FILE.format(objective=objective))
    return read_study_file(path)


@pytest.mark.parametrize(
    "estimator", ["sklearn.tree.DecisionTreeClassifier", "sklearn.tree:DecisionTreeClassifier", "mine.py:build"]
)
def test_a_study_file_names_an_estimator(two, tmp_path, estimator):
    file = read(tmp_path, f"{{sklearn: '{estimator}', data: digits, cv: 3, scoring: accuracy}}")
    study = file.study(tmp_path / "run")
    assert study.directions == ("maximize",)
    result = study.run(two, **vars(file.limits))
    assert result.counts == {"COMPLETED": 3}
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test"]["accuracy"] > 0.2
    again = read_study_file(tmp_path / "run" / "study.yaml").study(tmp_path / "run", resume=True)
    assert len(again.run(two, max_trials=4).trials) == 4


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ("{sklearn: sklearn.tree.DecisionTreeClassifier}", "needs the key data"),
        ("{sklearn: sklearn.tree.DecisionTreeClassifier, data: digits, epochs: 3}", "belongs to a keras objective"),
        ("{sklearn: sklearn.tree.DecisionTreeClassifier, data: digits, validation: 0.2}", "by its folds"),
        ("{sklearn: sklearn.tree.DecisionTreeClassifier, data: digits, cv: 1}", "objective.cv"),
        ("{sklearn: sklearn.tree.DecisionTreeClassifier, data: digits, scoring: acc}", "objective.scoring"),
        ("{sklearn: sklearn.svm.SVC, data: digits}", "no parameter 'max_depth'"),
        ("{sklearn: 'mine.py:piped', data: digits}", "Did you mean 'decisiontreeclassifier__max_depth'"),
        ("{sklearn: sklearn.svm.SVX, data: digits}", "has no 'SVX'"),
        ("{sklearn: sklearn.svm.SVC, keras: 'mine.py:build', data: digits}", "exactly one"),
    ],
)
def test_a_study_file_that_makes_no_sense_is_refused(tmp_path, objective, words):
    with pytest.raises(ValueError, match=words):
        read(tmp_path, objective).study(None)
