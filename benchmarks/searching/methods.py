"""What is compared: this package's searchers and the peers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.searching import confirming, peer_hyperopt, peer_optuna, peer_skopt, runs
from benchmarks.searching.problem import Asked
from hpo_spark import Float, SearchSpace
from hpo_spark.errors import ConfigError
from hpo_spark.searchers import NAMES, make_searcher

__all__ = ["METHODS", "Method", "own"]


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    Attributes:
        make: Makes a searcher for a space and a seed.
        modules: Where its code is, for the fingerprint of its results.
        max_seeds: Most seeds, for what would take too long.
        max_evaluations: Most evaluations, likewise.
        regrets: One search, as `runs.regrets`.
    """

    make: Callable[[SearchSpace, int], Asked]
    modules: tuple[str, ...]
    max_seeds: int | None = None
    max_evaluations: int | None = None
    regrets: Callable[..., list[float]] = runs.regrets

    @property
    def is_slow(self) -> bool:
        """Whether it runs on fewer seeds than the others."""
        return self.max_seeds is not None


# Searchers for several objectives, and names that need a word more.
_NOT_HERE = {"nsga2", "nsga3", "optuna"}
# Searchers whose asks take a tenth of a second.
_MAX_SEEDS = {"bayes": 3}


def own(choice: str | Mapping[str, Any]) -> Method:
    """A searcher of this package.

    Raises:
        ConfigError: If there is none of that name.
    """
    name = choice if isinstance(choice, str) else choice["name"]
    searcher = make_searcher(choice, SearchSpace(x=Float(0, 1)), ("minimize",), 0)
    return Method(partial(_make_own, choice), (type(searcher).__module__,), _MAX_SEEDS.get(name))


def _make_own(choice: str | Mapping[str, Any], space: SearchSpace, seed: int) -> Asked:
    return make_searcher(choice, space, ("minimize",), seed)


def _all_own() -> dict[str, Method]:
    found = {}
    for name in dict.fromkeys((*NAMES, "optuna:TPESampler")):
        if name in _NOT_HERE or "<" in name:
            continue
        try:
            found[name] = own(name)
        except ConfigError:
            continue
    return dict(sorted(found.items(), key=lambda item: item[0] != "evolution"))


def _peer(cls: type, max_seeds: int | None = None, max_evaluations: int | None = None, **options: Any) -> Method:
    return Method(partial(cls, **options), (cls.__module__,), max_seeds, max_evaluations)


METHODS = {
    **_all_own(),
    "evolution+confirm": Method(confirming.make, confirming.MODULES, regrets=confirming.regrets),
    "direct:hyperopt": _peer(peer_hyperopt.HyperoptPeer),
    "direct:optuna": _peer(peer_optuna.OptunaPeer),
    "direct:optuna-distinct": _peer(peer_optuna.OptunaPeer, repeats=False),
    "direct:skopt-forest": _peer(peer_skopt.SkoptPeer, max_seeds=2, model="ET"),
    "direct:skopt-gp": _peer(peer_skopt.SkoptPeer, max_seeds=2, max_evaluations=100, model="GP"),
}
