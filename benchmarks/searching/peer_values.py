"""How the peers see parameters.

They are given what our searchers are given: an ordered choice is a whole number to them, an unordered one a category.
"""

from __future__ import annotations

from typing import Any

from hpo_spark.parameters import Choice, Float, Int, Parameter

__all__ = ["bounds_of", "decoded", "encoded"]


def bounds_of(parameter: Float | Int) -> tuple[float, float]:
    """The range of a parameter without a step."""
    assert parameter.low is not None and parameter.high is not None and parameter.step in (None, 1)
    return parameter.low, parameter.high


def encoded(parameter: Parameter, value: Any) -> Any:
    """What a value is to a peer: of a choice its place."""
    return parameter.values.index(value) if isinstance(parameter, Choice) else value


def decoded(parameter: Parameter, value: Any) -> Any:
    """The value of what a peer proposes."""
    if isinstance(parameter, Choice):
        return parameter.values[round(value)]
    return round(value) if isinstance(parameter, Int) else float(value)
