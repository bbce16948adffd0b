"""Tree of Parzen estimators, by hyperopt.

    start     random draws
    each ask  for every parameter two densities, over the best trials and over the rest; of draws from the first, the
              one that is likeliest to be good rather than bad

A parameter that is active only sometimes hangs below the choice that it depends on, and is learnt from the trials that
had it.

References:
    Bergstra, Bardenet, Bengio and Kegl (2011), "Algorithms for hyper-parameter optimization", NIPS 24.
    Bergstra, Yamins and Cox (2013), "Making a science of model search: hyperparameter optimization in hundreds of
    dimensions for vision architectures", ICML: nested choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np

from hpo_spark.errors import MissingExtra
from hpo_spark.parameters import Float, Parameter
from hpo_spark.plain import same
from hpo_spark.searchers.base import Direction, Proposal, SequentialSearcher
from hpo_spark.searchers.history import losses_of
from hpo_spark.searchers.options import check_positive, check_whole
from hpo_spark.searchers.timeline import Entry, Timeline
from hpo_spark.searchers.views import view_of
from hpo_spark.seeds import derive_seed
from hpo_spark.space import Params, SearchSpace
from hpo_spark.trial import Trial

__all__ = ["TpeSearcher"]

_STREAM = 0x79E0
# Suggestions in a row that are known already, before a configuration is drawn evenly instead.
_MAX_REPEATS = 10
# Trials that hyperopt is told at most, since its time grows with them: the newest, and the best, which never count as
# bad. It takes no more than 25 for good.
_MAX_TOLD, _MAX_BEST = 1000, 25
# A parameter hangs below others that have so many values at most; hyperopt has a branch for each of them.
_MAX_BRANCHES = 64


class TpeSearcher(SequentialSearcher):
    """Asks hyperopt's ``tpe.suggest``.

    A trial without a value is told as failed, and one that is pending as running: hyperopt counts both among the bad.
    After 1,000 trials it is told of the newest, and of the best.

    Args:
        space, directions, seed: As for every searcher.
        start: Random draws to begin with, with the trials that are known already; hyperopt's ``n_startup_jobs``.
        candidates: Draws of which one is proposed, 1 or more; hyperopt's ``n_EI_candidates``.
        gamma: Of n trials the best gamma * sqrt(n) count as good, 25 at most; above 0.
        prior_weight: Weight of the even density that each estimate has mixed in, against 1 for a trial; above 0.

    Raises:
        MissingExtra: If hyperopt is not installed.
    """

    name = "tpe"
    is_slow = True

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[Direction] = ("maximize",),
        seed: int = 0,
        *,
        start: int = 20,
        candidates: int = 24,
        gamma: float = 0.25,
        prior_weight: float = 1.0,
    ) -> None:
        super().__init__(space, directions, seed)
        check_whole(start=(start, 1), candidates=(candidates, 1))
        check_positive(gamma=gamma, prior_weight=prior_weight)
        self._start, self._candidates = start, candidates
        self._gamma, self._prior_weight = gamma, prior_weight
        self._timeline = Timeline()
        self._views = {name: view_of(space[name]) for name in space}
        self._docs: dict[str, tuple[Entry, int, dict[str, Any]]] = {}
        _hyperopt()  # missing is said now

    def __getstate__(self) -> dict[str, Any]:
        """All but hyperopt's objects, which are made again."""
        return {name: value for name, value in self.__dict__.items() if name != "_domain"} | {"_docs": {}}

    def tell(self, trial: Trial) -> None:
        """Learn how a trial ended; in any order, also of trials that were never asked for."""
        super().tell(trial)
        self._timeline.tell(trial)

    def expect(self, trial: Trial) -> None:
        """Learn that a trial runs which this searcher object was not asked for."""
        super().expect(trial)
        self._timeline.expect(trial)

    def _propose(self, rng: np.random.Generator) -> Proposal | None:
        proposal = self._suggested() or self._drawn(rng)
        if proposal is not None:
            self._timeline.propose(proposal.params, self._n_asked, {})
        return proposal

    def _suggested(self) -> Proposal | None:
        """The first suggestion that is new; None where none is."""
        hyperopt = _hyperopt()
        told = self._told()
        trials = hyperopt.trials_from_docs([self._doc(tid, entry) for tid, entry in told], validate=False)
        is_start = len(told) < self._start
        # As many count as good as if all had been told.
        gamma = self._gamma * math.sqrt(len(self._timeline) / max(1, len(told)))
        for attempt in range(_MAX_REPEATS):
            with np.errstate(all="ignore"):  # logarithms of densities that have vanished
                (doc,) = hyperopt.tpe.suggest(
                    [len(self._timeline)],
                    self._domain,
                    trials,
                    derive_seed(self.seed, _STREAM, self._n_asked, attempt),
                    prior_weight=self._prior_weight,
                    n_startup_jobs=self._start,
                    n_EI_candidates=self._candidates,
                    gamma=gamma,
                    verbose=False,
                )
            params = self._params(doc["misc"]["vals"])
            if params not in self.history:
                return Proposal(params, origin={"by": "start" if is_start else "tpe"})
        return None

    def _drawn(self, rng: np.random.Generator) -> Proposal | None:
        params = self.history.draw_unseen(rng)
        return None if params is None else Proposal(params, origin={"by": "draw"})

    def _told(self) -> list[tuple[int, Entry]]:
        """What hyperopt is told, each with its place among all."""
        entries = list(enumerate(self._timeline.entries))
        n_told = max(_MAX_TOLD, self._start)
        if len(entries) <= n_told:
            return entries
        best = {known.key for known in self.history.ranked[:_MAX_BEST]}
        n_older = len(entries) - (n_told - len(best))
        return [entry for entry in entries[:n_older] if entry[1].key in best] + entries[n_older:]

    def _params(self, vals: Mapping[str, Sequence[Any]]) -> Params:
        found: Params = {}
        for name in self.space.parents_first:
            if self.space.is_active(name, found):
                found[name] = self._value(name, float(vals[name][0]))
        return {name: found[name] for name in self.space if name in found}

    def _value(self, name: str, number: float) -> Any:
        parameter = self.space[name]
        if _is_unbounded(parameter):
            return min(parameter.decode(1.0), max(parameter.decode(0.0), number))
        return self._views[name].value(number)

    def _number(self, name: str, value: Any) -> float:
        parameter = self.space[name]
        if _is_unbounded(parameter):
            return float(value)
        return self._views[name].number(value)

    def _doc(self, tid: int, entry: Entry) -> dict[str, Any]:
        """What hyperopt keeps of a trial."""
        cached = self._docs.get(entry.key)
        if cached is None or cached[0] is not entry or cached[1] != tid:
            cached = self._docs[entry.key] = entry, tid, self._new_doc(tid, entry)
        return cached[2]

    def _new_doc(self, tid: int, entry: Entry) -> dict[str, Any]:
        hyperopt = _hyperopt()
        if entry.trial is None:
            state, result = hyperopt.JOB_STATE_RUNNING, {"status": hyperopt.STATUS_RUNNING}
        elif (losses := losses_of(entry.trial, self.directions)) is None:
            state, result = hyperopt.JOB_STATE_DONE, {"status": hyperopt.STATUS_FAIL}
        else:
            state, result = hyperopt.JOB_STATE_DONE, {"status": hyperopt.STATUS_OK, "loss": losses[0]}
        params = entry.params
        misc = {
            "tid": tid,
            "cmd": None,
            "idxs": {name: [tid] if name in params else [] for name in self.space},
            "vals": {name: [self._number(name, params[name])] if name in params else [] for name in self.space},
        }
        empty = {"spec": None, "exp_key": None, "owner": None, "version": 0, "book_time": None, "refresh_time": None}
        return {"tid": tid, "state": state, "result": result, "misc": misc, **empty}

    @cached_property
    def _domain(self) -> Any:
        """The space in hyperopt's terms: each parameter's draw, below switches on the draws that it depends on.

        hyperopt's ``hp.choice`` is a switch with a draw of its own. Here all that depends on a choice shares its draw,
        and one draw hangs below several branches, so that a ``when`` may name several values and several parents. A
        parent that is no choice between a few values has no switch: what depends on it is drawn always, and learnt from
        the trials that had it all the same.
        """
        from hyperopt.pyll import scope

        draws = {name: scope.hyperopt_param(name, self._draw(name, scope)) for name in self.space}
        conditions = {name: spec.get("when", {}) for name, spec in self.space.to_dict().items()}

        def below_parents(name: str, node: Any) -> Any:
            for parent, values in conditions[name].items():
                if self._views[parent].is_index and self._views[parent].n_levels <= _MAX_BRANCHES:
                    is_active = [any(same(one, value) for value in values) for one in self.space[parent].all_values()]
                    node = scope.switch(scope.int(draws[parent]), *[node if active else None for active in is_active])
                node = below_parents(parent, node)
            return node

        return _hyperopt().Domain(None, {name: below_parents(name, draw) for name, draw in draws.items()})

    def _draw(self, name: str, scope: Any) -> Any:
        """The distribution of a parameter."""
        parameter, view = self.space[name], self._views[name]
        if _is_unbounded(parameter):
            return (scope.normal if parameter.prior == "normal" else scope.lognormal)(parameter.mean, parameter.sd)
        if view.kind == "category":
            return scope.randint(view.n_levels)
        if view.kind == "level":
            return scope.quniform(-0.5, view.n_levels - 0.5, 1)
        if view.kind == "log_int":
            return scope.qloguniform(math.log(view.low - 0.5), math.log(view.high + 0.5), 1)
        if view.kind == "log":
            return scope.loguniform(math.log(view.low), math.log(view.high))
        return scope.uniform(0.0, 1.0) if view.kind == "gene" else scope.uniform(view.low, view.high)


def _is_unbounded(parameter: Parameter) -> TypeGuard[Float]:
    """Whether a parameter is drawn from all of a normal or lognormal prior, which hyperopt has."""
    return isinstance(parameter, Float) and parameter.prior is not None and parameter.low is None


def _hyperopt() -> Any:
    try:
        import hyperopt
    except ImportError as error:
        raise MissingExtra("The searcher 'tpe'", "hyperopt", "tpe") from error
    return hyperopt
