"""A parameter as a study file writes it: ``{float: [1.0e-4, 1.0e-1], log: true}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from hpo_spark.errors import SpaceError
from hpo_spark.parameters import Choice, Float, Int, Parameter
from hpo_spark.plain import to_plain

__all__ = ["parameter_from_dict", "parameter_to_dict"]

_KINDS: dict[str, type[Float] | type[Int] | type[Choice]] = {"float": Float, "int": Int, "choice": Choice}


def parameter_from_dict(spec: Any) -> Parameter:
    """Build a parameter from its form in a study file, such as ``{"float": [1e-4, 1e-1], "log": True}``.

    Raises:
        SpaceError: If the form is not one of a parameter's. The values are checked by `SearchSpace`.
    """
    if not isinstance(spec, Mapping):
        raise SpaceError(f"must be a mapping such as {{float: [0.1, 1.0]}}, got {spec!r}.")
    kinds = [kind for kind in _KINDS if kind in spec]
    if len(kinds) != 1:
        raise SpaceError(f"must have exactly one of the keys float, int, choice, got {list(spec)!r}.")
    kind = kinds[0]
    cls = _KINDS[kind]
    main = spec[kind]
    options = {key: value for key, value in spec.items() if key != kind}
    allowed = {field.name for field in fields(cls)} - {"low", "high", "values"}
    if unknown := [key for key in options if key not in allowed]:
        raise SpaceError(f"unknown key {unknown[0]!r}; a parameter of kind {kind} takes {sorted(allowed)}.")
    if cls is Choice:
        return Choice(main, **options)
    if main is None and cls is Float:
        return Float(**options)
    if not isinstance(main, Sequence) or isinstance(main, str) or len(main) != 2:
        raise SpaceError(f"{kind} must be a list [low, high], got {main!r}.")
    return cls(main[0], main[1], **options)


def parameter_to_dict(parameter: Parameter) -> dict[str, Any]:
    """The form of a parameter in a study file, without what is left at its default."""
    values = {field.name: getattr(parameter, field.name) for field in fields(parameter)}
    if isinstance(parameter, Choice):
        main = values.pop("values")
    else:
        low, high = values.pop("low"), values.pop("high")
        main = None if low is None else [low, high]
    options = {name: value for name, value in values.items() if value is not None and value is not False}
    plain: dict[str, Any] = to_plain({parameter.kind: main, **options})
    return plain
