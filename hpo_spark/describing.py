"""What a study made in Python is made of, in the form of a study file: to read, and to find out what has changed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from functools import partial
from hashlib import blake2b
from inspect import isclass, ismethod, isroutine
from typing import Any

from hpo_spark.plain import to_plain
from hpo_spark.pruners import Pruner
from hpo_spark.searchers import Searcher

__all__ = ["describe_choice", "describe_objective", "objective_names"]

# What a kind of objective is made from, and its options in a study file.
_KINDS = {
    "keras": (
        "build_model",
        ("epochs", "batch_size", "metric", "class_weight", "callbacks", "jit_compile", "test_every_trial"),
    ),
    "sklearn": ("estimator", ("cv", "scoring", "all_rows")),
    "function": ("function", ()),
}


def describe_choice(choice: str | Mapping[str, Any] | Searcher | Pruner | None) -> Any:
    """A searcher or a pruner: its name, or its name and options."""
    return choice.name if isinstance(choice, Searcher | Pruner) else _said(choice)


def describe_objective(objective: Any) -> dict[str, Any]:
    """An objective, as far as a study file has a form for it.

    Beside its function stands what that was ``given``: the arguments of a `functools.partial`, and the public
    attributes of an object. Private ones, which begin with an underscore, may change while it runs.
    """
    kind = next((kind for kind, (maker, _) in _KINDS.items() if hasattr(objective, maker)), "function")
    maker, options = _KINDS[kind]
    made_by = getattr(objective, maker, objective)
    described = {kind: _said(made_by), "given": _given(made_by)}
    if (data := getattr(objective, "data", None)) is not None:
        described["data"] = getattr(data, "describe", None)
    described |= {name: _said(getattr(objective, name)) for name in options if hasattr(objective, name)}
    return {name: value for name, value in described.items() if value not in (None, {}, [])}


def objective_names(study: Mapping[str, Any]) -> tuple[str, ...]:
    """What a study in the form of a study file calls its objectives: Keras' metrics or scikit-learn's scorers.

    Returns:
        One an objective; empty where it does not say.
    """
    objective: Mapping[str, Any] = study.get("objective") or {}
    named = objective.get("metric") or objective.get("scoring") or []
    names = [named] if isinstance(named, str) else list(named)
    return tuple(names) if all(isinstance(name, str) for name in names) else ()


def _given(function: Any) -> dict[str, Any]:
    if isinstance(function, partial):
        arguments: dict[Any, Any] = {**dict(enumerate(function.args)), **function.keywords}
        return {**_given(function.func), **_said(arguments)}
    if ismethod(function):
        return _given(function.__self__)
    if isroutine(function) or isclass(function) or hasattr(function, "get_params"):  # an estimator shows its own
        return {}
    return {name: _said(value) for name, value in getattr(function, "__dict__", {}).items() if not name.startswith("_")}


def _said(value: Any) -> Any:
    """A function or a class by its name, plain data as it is, an array by a digest, an object as it shows itself."""
    if callable(value):
        return _reference(value)
    if isinstance(value, Mapping):
        return {str(key): _said(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_said(item) for item in value]
    if isinstance(value, Set):
        return sorted(map(_said, value), key=repr)
    if getattr(value, "shape", ()) and callable(content := getattr(value, "tobytes", None)):
        return f"{type(value).__name__} {[*value.shape]} {blake2b(content(), digest_size=8).hexdigest()}"
    try:
        return to_plain(value)
    except TypeError:  # such as an estimator
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _reference(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"
