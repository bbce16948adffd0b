"""scikit-optimize, used directly."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from skopt import Optimizer
from skopt.space import Categorical, Integer, Real

from benchmarks.searching.peer_values import bounds_of, decoded, encoded
from hpo_spark.parameters import Choice, Int, Parameter
from hpo_spark.searchers import Proposal
from hpo_spark.space import SearchSpace
from hpo_spark.trial import Trial

__all__ = ["SkoptPeer"]


class SkoptPeer:
    """scikit-optimize's `Optimizer`.

    Args:
        space: What may be tried.
        seed: Of its generator.
        model: ``"GP"`` as `gp_minimize` has it, or ``"ET"`` as `forest_minimize` does.
    """

    def __init__(self, space: SearchSpace, seed: int, *, model: str) -> None:
        self._space = space
        acquisition = {"GP": "gp_hedge", "ET": "EI"}[model]
        dimensions = [_skopt_dimension(space[name]) for name in space]
        self._optimizer = Optimizer(dimensions, base_estimator=model, acq_func=acquisition, random_state=seed)

    def ask(self, n: int) -> list[Proposal]:
        """The next configuration."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that a point repeats
            point = self._optimizer.ask()
        return [Proposal({name: decoded(self._space[name], x) for name, x in zip(self._space, point, strict=True)})]

    def tell(self, trial: Trial) -> None:
        """The loss of a configuration."""
        self.tell_all([trial])

    def tell_all(self, trials: Sequence[Trial]) -> None:
        """The losses of many configurations, in one fit."""
        points = [[encoded(self._space[name], trial.params[name]) for name in self._space] for trial in trials]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._optimizer.tell(points, [trial.value for trial in trials])


def _skopt_dimension(parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        n = len(parameter.values)
        return Integer(0, n - 1) if parameter.ordered else Categorical(list(range(n)))
    low, high = bounds_of(parameter)
    prior = "log-uniform" if parameter.log else "uniform"
    return Integer(int(low), int(high), prior) if isinstance(parameter, Int) else Real(low, high, prior)
