"""Trials as an `OptimizeResult` of scikit-optimize, for its plots."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpo_spark.errors import ConfigError, MissingExtra
from hpo_spark.exchange.files import write_file
from hpo_spark.parameters import Choice, Int, Parameter
from hpo_spark.results.columns import cell_text
from hpo_spark.space import SearchSpace
from hpo_spark.trial import Trial

__all__ = ["to_skopt", "write_skopt"]

# Of the surrogate, and of `random_state`: the trials themselves depend on no draw of scikit-optimize's.
_SEED = 0
_N_TREES = 100


def to_skopt(trials: Sequence[Trial], space: SearchSpace, directions: Sequence[str]) -> Any:
    """What scikit-optimize's own minimisers return, for `skopt.plots`.

    It has ``x``, ``fun``, ``x_iters``, ``func_vals``, ``space``, ``random_state``, ``specs``, and in ``models`` one
    forest of trees fitted to the trials, which `plot_objective` needs. Everything there is minimised, so of a study
    that maximises ``fun`` and ``func_vals`` are the negated values. Trials without a value are left out: a made-up loss
    would bend every plot. A parameter that is not active stands at the middle of its range, since scikit-optimize knows
    no conditions, and so it does no steps. Choices of text are categories as they are, all others by their text.

    Args:
        trials: Of one search.
        space: Where their params lie.
        directions: The one direction; scikit-optimize knows a single objective.

    Raises:
        ConfigError: If there are several objectives, or no trial has a value.
        MissingExtra: If scikit-optimize is not installed.
    """
    if len(directions) > 1:
        raise ConfigError(f"scikit-optimize knows one objective, and this study has {len(directions)}.")
    told = [trial for trial in trials if trial.values]
    if not told:
        raise ConfigError(f"scikit-optimize needs a trial with a value, and of {len(trials)} trial(s) none has one.")
    skopt = _skopt()
    dimensions = skopt.space.Space([_dimension(skopt.space, name, space[name]) for name in space])
    neutral = {name: space[name].decode(0.5) for name in space}
    points = [
        [_coordinate(space[name], value) for name, value in {**neutral, **space.validate(trial.params)}.items()]
        for trial in told
    ]
    sign = -1.0 if directions[0] == "maximize" else 1.0
    losses = np.array([sign * trial.values[0] for trial in told if trial.values])
    return skopt.utils.create_result(
        points,
        losses,
        dimensions,
        np.random.RandomState(_SEED),
        specs={"function": "hpo_spark", "args": {"dimensions": dimensions, "n_calls": len(told)}},
        models=[_forest(skopt, dimensions.transform(points), losses)],
    )


def write_skopt(
    trials: Sequence[Trial], space: SearchSpace, directions: Sequence[str], place: str | os.PathLike[str]
) -> None:
    """Write what `to_skopt` makes to a path or a URL that fsspec knows, for `skopt.load`.

    Raises:
        ConfigError, MissingExtra: As `to_skopt`, and if the file cannot be written.
    """
    buffer = io.BytesIO()
    _skopt().dump(to_skopt(trials, space, directions), buffer)
    write_file(place, buffer.getvalue())


def _dimension(dimensions: Any, name: str, parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        return dimensions.Categorical([_coordinate(parameter, value) for value in parameter.all_values()], name=name)
    low, high = parameter.decode(0.0), parameter.decode(1.0)
    if isinstance(parameter, Int):
        return dimensions.Integer(low, high, prior="log-uniform" if parameter.log else "uniform", name=name)
    is_log = parameter.log or (parameter.prior == "lognormal" and low > 0)
    return dimensions.Real(low, high, prior="log-uniform" if is_log else "uniform", name=name)


def _coordinate(parameter: Parameter, value: Any) -> Any:
    if not isinstance(parameter, Choice):
        return value
    is_text = all(isinstance(one, str) for one in parameter.values)
    return value if is_text else "None" if value is None else cell_text(value)


def _forest(skopt: Any, rows: Any, losses: Any) -> Any:
    forest = skopt.learning.ExtraTreesRegressor(n_estimators=_N_TREES, min_samples_leaf=2, random_state=_SEED)
    return forest.fit(rows, losses)


def _skopt() -> Any:
    try:
        import skopt
        import skopt.learning
        import skopt.space
        import skopt.utils
    except ImportError as error:
        raise MissingExtra("An OptimizeResult", "scikit-optimize", "bayes") from error
    return skopt
