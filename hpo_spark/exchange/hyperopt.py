"""The `Trials` of hyperopt as ours."""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hpo_spark.errors import ConfigError, MissingExtra, SpaceError
from hpo_spark.exchange.files import read_file
from hpo_spark.parameters import Choice
from hpo_spark.plain import to_plain
from hpo_spark.space import Params, SearchSpace
from hpo_spark.trial import Trial, TrialState

if TYPE_CHECKING:
    import hyperopt

__all__ = ["from_hyperopt", "read_hyperopt"]


def from_hyperopt(trials: hyperopt.Trials, space: SearchSpace, directions: Sequence[str]) -> list[Trial]:
    """The trials of a `hyperopt.Trials` that have ended.

    hyperopt keeps the index of what `hp.choice` chose, so labels of a `Choice` are looked up by index: its values must
    stand in the order that they had there. All other labels hold the values themselves, on a logarithmic scale too.
    hyperopt minimises a loss, so where this study maximises the value is the negated loss. Trials that failed are
    FAILED, and so is one whose loss is not finite.

    Args:
        trials: hyperopt's; its labels are the names of the parameters.
        space: Of the new study.
        directions: Its one direction.

    Raises:
        ConfigError: If there are several objectives.
        SpaceError: If an index is none of a `Choice`.
        MissingExtra: If hyperopt is not installed.
    """
    if len(directions) > 1:
        raise ConfigError(f"hyperopt knows one objective, and this study has {len(directions)}.")
    hyperopt = _hyperopt()
    sign = -1.0 if directions[0] == "maximize" else 1.0
    found = []
    trials.refresh()
    for doc in trials._dynamic_trials:  # `trials` are those that did not raise
        if trials._exp_key not in (None, doc["exp_key"]):
            continue
        if doc["state"] not in (hyperopt.JOB_STATE_DONE, hyperopt.JOB_STATE_ERROR):
            continue
        loss = doc["result"].get("loss") if doc["result"].get("status") == hyperopt.STATUS_OK else None
        is_told = doc["state"] == hyperopt.JOB_STATE_DONE and loss is not None and math.isfinite(loss)
        seconds = _seconds(doc["book_time"], doc["refresh_time"])
        found.append(
            Trial(
                int(doc["tid"]),
                _params(doc["misc"]["vals"], space),
                seed=0,
                state=TrialState.COMPLETED if is_told else TrialState.FAILED,
                values=[sign * float(loss)] if is_told and loss is not None else None,
                started=None if seconds is None else _moment(doc["book_time"]),
                seconds=seconds,
                error=None if is_told else _error(doc),
            )
        )
    return found


def read_hyperopt(place: str | os.PathLike[str], space: SearchSpace, directions: Sequence[str]) -> list[Trial]:
    """The trials of a pickled `hyperopt.Trials`, such as ``fmin(trials_save_file=...)`` writes.

    A pickle runs code when it is read: read only your own.

    Args:
        place: Path, or a URL that fsspec knows.
        space, directions: As for `from_hyperopt`.

    Raises:
        ConfigError: If it is no such pickle.
    """
    hyperopt = _hyperopt()
    content = read_file(place)
    try:
        trials = pickle.loads(content)
    except Exception as error:  # whatever unpickling runs into
        raise ConfigError(
            f"{place}: expected a pickle of hyperopt's Trials ({type(error).__name__}: {error})."
        ) from error
    if not isinstance(trials, hyperopt.Trials):
        raise ConfigError(f"{place}: expected a pickle of hyperopt's Trials, got {type(trials).__name__}.")
    return from_hyperopt(trials, space, directions)


def _params(vals: Mapping[str, Sequence[Any]], space: SearchSpace) -> Params:
    """A configuration; a label whose parameter was not active has no value."""
    return {label: _value(label, to_plain(drawn[0]), space) for label, drawn in vals.items() if len(drawn)}


def _value(label: str, drawn: Any, space: SearchSpace) -> Any:
    if label not in space or not isinstance(choice := space[label], Choice):
        return drawn
    values = choice.all_values()
    if isinstance(drawn, bool) or drawn != int(drawn) or not 0 <= drawn < len(values):
        raise SpaceError(f"has the index {drawn!r} in hyperopt's trials, and {len(values)} value(s) here.", label)
    return values[int(drawn)]


def _error(doc: Mapping[str, Any]) -> str:
    raised = doc["misc"].get("error")  # a type's name and a message
    if raised:
        return ": ".join(map(str, raised))
    return f"Failed: hyperopt has the result {doc['result']!r}."


def _moment(time: datetime) -> float:
    """A time of hyperopt's, which are in UTC."""
    return time.replace(tzinfo=UTC).timestamp()


def _seconds(start: Any, end: Any) -> float | None:
    return (end - start).total_seconds() if isinstance(start, datetime) and isinstance(end, datetime) else None


def _hyperopt() -> Any:
    try:
        import hyperopt
    except ImportError as error:
        raise MissingExtra("hyperopt's Trials", "hyperopt", "tpe") from error
    return hyperopt
