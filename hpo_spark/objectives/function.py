"""A plain function as an objective."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from hpo_spark.data import DataSource
from hpo_spark.objectives.context import Context

__all__ = ["FunctionObjective", "call_with_context"]


class FunctionObjective:
    """A function with a dataset, which it finds as ``context.data``.

    Args:
        function: ``function(params)`` or ``function(params, context)``, returning a float, a tuple of floats for
            several objectives, or a dict of metrics with the key ``value``.
        data: Whatever `DataSource` takes.
        validation: As for `DataSource`.
    """

    def __init__(self, function: Callable[..., Any], data: Any = None, validation: float | str | None = None) -> None:
        if not callable(function):
            raise TypeError(f"function must be callable, got {function!r}.")
        self.function = function
        self.data = None if data is None else DataSource.of(data, validation)

    def __call__(self, params: dict[str, Any], context: Context) -> Any:
        """Call the function."""
        return call_with_context(self.function, params, context)


def call_with_context(function: Callable[..., Any], params: Any, context: Any) -> Any:
    """Call a function of the params, with the context if it takes one: second, or by the name ``context``."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin without a signature
        return function(params)
    if any(p.name == "context" and p.kind is p.KEYWORD_ONLY for p in parameters):
        return function(params, context=context)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) > 1 and (positional[1].default is inspect.Parameter.empty or positional[1].name == "context"):
        return function(params, context)
    if len(positional) == 1 and any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return function(params, context)
    return function(params)
