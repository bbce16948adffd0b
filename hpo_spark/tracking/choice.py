"""The trackers that a study file or a program asks for."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from hpo_spark.errors import ConfigError
from hpo_spark.tracking.base import Tracker
from hpo_spark.tracking.mlflow import MlflowTracker
from hpo_spark.tracking.tensorboard import TensorBoardTracker

__all__ = ["TRACKERS", "TrackingChoice", "make_trackers"]

TrackingChoice: TypeAlias = str | Mapping[str, Any] | Tracker | Sequence[str | Mapping[str, Any] | Tracker] | None

TRACKERS: Mapping[str, type[Tracker]] = {"mlflow": MlflowTracker, "tensorboard": TensorBoardTracker}


def make_trackers(choice: TrackingChoice) -> list[Tracker]:
    """The trackers of a choice.

    Args:
        choice: A name, a mapping of one name to its options, a `Tracker`; or a list of these; None for none.

    Raises:
        ConfigError: If there is no such tracker or option, or one is named twice.
    """
    entries = [] if choice is None else choice if isinstance(choice, list | tuple) else [choice]
    trackers = [entry if isinstance(entry, Tracker) else _make(entry) for entry in entries]
    names = [tracker.name for tracker in trackers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"tracking: {twice} stands twice; a search is tracked by each once.")
    return trackers


def _make(entry: Any) -> Tracker:
    name, options = entry, None
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, options),) = entry.items()
    if not isinstance(name, str) or not isinstance(options, Mapping | None):
        raise ConfigError(
            f"tracking: expected one of {list(TRACKERS)}, or one of them with its options, such as "
            f"{{mlflow: {{experiment: digits}}}}, got {entry!r}."
        )
    if name not in TRACKERS:
        close = difflib.get_close_matches(name, TRACKERS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"tracking: there is no tracker {name!r}.{hint} Expected one of {list(TRACKERS)}.")
    known = list(inspect.signature(TRACKERS[name]).parameters)
    for option, value in (options or {}).items():
        if option not in known:
            of = f"expected one of {known}" if known else "it has none"
            raise ConfigError(f"tracking: {name} has no option {option!r}; {of}.")
        if value is not None and not (isinstance(value, str) and value):
            raise ConfigError(f"tracking: {name}.{option} must be text, got {value!r}.")
    return TRACKERS[name](**(options or {}))
