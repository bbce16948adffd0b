"""Trials as a study of Optuna, which its dashboard shows and its samplers go on with; and its studies as trials."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hpo_spark.errors import ConfigError, MissingExtra
from hpo_spark.parameters import Choice, Float, Int, Parameter
from hpo_spark.plain import canonical, restore_float, same, to_finite
from hpo_spark.redaction import redact
from hpo_spark.results.columns import METRIC
from hpo_spark.space import SearchSpace
from hpo_spark.trial import Trial, TrialState
from hpo_spark.versions import __version__

if TYPE_CHECKING:
    import optuna

__all__ = ["directions_of", "from_optuna", "is_storage_url", "open_study", "quiet", "to_optuna"]

logger = logging.getLogger(__name__)

# What a study of ours says that it is, so that its trials' attributes are known to be ours.
_MARK = "hpo_spark"
_FACTS = [
    field.name
    for field in fields(Trial)
    if field.name not in ("params", "values", "metrics", "curve", "origin", "token", "thresholds")
]
# Optuna takes a value for one of a step's when it is off by less than 1e-8 of the step, which doubles keep up to here.
_MAX_STEPS = 1e6
_STORAGE = re.compile(r"(sqlite|mysql|mariadb|postgres(ql)?|oracle|mssql|redis(s)?)(\+\w+)?://")
_SQLITE_FILE = re.compile(r"sqlite(?:\+\w+)?:///([^?]+)")


def to_optuna(
    trials: Sequence[Trial],
    space: SearchSpace,
    directions: Sequence[str],
    name: str,
    storage: str | optuna.storages.BaseStorage | None = None,
) -> optuna.Study:
    """Make a study of Optuna that holds the trials.

    Params, values and what was reported on the way are Optuna's own; all else is in the trials' user attributes:
    number, state, seed, fidelity, parent, attempt, started, seconds, host, error, and ``metric:NAME``. COMPLETED is
    COMPLETE, PRUNED is PRUNED, and every other end is FAIL, CANCELLED too; trials that run are left out. Choices become
    categories: as they are where Optuna can store them and tell them apart, else (lists, mappings, 1 beside True) as
    their JSON. Left out are a step on a logarithmic scale and a prior, which Optuna does not have.

    Args:
        trials: Of one search.
        space: Where their params lie.
        directions: ``"minimize"`` or ``"maximize"``, one an objective.
        name: The study's; the storage must not have it yet.
        storage: URL such as ``sqlite:///studies.db``, or an object of Optuna's; None to keep it in memory.

    Raises:
        ConfigError: If there is a study of this name, or the storage cannot be used; nothing is changed.
        SpaceError: If params lie outside the space.
        MissingExtra: If Optuna is not installed.
    """
    optuna = _optuna()
    distributions = {parameter: _distribution(space[parameter]) for parameter in space}
    labels = {
        parameter: dict(zip(map(canonical, choice.all_values()), labels_of(choice), strict=True))
        for parameter in space
        if isinstance(choice := space[parameter], Choice)
    }
    ended = [trial for trial in trials if trial.state is not TrialState.RUNNING]
    started = min((trial.started for trial in ended if trial.started is not None), default=None)
    first = datetime.now() if started is None else datetime.fromtimestamp(started)
    frozen = []
    for trial in ended:
        params = space.validate(trial.params)
        for parameter in labels.keys() & params.keys():
            params[parameter] = labels[parameter][canonical(params[parameter])]
        frozen.append(_frozen(trial, params, distributions, first))
    with quiet(), _explained(storage):
        try:
            study = optuna.create_study(
                study_name=name, storage=_opened(storage, is_new=True), directions=list(directions)
            )
        except optuna.exceptions.DuplicatedStudyError:
            raise ConfigError(
                f"{_described(storage)} has a study {name!r} already, which is not changed: choose another name."
            ) from None
        try:
            study.set_user_attr(_MARK, __version__)
            _add(study, frozen)
        except BaseException:  # Ctrl-C too: no half of a study is left behind
            optuna.delete_study(study_name=name, storage=study._storage)
            raise
    return study


def from_optuna(study: optuna.Study | str, space: SearchSpace | None = None) -> list[Trial]:
    """The trials of a study of Optuna that have ended.

    COMPLETE is COMPLETED, PRUNED is PRUNED and FAIL is FAILED. What `to_optuna` wrote comes back as it was.

    Args:
        study: The study, or the URL of its storage with its name, ``sqlite:///studies.db#mnist``.
        space: Where params are looked up that Optuna holds as JSON; without one they stay text.

    Raises:
        ConfigError: If there is no such study.
        MissingExtra: If Optuna is not installed.
    """
    study = open_study(study) if isinstance(study, str) else study
    is_ours = _MARK in study.user_attrs
    trials = [
        _trial(frozen, space, is_ours) for frozen in study.get_trials(deepcopy=False) if frozen.state.is_finished()
    ]
    return sorted(trials, key=lambda trial: trial.number)


def directions_of(study: optuna.Study) -> list[str]:
    """The directions of a study of Optuna, as we write them."""
    return [direction.name.lower() for direction in study.directions]


def is_storage_url(text: str) -> bool:
    """Whether a text is the URL of a database, where only Optuna keeps studies."""
    return _STORAGE.match(text) is not None


def open_study(place: str) -> optuna.Study:
    """The study at ``storage-url#name``.

    Raises:
        ConfigError: If there is none; names those that are there.
        MissingExtra: If Optuna is not installed.
    """
    optuna = _optuna()
    url, _, name = place.rpartition("#") if "#" in place else (place, "", "")
    with quiet(), _explained(url):
        storage = _opened(url, is_new=False)
        names = optuna.get_all_study_names(storage)
        if name not in names:
            what = f"has no study {name!r}" if name else "needs the name of its study behind a #"
            raise ConfigError(f"{redact(url)} {what}; it has {sorted(names)}.")
        return optuna.load_study(study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler())


def labels_of(choice: Choice) -> list[Any]:
    """What Optuna holds in place of each value: the value itself, or the JSON of each where it cannot have them all."""
    values = choice.all_values()
    is_plain = all(value is None or isinstance(value, bool | int | float | str) for value in values)
    if is_plain and not any(value == other for place, value in enumerate(values) for other in values[:place]):
        return values
    return [canonical(value) for value in values]


def _distribution(parameter: Parameter) -> Any:
    distributions = _optuna().distributions
    if isinstance(parameter, Choice):
        return distributions.CategoricalDistribution(tuple(labels_of(parameter)))
    low, high = parameter.decode(0.0), parameter.decode(1.0)
    if isinstance(parameter, Int):
        return distributions.IntDistribution(
            int(low), int(high), log=parameter.log, step=1 if parameter.log else parameter.step or 1
        )
    is_log = parameter.log or (parameter.prior == "lognormal" and low > 0)
    return distributions.FloatDistribution(low, high, log=is_log, step=None if is_log else _step(parameter, low, high))


def _step(parameter: Float, low: float, high: float) -> float | None:
    """The step, where Optuna finds the same values by it."""
    if parameter.step is None or max(abs(low), abs(high)) / parameter.step > _MAX_STEPS:
        return None
    is_whole = (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(parameter.step)) == 0
    return parameter.step if is_whole else None


def _frozen(trial: Trial, params: Mapping[str, Any], distributions: Mapping[str, Any], first: datetime) -> Any:
    """A trial as Optuna keeps it; one that never began on a worker has the search's beginning for its time."""
    optuna = _optuna()
    states = optuna.trial.TrialState
    state = {TrialState.COMPLETED: states.COMPLETE, TrialState.PRUNED: states.PRUNED}.get(trial.state, states.FAIL)
    start = first if trial.started is None else datetime.fromtimestamp(trial.started)
    record = trial.to_record()
    attributes = {fact: record[fact] for fact in _FACTS if record[fact] is not None}
    attributes |= {METRIC + name: value for name, value in trial.metrics.items()}
    return optuna.trial.FrozenTrial(
        number=0,
        trial_id=0,
        state=state,
        value=None,
        values=trial.values if state is states.COMPLETE else None,
        datetime_start=start,
        datetime_complete=start + timedelta(seconds=trial.seconds or 0.0),
        params=dict(params),
        distributions={name: distributions[name] for name in params},
        user_attrs=to_finite(attributes),
        system_attrs={},
        intermediate_values={int(step): value for step, value in trial.curve},
    )


