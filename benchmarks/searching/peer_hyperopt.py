"""hyperopt, used directly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hyperopt import Trials, hp, tpe
from hyperopt.base import JOB_STATE_DONE, STATUS_OK, Domain

from benchmarks.searching.peer_values import bounds_of, decoded
from hpo_spark.parameters import Choice, Int, Parameter
from hpo_spark.searchers import Proposal
from hpo_spark.space import SearchSpace
from hpo_spark.trial import Trial

__all__ = ["HyperoptPeer"]


class HyperoptPeer:
    """``fmin`` with ``tpe.suggest``, turned inside out: its loop draws a seed, suggests, evaluates, and looks again.

    Args:
        space: What may be tried.
        seed: Of its generator.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._trials = Trials()
        self._domain = Domain(lambda _: 0.0, {name: _hyperopt_node(name, space[name]) for name in space})

    def ask(self, n: int) -> list[Proposal]:
        """The next configuration."""
        ids = self._trials.new_trial_ids(1)
        self._trials.refresh()
        docs = tpe.suggest(ids, self._domain, self._trials, int(self._rng.integers(2**31 - 1)))
        self._trials.insert_trial_docs(docs)
        self._trials.refresh()
        found = {name: values[0] for name, values in docs[0]["misc"]["vals"].items()}
        return [Proposal({name: decoded(self._space[name], found[name]) for name in self._space})]

    def tell(self, trial: Trial) -> None:
        """The loss of the configuration asked for last."""
        doc = self._trials._dynamic_trials[-1]
        doc["state"] = JOB_STATE_DONE
        doc["result"] = {"status": STATUS_OK, "loss": trial.value}
        self._trials.refresh()


def _hyperopt_node(name: str, parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        n = len(parameter.values)
        return hp.uniformint(name, 0, n - 1) if parameter.ordered else hp.choice(name, list(range(n)))
    low, high = bounds_of(parameter)
    if isinstance(parameter, Int):
        assert not parameter.log
        return hp.uniformint(name, low, high)
    return hp.loguniform(name, math.log(low), math.log(high)) if parameter.log else hp.uniform(name, low, high)
