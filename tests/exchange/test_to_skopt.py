"""Trials as an `OptimizeResult`, drawn by scikit-optimize."""

import random
import sys

import matplotlib as mpl
import numpy as np
import pytest
import skopt
from exchanged import SMALL, SPACE, a_trial, some_trials

from hpo_spark import Choice, ConfigError, SearchSpace, Trial, TrialState
from hpo_spark.errors import MissingExtra
from hpo_spark.exchange.skopt import to_skopt, write_skopt

mpl.use("Agg")


def test_losses_are_minimised_and_failed_trials_left_out():
    trials = some_trials(20)
    told = [trial for trial in trials if trial.values]
    for direction, sign in (("maximize", -1.0), ("minimize", 1.0)):
        result = to_skopt(trials, SPACE, [direction])
        assert result.func_vals.tolist() == [sign * trial.value for trial in told]
        assert result.fun == min(result.func_vals)
        assert result.x == result.x_iters[int(np.argmin(result.func_vals))]
        assert len(result.x_iters) == len(told) == result.specs["args"]["n_calls"]
        assert result.space.dimension_names == SPACE.names
        assert all(point in result.space for point in result.x_iters)
        assert len(result.models) == 1


def test_what_is_not_active_stands_in_the_middle_and_choices_by_their_text():
    trials = [a_trial(0, {**SPACE.sample(0), "optimizer": "adam", "odd": None, "mixed": [1, 2]})]
    trials[0].params.pop("momentum", None)
    point = dict(zip(SPACE.names, to_skopt(trials, SPACE, ["minimize"]).x, strict=True))
    assert point["momentum"] == SPACE["momentum"].decode(0.5)
    assert (point["optimizer"], point["odd"], point["mixed"]) == ("adam", "None", "[1, 2]")
    assert point["rate"] == trials[0].params["rate"]
    for name in ("odd", "mixed"):
        (dimension,) = [one for one in to_skopt(trials, SPACE, ["minimize"]).space if one.name == name]
        assert len(set(dimension.categories)) == len(SPACE[name].values)


def test_plots_are_drawn(tmp_path):
    from matplotlib import pyplot
    from skopt import plots

    space = SearchSpace(**{name: SPACE[name] for name in ("rate", "width", "mixed")}, fixed=Choice(["one"]))
    rng = random.Random(0)
    trials = [Trial(n, space.sample(rng), 0, state=TrialState.COMPLETED, values=[rng.random()]) for n in range(12)]
    write_skopt(trials, space, ["maximize"], tmp_path / "result.pkl")
    result = skopt.load(tmp_path / "result.pkl")
    assert result.fun == to_skopt(trials, space, ["maximize"]).fun
    plots.plot_convergence(result)
    plots.plot_evaluations(result)
    plots.plot_objective(result, n_points=4, n_samples=5)
    pyplot.close("all")


def test_one_trial_is_enough():
    assert to_skopt(some_trials(1, SMALL), SMALL, ["minimize"]).func_vals.shape == (1,)


def test_what_scikit_optimize_cannot_have_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match="one objective, and this study has 2"):
        to_skopt(some_trials(3, n_values=2), SPACE, ["maximize", "minimize"])
    with pytest.raises(ConfigError, match=r"of 1 trial\(s\) none has one"):
        to_skopt([Trial(0, {}, 0, state=TrialState.FAILED)], SPACE, ["maximize"])
    monkeypatch.setitem(sys.modules, "skopt", None)
    with pytest.raises(MissingExtra, match=r'scikit-optimize.*"hpo_spark\[bayes\]"'):
        to_skopt(some_trials(1, SMALL), SMALL, ["minimize"])
