"""Checks of searchers' options, with errors that say what was expected and what came."""

from __future__ import annotations

import math
from typing import Any

from deap import base

from hpo_spark.errors import ConfigError

__all__ = ["check_choice", "check_not_negative", "check_positive", "check_shares", "check_toolbox", "check_whole"]


def check_whole(**options: tuple[Any, int]) -> None:
    """Raise `ConfigError` unless each is a whole number, and not below its minimum."""
    for name, (value, low) in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ConfigError(f"{name} must be a whole number of {low} or more, got {name}={value!r}.")


def check_shares(**options: Any) -> None:
    """Raise `ConfigError` unless each lies in [0, 1]."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ConfigError(f"{name} must be in [0, 1], got {name}={value!r}.")


def check_positive(**options: Any) -> None:
    """Raise `ConfigError` unless each is a finite number above 0."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ConfigError(f"{name} must be above 0, got {name}={value!r}.")


def check_choice(allowed: tuple[str, ...], **options: Any) -> None:
    """Raise `ConfigError` unless each is one of the words."""
    for name, value in options.items():
        if value not in allowed:
            words = " or ".join(map(repr, allowed)) if len(allowed) == 2 else f"one of {list(allowed)}"
            raise ConfigError(f"{name} must be {words}, got {name}={value!r}.")


def check_toolbox(toolbox: Any) -> None:
    """Raise `ConfigError` unless it is None or a DEAP `Toolbox`."""
    if toolbox is not None and not isinstance(toolbox, base.Toolbox):
        raise ConfigError(f"toolbox must be a DEAP Toolbox, which only Python can give, got toolbox={toolbox!r}.")


def check_not_negative(**options: Any) -> None:
    """Raise `ConfigError` unless each is a finite number of 0 or more."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ConfigError(f"{name} must be 0 or more, got {name}={value!r}.")