def _trial(frozen: Any, space: SearchSpace | None, is_ours: bool) -> Trial:
    """A trial of Optuna's as ours."""
    values = None if frozen.values is None else [float(value) for value in frozen.values]
    state, error = TrialState.COMPLETED, None
    if frozen.state is _optuna().trial.TrialState.PRUNED:
        state, error, values = TrialState.PRUNED, "Pruned: Optuna ended it early.", None
    elif values is None or not all(map(math.isfinite, values)):
        state, error, values = TrialState.FAILED, "Failed: Optuna has no finite value of it.", None
    attributes = frozen.user_attrs if is_ours else {}
    record = {fact: attributes[fact] for fact in _FACTS if fact in attributes}
    if "number" not in record:  # not one that we wrote
        start, end = frozen.datetime_start, frozen.datetime_complete
        record = {
            "number": frozen.number,
            "seed": 0,
            "state": state,
            "started": start.timestamp() if start else None,
            "seconds": (end - start).total_seconds() if start and end else None,
            "error": error,
        }
    record["metrics"] = {
        name.removeprefix(METRIC): restore_float(value) for name, value in attributes.items() if name.startswith(METRIC)
    }
    record["curve"] = [[step, value] for step, value in sorted(frozen.intermediate_values.items())]
    record["params"] = {name: _param(space, name, value) for name, value in frozen.params.items()}
    return Trial.from_record(record | {"values": values})


