"""A plain function as an objective."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from hpo_spark.data import DataSource
from hpo_spark.objectives.context import Context

__all__ = ["FunctionObjective", "accepts_context"]


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
        return self.function(params, context) if accepts_context(self.function) else self.function(params)


def accepts_context(function: Callable[..., Any]) -> bool:
    """Whether a function takes the context as a second positional argument."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) > 1:
        second = positional[1]
        return second.default is second.empty or second.name == "context"
    return any(p.kind is p.VAR_POSITIONAL for p in parameters) and len(positional) >= 1
