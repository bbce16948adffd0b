"""The `Trials` of hyperopt, from a real search of it."""

import math
import pickle
import sys
import warnings

import pytest
from exchanged import SMALL

from hpo_spark import Choice, ConfigError, Float, Int, SearchSpace, SpaceError, TrialState
from hpo_spark.errors import MissingExtra
from hpo_spark.exchange.hyperopt import from_hyperopt, read_hyperopt

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import hyperopt
    from hyperopt import hp

import numpy as np

SPACE = SearchSpace(
    rate=Float(1e-4, 1.0, log=True),
    layers=Int(1, 5),
    optimizer=Choice(["sgd", "adam"]),
    momentum=Float(0.0, 0.99, when={"optimizer": "sgd"}),
)
THEIRS = {
    "rate": hp.loguniform("rate", math.log(1e-4), 0.0),
    "layers": hp.quniform("layers", 1, 5, 1),
    "optimizer": hp.choice("optimizer", [{"momentum": hp.uniform("momentum", 0.0, 0.99)}, {}]),
}


def searched(path="", n=12, objective=None):
    calls = []

    def noted(params):
        calls.append(params)
        if len(calls) == 5:
            return {"status": hyperopt.STATUS_FAIL}
        return float("nan") if len(calls) == 7 else params["rate"] * params["layers"]

    trials = hyperopt.Trials()
    hyperopt.fmin(
        objective or noted,
        THEIRS,
        hyperopt.rand.suggest,
        n,
        trials=trials,
        trials_save_file=str(path),
        rstate=np.random.default_rng(0),
        show_progressbar=False,
        verbose=False,
    )
    return trials, calls


def test_params_are_those_that_hyperopt_evaluated():
    theirs, calls = searched()
    trials = from_hyperopt(theirs, SPACE, ["minimize"])
    assert len(trials) == 12
    for trial, call in zip(trials, calls, strict=True):
        params = SPACE.validate(trial.params)
        assert params["rate"] == call["rate"]
        assert params["layers"] == call["layers"]
        assert params.get("momentum") == call["optimizer"].get("momentum")
        assert params["optimizer"] == ("sgd" if "momentum" in call["optimizer"] else "adam")
        assert trial.seconds is not None and trial.seconds >= 0
        if trial.state is TrialState.COMPLETED:
            assert trial.value == call["rate"] * call["layers"]
    assert [str(trial.state) for trial in trials[3:8]] == ["COMPLETED", "FAILED", "COMPLETED", "FAILED", "COMPLETED"]
    assert trials[4].reason.startswith("Failed: hyperopt has the result {")
    mirrored = from_hyperopt(theirs, SPACE, ["maximize"])
    assert [trial.value for trial in mirrored if trial.values] == [-trial.value for trial in trials if trial.values]


def test_trials_that_raised_and_trials_that_have_not_ended():
    theirs, _ = searched(n=3)
    docs = [dict(doc) for doc in theirs.trials]
    docs[0]["state"] = hyperopt.JOB_STATE_ERROR
    docs[0]["misc"] = {**docs[0]["misc"], "error": ("<class 'ValueError'>", "too large")}
    docs[1]["state"] = hyperopt.JOB_STATE_RUNNING
    trials = from_hyperopt(hyperopt.trials_from_docs(docs, validate=False), SPACE, ["minimize"])
    assert [(trial.number, str(trial.state)) for trial in trials] == [(0, "FAILED"), (2, "COMPLETED")]
    assert trials[0].reason == "<class 'ValueError'>: too large"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # hyperopt leaves its file open
def test_a_pickle_is_read(tmp_path):
    theirs, _ = searched(tmp_path / "trials.pkl", 4, lambda params: params["rate"])
    trials = read_hyperopt(tmp_path / "trials.pkl", SPACE, ["minimize"])
    assert trials == from_hyperopt(theirs, SPACE, ["minimize"])
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ConfigError, match="expected a pickle of hyperopt's Trials, got dict"):
        read_hyperopt(tmp_path / "other.pkl", SPACE, ["minimize"])
    (tmp_path / "text.pkl").write_text("no pickle")
    with pytest.raises(ConfigError, match="text.pkl: expected a pickle of hyperopt's Trials"):
        read_hyperopt(tmp_path / "text.pkl", SPACE, ["minimize"])


def test_what_does_not_fit_is_refused(monkeypatch):
    theirs, _ = searched(n=6, objective=lambda params: params["rate"])
    with pytest.raises(ConfigError, match="one objective, and this study has 2"):
        from_hyperopt(theirs, SPACE, ["minimize", "minimize"])
    narrow = SearchSpace(
        **{**{name: SPACE[name] for name in SPACE if name != "momentum"}, "optimizer": Choice(["sgd"])}
    )
    with pytest.raises(SpaceError, match=r"has the index 1 in hyperopt's trials, and 1 value\(s\) here"):
        from_hyperopt(theirs, narrow, ["minimize"])
    monkeypatch.setitem(sys.modules, "hyperopt", None)
    with pytest.raises(MissingExtra, match=r'hyperopt.*"hpo_spark\[tpe\]"'):
        from_hyperopt(theirs, SMALL, ["minimize"])
