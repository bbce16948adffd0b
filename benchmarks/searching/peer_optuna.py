"""Optuna, used directly."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna

from benchmarks.searching.peer_values import bounds_of, decoded, encoded
from hpo_spark.parameters import Choice, Int
from hpo_spark.searchers import Proposal
from hpo_spark.space import Params, SearchSpace
from hpo_spark.trial import Trial

__all__ = ["OptunaPeer"]

# Asks in a row that all repeat before a random configuration is taken.
_MAX_REPEATS = 100


class OptunaPeer:
    """A study with the default sampler (`TPESampler`).

    Args:
        space: What may be tried.
        seed: Of its sampler.
        repeats: Whether a configuration may come again. If not, a trial that repeats is told as failed, which its
            sampler leaves out, at no cost, and another is asked for; after 100 in a row a new random configuration is
            enqueued.
    """

    def __init__(self, space: SearchSpace, seed: int, *, repeats: bool = True) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._repeats = repeats
        self._seen: set[str] = set()
        self._rng = np.random.default_rng(seed)
        self._study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        self._trial: Any = None

    def ask(self, n: int) -> list[Proposal]:
        """The next configuration."""
        for attempt in range(_MAX_REPEATS + 1):
            if attempt == _MAX_REPEATS:
                self._study.enqueue_trial(self._new())
            self._trial = self._study.ask()
            params = {name: decoded(self._space[name], self._suggested(name)) for name in self._space}
            key = self._space.key(params)
            if self._repeats or key not in self._seen:
                break
            self._study.tell(self._trial, state=optuna.trial.TrialState.FAIL)
        self._seen.add(key)
        return [Proposal(params)]

    def tell(self, trial: Trial) -> None:
        """The loss of the configuration asked for last."""
        self._study.tell(self._trial, trial.value)

    def _suggested(self, name: str) -> float:
        parameter = self._space[name]
        if isinstance(parameter, Choice):
            places = range(len(parameter.values))
            if parameter.ordered:
                return int(self._trial.suggest_int(name, places[0], places[-1]))
            return int(self._trial.suggest_categorical(name, list(places)))
        low, high = bounds_of(parameter)
        if isinstance(parameter, Int):
            return int(self._trial.suggest_int(name, int(low), int(high), log=parameter.log))
        return float(self._trial.suggest_float(name, low, high, log=parameter.log))

    def _new(self) -> Params:
        for _ in range(10_000):
            params = self._space.sample(self._rng)
            if self._space.key(params) not in self._seen:
                break
        return {name: encoded(self._space[name], value) for name, value in params.items()}