def _param(space: SearchSpace | None, name: str, value: Any) -> Any:
    """What Optuna's value of a parameter stands for."""
    if space is not None and name in space and isinstance(choice := space[name], Choice):
        with suppress(TypeError):  # a category that has no JSON is none of ours
            for label, own in zip(labels_of(choice), choice.all_values(), strict=True):
                if same(label, value):
                    return own
    return value


def _add(study: optuna.Study, frozen: Sequence[Any]) -> None:
    """Add trials to a study that has none.

    Optuna adds them to a database one by one, in 20 ms each; here they are added in one transaction. The tables are
    Optuna's own affair, so where that does not work the slow way is taken.
    """
    engine = getattr(getattr(study._storage, "_backend", None), "engine", None)
    if engine is not None:
        try:
            _insert(engine, study._study_id, frozen)
            return
        except Exception:  # whatever another version of Optuna does otherwise
            logger.debug("the trials are added one by one", exc_info=True)
    study.add_trials(frozen)


def _insert(engine: Any, study_id: int, frozen: Sequence[Any]) -> None:
    """Write the trials of a study into the tables of a database."""
    import json

    import sqlalchemy
    from optuna.distributions import distribution_to_json
    from optuna.storages._rdb import models

    def insert(model: Any, rows: list[dict[str, Any]]) -> None:
        if rows:
            connection.execute(sqlalchemy.insert(model.__table__), rows)

    texts: dict[int, str] = {}
    with engine.begin() as connection:
        insert(
            models.TrialModel,
            [
                {
                    "study_id": study_id,
                    "number": number,
                    "state": trial.state,
                    "datetime_start": trial.datetime_start,
                    "datetime_complete": trial.datetime_complete,
                }
                for number, trial in enumerate(frozen)
            ],
        )
        table = models.TrialModel.__table__
        select = sqlalchemy.select(table.c.trial_id).where(table.c.study_id == study_id).order_by(table.c.number)
        ids = [row.trial_id for row in connection.execute(select)]
        values, params, attributes, intermediates = [], [], [], []
        for trial_id, trial in zip(ids, frozen, strict=True):
            trial._validate()
            for objective, value in enumerate(trial.values or []):
                stored, kind = models.TrialValueModel.value_to_stored_repr(value)
                values.append({"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind})
            for name, value in trial.params.items():
                distribution = trial.distributions[name]
                if id(distribution) not in texts:
                    texts[id(distribution)] = distribution_to_json(distribution)
                number = distribution.to_internal_repr(value)
                text = texts[id(distribution)]
                params.append(
                    {"trial_id": trial_id, "param_name": name, "param_value": number, "distribution_json": text}
                )
            for key, value in trial.user_attrs.items():
                attributes.append({"trial_id": trial_id, "key": key, "value_json": json.dumps(value)})
            for step, value in trial.intermediate_values.items():
                stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
                intermediates.append(
                    {
                        "trial_id": trial_id,
                        "step": step,
                        "intermediate_value": stored,
                        "intermediate_value_type": kind,
                    }
                )
        insert(models.TrialValueModel, values)
        insert(models.TrialParamModel, params)
        insert(models.TrialUserAttributeModel, attributes)
        insert(models.TrialIntermediateValueModel, intermediates)


def _opened(storage: Any, is_new: bool) -> Any:
    """The storage of a URL; to be read, a file must be there, and nothing is made in it."""
    if not isinstance(storage, str):
        return storage
    storages = _optuna().storages
    if is_new:
        return storages.get_storage(storage)
    file = _SQLITE_FILE.match(storage)
    if file is not None and not os.path.isfile(file[1]):
        raise ConfigError(f"expected a database of Optuna, and there is no file {file[1]!r}.")
    if storage.startswith("redis"):
        return storages.get_storage(storage)
    return storages.RDBStorage(storage, skip_table_creation=True)


def _described(storage: Any) -> str:
    return redact(storage) if isinstance(storage, str) else "The storage"


@contextmanager
def _explained(storage: Any) -> Iterator[None]:
    """Put what a storage raises into a sentence, without its password."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        reason = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        raise ConfigError(redact(f"{_described(storage)} cannot be used as a storage of Optuna: {reason}")) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what Optuna logs below an error out of the user's log."""
    optunas = logging.getLogger("optuna")
    level = optunas.level
    optunas.setLevel(logging.ERROR)
    try:
        yield
    finally:
        optunas.setLevel(level)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingExtra("A study of Optuna", "optuna", "optuna") from error
    return optuna
