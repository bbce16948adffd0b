"""Which running trials to stop early: one file a rule, and the table of their names."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from hpo_spark.errors import ConfigError
from hpo_spark.plain import to_plain
from hpo_spark.pruners.asha import AshaPruner
from hpo_spark.pruners.base import Pruner
from hpo_spark.pruners.median import MedianPruner
from hpo_spark.pruners.patience import PatiencePruner
from hpo_spark.thresholds import Thresholds

__all__ = ["NAMES", "Pruner", "Thresholds", "make_pruner"]

_CLASSES: dict[str, type[Pruner]] = {"asha": AshaPruner, "median": MedianPruner, "patience": PatiencePruner}
NAMES = tuple(_CLASSES)


def make_pruner(choice: str | Mapping[str, Any] | Pruner | None) -> Pruner | None:
    """The pruner that a user chose.

    Args:
        choice: A name, a mapping of ``name`` and options, a pruner, or None for none.

    Raises:
        ConfigError: If there is no such pruner or option, or an option's value is impossible.
    """
    if choice is None or isinstance(choice, Pruner):
        return choice
    if not isinstance(choice, str | Mapping):
        raise ConfigError(f"pruner: must be a name, a mapping with a name, or a Pruner, got {choice!r}.")
    options = {"name": choice} if isinstance(choice, str) else {key: to_plain(value) for key, value in choice.items()}
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in _CLASSES:
        close = difflib.get_close_matches(str(name), NAMES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"pruner: there is no {name!r}; choose one of {list(NAMES)}.{hint}")
    allowed = list(inspect.signature(_CLASSES[name]).parameters)
    if unknown := [option for option in options if option not in allowed]:
        raise ConfigError(f"pruner: {name!r} has no option {unknown[0]!r}; it takes {allowed}.")
    try:
        return _CLASSES[name](**options)
    except ConfigError as error:
        raise ConfigError(f"pruner: {name!r}: {error}") from None
