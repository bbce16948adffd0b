"""What is known before a search begins: points with or without their values, and trials of an earlier search."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from hpo_spark.errors import ConfigError, SpaceError
from hpo_spark.exchange.source import Source, read_trials_from
from hpo_spark.results.result import best_first
from hpo_spark.space import Params, SearchSpace
from hpo_spark.trial import Trial, TrialState

__all__ = ["KnownPoint", "WarmStart", "read_point", "read_warm_start"]

logger = logging.getLogger(__name__)

_VALUE_KEYS = ("value", "values")


@dataclass(frozen=True)
class KnownPoint:
    """A configuration to begin with.

    Attributes:
        params: The configuration.
        values: Its values, one an objective; None where it is to be evaluated.
    """

    params: Params
    values: list[float] | None = None


@dataclass(frozen=True)
class WarmStart:
    """What an earlier search tells a new one.

    Attributes:
        trials: Its trials, numbered below 0, without what belongs to its searcher.
        best: The best of their configurations, which is evaluated first: nothing says that its value still holds.
    """

    trials: list[Trial]
    best: Params | None


def read_point(entry: Any, space: SearchSpace, n_objectives: int) -> KnownPoint:
    """An entry of ``x0``: a configuration, or ``{"params": configuration, "value": number}``.

    Args:
        entry: The entry; for several objectives it has ``"values"``, a list.
        space: Where the configuration lies.
        n_objectives: How many values there must be.

    Raises:
        ConfigError: If it is neither, lies outside the space, or a value is no finite number.
    """
    if not isinstance(entry, Mapping):
        raise ConfigError(f"x0 must hold configurations, mappings of parameter names to values, got {entry!r}.")
    if "params" in space or "params" not in entry:
        return KnownPoint(space.validate(entry))
    given = [key for key in entry if key != "params"]
    if len(given) > 1 or any(key not in _VALUE_KEYS for key in given):
        raise ConfigError(f"x0: a known point has the key params and one of value and values, got {list(entry)}.")
    if not isinstance(entry["params"], Mapping):
        raise ConfigError(f"x0: params must be a configuration, got {entry['params']!r}.")
    params = space.validate(entry["params"])
    if not given:
        return KnownPoint(params)
    raw = entry[given[0]]
    values = list(raw) if isinstance(raw, Sequence) and not isinstance(raw, str) else [raw]
    if len(values) != n_objectives:
        raise ConfigError(f"x0: the study has {n_objectives} objective(s), got {given[0]}={raw!r}.")
    if not all(isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) for value in values):
        raise ConfigError(f"x0: a known value must be a finite number, got {given[0]}={raw!r}.")
    return KnownPoint(params, [float(value) for value in values])


def read_warm_start(source: Source, space: SearchSpace, directions: Sequence[str]) -> WarmStart:
    """What an earlier search tells a new one.

    Args:
        source: What `read_trials_from` takes: a run folder, trials, and what other libraries have.
        space, directions: Of the new one.

    Raises:
        ConfigError: If it cannot be read, the directions differ, or no trial fits.
        MissingExtra: If the library that it comes from is not installed.
    """
    try:
        trials = read_trials_from(source, space, directions)
    except ConfigError as error:
        raise ConfigError(f"warm_start: {error}") from error
    return _of_use(trials, space, directions)


def _of_use(trials: Sequence[Trial], space: SearchSpace, directions: Sequence[str]) -> WarmStart:
    """Those trials that fit into the space and say something about their configuration.

    One that was cancelled, or whose executor was lost, says nothing; a repeat's configuration is among them already.
    """
    if not trials:
        raise ConfigError("warm_start: expected trials, and there is none.")
    told: list[Trial] = []
    problem = "they were cancelled, or their executors were lost"
    for trial in trials:
        if trial.tells_nothing or trial.state is TrialState.RUNNING or trial.repeat is not None:
            continue
        if trial.values is not None and len(trial.values) != len(directions):
            problem = f"they have {len(trial.values)} value(s), and this study {len(directions)} objective(s)"
            continue
        try:
            params = space.validate(trial.params)
        except SpaceError as error:
            problem = str(error)
            continue
        told.append(replace(trial, number=-1 - len(told), params=params, token=None, parent=None, origin=None))
    if not told:
        raise ConfigError(f"warm_start: none of its {len(trials)} trial(s) is of use here: {problem}")
    if len(told) < len(trials):
        logger.info("warm start: %d of %d trials are of use here", len(told), len(trials))
    ranked = best_first(told, directions)
    return WarmStart(told, ranked[0].params if ranked else None)
