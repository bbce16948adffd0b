"""Where the trials of an earlier search may come from: our own journals, CSV files, Optuna and hyperopt."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from hpo_spark.errors import ConfigError, JournalError, SpaceError
from hpo_spark.exchange.csv import from_csv
from hpo_spark.exchange.files import is_url
from hpo_spark.exchange.hyperopt import from_hyperopt, read_hyperopt
from hpo_spark.exchange.optuna import directions_of, from_optuna, is_storage_url, open_study
from hpo_spark.journal import read_record
from hpo_spark.redaction import redact
from hpo_spark.space import Params, SearchSpace
from hpo_spark.trial import Trial

if TYPE_CHECKING:
    import hyperopt
    import optuna

__all__ = ["Source", "locate", "read_trials_from"]

Source: TypeAlias = Union[str, "os.PathLike[str]", Sequence[Trial], "optuna.Study", "hyperopt.Trials"]

_HYPEROPT = "hyperopt:"
_ELSEWHERE = "a file *.csv, storage-url#study of Optuna, or hyperopt:PATH"


def read_trials_from(source: Source, space: SearchSpace, directions: Sequence[str]) -> list[Trial]:
    """The trials of an earlier search, whoever made it.

    Args:
        source: A run folder or its journal; a file ``*.csv``; ``storage-url#study`` of Optuna;
            ``hyperopt:PATH`` of a pickle; or trials, an `optuna.Study`, a `hyperopt.Trials`.
        space: Of the new search. Trials need not lie inside it; what other libraries have given to parameters that are
            not active there is left out.
        directions: Of the new search.

    Raises:
        ConfigError: If it cannot be read, or is of a search with other directions.
        MissingExtra: If the library that it comes from is not installed.
    """
    if isinstance(source, list | tuple) and all(isinstance(trial, Trial) for trial in source):
        return list(source)
    if _is_of("optuna", "Study", source):
        return _of_optuna(source, "the study of Optuna", space, directions)
    if _is_of("hyperopt", "Trials", source):
        return _active(from_hyperopt(source, space, directions), space)
    if not isinstance(source, str | os.PathLike):
        raise ConfigError(
            f"expected a run folder, {_ELSEWHERE}, an optuna.Study, a hyperopt.Trials or a list of Trial, "
            f"got {source!r}."
        )
    text = os.fspath(source)
    if text.startswith(_HYPEROPT):
        return _active(read_hyperopt(text.removeprefix(_HYPEROPT), space, directions), space)
    if is_storage_url(text):
        return _of_optuna(open_study(text), redact(text), space, directions)
    if text.endswith(".csv") and not os.path.isdir(text):
        return from_csv(text, space, directions)
    return _of_journal(text, directions)


def locate(source: str, folders: Sequence[Path]) -> str:
    """The source with its file looked up in folders, the first that has it, and made absolute; a URL as it is."""
    prefix, path, suffix = "", source, ""
    if source.startswith(_HYPEROPT):
        prefix, path = _HYPEROPT, source.removeprefix(_HYPEROPT)
    elif source.startswith("sqlite:///") and not source.startswith("sqlite:////"):
        prefix, path = "sqlite:///", source.removeprefix("sqlite:///")
        path, hash_, name = path.partition("#")
        suffix = hash_ + name
    if is_url(path):
        return source
    found = next((folder / path for folder in folders if (folder / path).exists()), Path(path))
    return f"{prefix}{os.path.abspath(found)}{suffix}"


def _of_optuna(study: Any, what: str, space: SearchSpace, directions: Sequence[str]) -> list[Trial]:
    _check_directions(what, directions_of(study), directions)
    return _active(from_optuna(study, space), space)


def _of_journal(place: str, directions: Sequence[str]) -> list[Trial]:
    try:
        record = read_record(place)
    except JournalError:
        raise
    except ConfigError:
        raise ConfigError(
            f"expected a run folder that holds a journal.jsonl, got {redact(place)!r}; or {_ELSEWHERE}."
        ) from None
    if record.directions:
        _check_directions(record.place, record.directions, directions)
    return record.trials


def _check_directions(what: str, former: Sequence[str], directions: Sequence[str]) -> None:
    if list(former) != list(directions):
        raise ConfigError(
            f"{what} is of a search with direction={list(former)}, this one has {list(directions)}; values of the one "
            "say nothing to the other."
        )


def _active(trials: Sequence[Trial], space: SearchSpace) -> list[Trial]:
    """The trials without what another library has given to parameters that are not active in the space."""
    return [replace(trial, params=_only_active(trial.params, space)) for trial in trials]


def _only_active(params: Params, space: SearchSpace) -> Params:
    found: Params = {}
    for name in space.parents_first:
        if name in params and space.is_active(name, found):
            found[name] = params[name]
            with suppress(SpaceError):  # outside the space, which is for others to say
                found[name] = space[name].coerce(params[name])
    return found | {name: value for name, value in params.items() if name not in space}


def _is_of(module: str, name: str, source: Any) -> bool:
    """Whether a thing is of another library's class, which only exists where that library is loaded."""
    cls = getattr(sys.modules.get(module), name, None)
    return isinstance(cls, type) and isinstance(source, cls)
