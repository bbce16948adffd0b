"""What to try next: one file an algorithm, and the table of their names."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from hpo_spark.errors import ConfigError
from hpo_spark.plain import to_plain
from hpo_spark.searchers.base import Direction, Proposal, Searcher
from hpo_spark.space import SearchSpace

__all__ = ["NAMES", "Proposal", "Searcher", "has_fidelities", "make_searcher"]

_CLASSES = {
    "asha": "hpo_spark.searchers.asha:AshaSearcher",
    "bayes": "hpo_spark.searchers.bayes:BayesSearcher",
    "cmaes": "hpo_spark.searchers.cmaes:CmaEsSearcher",
    "de": "hpo_spark.searchers.de:DifferentialEvolutionSearcher",
    "dehb": "hpo_spark.searchers.dehb:DehbSearcher",
    "ensemble": "hpo_spark.searchers.ensemble:EnsembleSearcher",
    "evolution": "hpo_spark.searchers.evolution:EvolutionSearcher",
    "genetic": "hpo_spark.searchers.genetic:GeneticSearcher",
    "grid": "hpo_spark.searchers.grid:GridSearcher",
    "hyperband": "hpo_spark.searchers.hyperband:HyperbandSearcher",
    "lhs": "hpo_spark.searchers.designs:LatinHypercubeSearcher",
    "nsga2": "hpo_spark.searchers.nsga:Nsga2Searcher",
    "nsga3": "hpo_spark.searchers.nsga:Nsga3Searcher",
    "optuna": "hpo_spark.searchers.optuna:OptunaSearcher",
    "random": "hpo_spark.searchers.random:RandomSearcher",
    "sobol": "hpo_spark.searchers.designs:SobolSearcher",
    "tpe": "hpo_spark.searchers.tpe:TpeSearcher",
}
# Those with fidelities.
_RUNGS = ("asha", "dehb", "hyperband")
# Any sampler of Optuna's is a searcher; the bare name stands for its default.
NAMES = tuple("optuna:<Sampler>" if name == "optuna" else name for name in _CLASSES)


def make_searcher(
    choice: str | Mapping[str, Any] | Searcher | None,
    space: SearchSpace,
    directions: Sequence[Direction],
    seed: int,
    fidelity: Mapping[str, Any] | None = None,
) -> Searcher:
    """The searcher that a user chose.

    Args:
        choice: A name, a mapping of ``name`` and options, or a searcher made by hand, which keeps its own seed. Without
            a name: ``"evolution"``, and ``"nsga2"`` for several objectives.
        space, directions, seed: What the searcher searches, and how.
        fidelity: ``min``, ``max`` and ``eta`` of a searcher that has fidelities; any other is asked by ``asha`` for the
            configurations that it tries. None for no fidelities.

    Raises:
        ConfigError: If there is no such searcher or option, or an option's value is impossible.
    """
    if fidelity is not None:
        return _with_fidelity(choice, space, directions, seed, fidelity)
    if isinstance(choice, Searcher):
        if choice.space != space or choice.directions != tuple(directions):
            raise ConfigError(
                f"searcher: this {choice.name!r} was made for directions {list(choice.directions)} and the parameters "
                f"{choice.space.names}, but the study has {list(directions)} and {space.names}."
            )
        return choice
    if not isinstance(choice, str | Mapping | None):
        raise ConfigError(f"searcher: must be a name, a mapping with a name, or a Searcher, got {choice!r}.")
    options = _options_of(choice)
    name = options.pop("name", None) or ("evolution" if len(directions) == 1 else "nsga2")
    known_as = name
    if isinstance(name, str) and name.startswith("optuna:"):
        known_as = "optuna"
        if "sampler" in options:
            raise ConfigError(f"searcher: {name!r} names the sampler already, got sampler={options['sampler']!r} too.")
        options["sampler"] = name.removeprefix("optuna:")
    if not isinstance(known_as, str) or known_as not in _CLASSES:
        close = difflib.get_close_matches(str(name), NAMES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"searcher: there is no {name!r}; choose one of {list(NAMES)}.{hint}")
    module, _, attribute = _CLASSES[known_as].partition(":")
    cls: type[Searcher] = getattr(importlib.import_module(module), attribute)
    parameters = inspect.signature(cls).parameters
    allowed = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
    # A searcher with options of another library's checks them itself.
    is_open = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [option for option in options if option in allowed or (is_open and option not in parameters)]
    if unknown := [option for option in options if option not in known]:
        takes = f"it takes {allowed}" if allowed else "it takes none"
        raise ConfigError(f"searcher: {name!r} has no option {unknown[0]!r}; {takes}.")
    try:
        return cls(space, directions, seed, **options)
    except ConfigError as error:
        raise ConfigError(f"searcher: {name!r}: {error}") from None


def _with_fidelity(
    choice: str | Mapping[str, Any] | Searcher | None,
    space: SearchSpace,
    directions: Sequence[Direction],
    seed: int,
    fidelity: Mapping[str, Any],
) -> Searcher:
    """A searcher with fidelities: the one that a user chose, or ``asha`` around it."""
    if len(directions) > 1:
        raise ConfigError(f"fidelity: needs one objective, got directions={list(directions)}; leave it out.")
    if isinstance(choice, Searcher):
        if choice.full_fidelity is not None:
            raise ConfigError(f"fidelity: this {choice.name!r} was made with fidelities of its own; leave it out.")
        options: dict[str, Any] = {"name": "asha", "searcher": choice}
    else:
        options = _options_of(choice)
        if options.get("name") not in _RUNGS:
            options = {"name": "asha", "searcher": options}
    if twice := [name for name in fidelity if name in options]:
        raise ConfigError(f"fidelity: {twice[0]!r} is an option of the searcher too; keep one of the two.")
    try:
        return make_searcher({**options, **fidelity}, space, directions, seed)
    except ConfigError as error:
        raise ConfigError(str(error).replace("searcher: 'asha': ", "fidelity: ", 1)) from None


def _options_of(choice: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """A choice as a mapping of name and options."""
    if isinstance(choice, str):
        return {"name": choice}
    return {key: _plain(value) for key, value in (choice or {}).items()}


def has_fidelities(choice: Any) -> bool:
    """Whether a choice names a searcher that gives its trials fidelities."""
    if isinstance(choice, Searcher):
        return choice.full_fidelity is not None
    return isinstance(choice, str | Mapping) and _options_of(choice).get("name") in _RUNGS


def _plain(option: Any) -> Any:
    """An option without numpy's types; itself where it is no plain data, such as a toolbox."""
    try:
        return to_plain(option)
    except TypeError:
        return option
