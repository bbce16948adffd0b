"""Training a configuration of a search again, after it: on this machine, or on all the data that there is to train on.

A model that was lost is had again so, since a trial's seed makes its training what it was; and one for use may be
trained on the validation part too, which nothing is chosen by any more.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpo_spark.confirm import check_confirm, confirmed
from hpo_spark.data.placement import placed
from hpo_spark.errors import (
    ConfigError,
    EvaluationError,
    ExecutorLost,
    MemoryExceeded,
    TaskCancelled,
    TaskTimeout,
    WorkerCrashed,
)
from hpo_spark.final import identity_of, score_test_part, train_again
from hpo_spark.fingerprint import fingerprint
from hpo_spark.journal import NAME as JOURNAL
from hpo_spark.journal import Journal, Lease, StudyRecord, read_record
from hpo_spark.models import Models
from hpo_spark.objectives.evaluate import Evaluated, Evaluation
from hpo_spark.plain import dump_json
from hpo_spark.redaction import redact, redact_all
from hpo_spark.results.folder import RunFolder
from hpo_spark.results.result import best_first
from hpo_spark.storage import Storage, open_storage
from hpo_spark.trial import Trial

__all__ = ["Refit", "refit"]

logger = logging.getLogger(__name__)

_RESULT = "result.json"


@dataclass(frozen=True)
class Refit:
    """A configuration that was trained again.

    Attributes:
        trial: The trial whose configuration it is, as the search recorded it.
        values: What it came to now; None where there was nothing to validate on.
        metrics: All that was measured now; with ``full`` on the rows that it was trained on.
        full: Whether it was trained on the validation part too.
        test: The new model's metrics on the test part; empty where there is none.
        test_error: Why that was not evaluated; None where it was, or there is none.
        model: The new model's file.
    """

    trial: Trial
    values: list[float] | None
    metrics: dict[str, Any]
    full: bool
    model: str
    test: dict[str, float] = field(default_factory=dict)
    test_error: str | None = None


def refit(
    out: str | Path | Storage,
    objective: Callable[..., Any],
    executor: Executor,
    *,
    trial: int | None = None,
    full: bool = False,
) -> Refit:
    """Train a configuration of a search again, with its trial's seed, and have ``best/`` show the new model.

    The search must not run meanwhile. It can go on afterwards as before; a new best trial then takes its place there.

    Args:
        out: The run folder, as a path or a URL.
        objective: That of the search.
        executor: Where to train.
        trial: Number of the trial; None for the best.
        full: Whether to train on train and validation part together.

    Raises:
        ConfigError: If there is no such trial, a search runs there, or the objective keeps no model.
        EvaluationError: If the training fails.
    """
    storage = out if isinstance(out, Storage) else open_storage(out)
    if full:
        _on_all_data(objective)
    _chosen(read_record(storage), trial)  # what is wrong with the arguments is wrong whoever runs a search
    prepare = getattr(getattr(objective, "data", None), "prepare", None)
    if callable(prepare):
        prepare()
    lease = Lease(storage)
    lease.acquire(waits=False)
    try:
        past = read_record(storage)
        if past.torn:
            storage.cut_log(JOURNAL, past.size)
        if (code := past.fingerprint.get("code")) is not None and code != fingerprint(objective).get("code"):
            logger.warning("%s: the objective's code has changed since; the model is trained by the new one", storage)
        with placed(objective, executor, past.seed) as here:
            return _refit(storage, past, here, _on_all_data(here) if full else here, executor, trial, full)
    finally:
        lease.release()


def _on_all_data(objective: Any) -> Callable[..., Any]:
    derive = getattr(objective, "on_all_data", None)
    if not callable(derive):
        raise ConfigError(
            "full: this objective cannot be trained on train and validation part together; a KerasObjective and a "
            "SklearnObjective can."
        )
    trained: Callable[..., Any] = derive()
    return trained


def _chosen(past: StudyRecord, number: int | None) -> Trial:
    """The trial whose configuration is meant."""
    if number is None:
        if (best := _best(past)) is None:
            raise ConfigError(f"{past.place}: no trial has succeeded, so no configuration is the best.")
        return best
    found = next((trial for trial in (*past.ended, *past.unfinished) if trial.number == number), None)
    if found is None:
        raise ConfigError(f"{past.place}: there is no trial {number}.")
    return found


def _best(past: StudyRecord) -> Trial | None:
    """The best trial: where configurations were trained again, the winner's repeat of median value."""
    confirm = check_confirm(past.study.get("confirm"), past.directions)
    if confirm is not None and (ranking := confirmed(past.ended, past.directions, confirm)):
        return ranking[0].trial
    ranked = best_first(past.ended, past.directions)
    return ranked[0] if ranked else None


def _refit(
    storage: Storage,
    past: StudyRecord,
    objective: Callable[..., Any],
    trained: Callable[..., Any],
    executor: Executor,
    number: int | None,
    full: bool,
) -> Refit:
    trial = _chosen(past, number)
    fixed = past.study.get("fixed") or {}
    models = Models(storage)
    evaluation = Evaluation(
        trained,
        past.seed,
        fixed,
        tuple(past.directions),
        deterministic=bool(past.study.get("study", {}).get("deterministic")),
        place=models.place,
    )
    # The search's own models stay what they are: this one is an attempt more.
    made_up_for = _made_up_for(past)
    models.open({one.number: one.attempt for one in past.ended} | made_up_for)
    former = models.name_of(trial.number)
    try:
        evaluated = _train(executor, evaluation, trial, made_up_for.get(trial.number, 0))
        again = evaluated.trial
        if not again.values:
            raise EvaluationError(f"Training trial {trial.number} again failed: {again.error}")
        models.receive(again, evaluated.sent, is_wanted=True)
        name = models.name_of(trial.number)
        if name is None or name == former:
            why = models.problem_of(trial.number) or (
                "the objective keeps none; one does so with context.keep_model(content)"
            )
            raise ConfigError(f"Trial {trial.number} was trained again, and there is no model of it: {why}.")
        test, test_error = {}, None
        if callable(test_part := getattr(objective, "test", None)):
            try:
                params = {**fixed, **trial.params}
                scores = score_test_part(executor, test_part, models.kept(), name, models.place, params, past.seed)
                test = scores or {}
            except Exception as error:
                test_error = redact(f"{type(error).__name__}: {error}")
        best = RunFolder(storage).write_best(trial, fixed, name)
        if best is None:
            raise ConfigError(f"{storage}: the new model cannot be written to best/.")
        done = Refit(trial, None if full else again.values, again.metrics, full, best, test, test_error)
        _record(storage, past, done, again)
        return done
    finally:
        models.put_back(trial.number, former)
        models.close()


def _train(executor: Executor, evaluation: Evaluation, trial: Trial, last_attempt: int) -> Evaluated:
    try:
        return train_again(executor, evaluation, replace(trial, attempt=max(trial.attempt, last_attempt)))
    except (ExecutorLost, MemoryExceeded, TaskCancelled, TaskTimeout, WorkerCrashed) as error:
        raise EvaluationError(f"Training trial {trial.number} again failed: {type(error).__name__}: {error}") from error


def _made_up_for(past: StudyRecord) -> dict[int, int]:
    """The attempt in which the search itself trained a model that was missing."""
    made = past.refit if past.refit is not None and past.refit.get("by") == "study" else None
    return {} if made is None else {made["trial"]: made["attempt"]}


def _record(storage: Storage, past: StudyRecord, done: Refit, again: Trial) -> None:
    """Say in the journal and in ``result.json`` what ``best/`` holds now."""
    what = {
        "by": "user",
        "reason": "asked for with refit",
        "trial": done.trial.number,
        "attempt": again.attempt,
        "value": done.values[0] if done.values else None,
        "values": done.values,
        "metrics": done.metrics,
        "full": done.full,
        "test": done.test,
        "best": identity_of(_best(past)),
    }
    journal = Journal(storage, past.check)
    try:
        journal.refit(what)
    finally:
        journal.close()
    try:
        result = json.loads(storage.read(_RESULT))
    except FileNotFoundError:  # the search was killed; it is written when it has been resumed
        return
    except (OSError, ValueError) as error:
        logger.warning("%s/%s cannot be read, and does not tell of this: %s", storage, _RESULT, redact(str(error)))
        return
    result |= {
        "refit": redact_all({key: value for key, value in what.items() if key not in ("best", "test")}),
        "test": done.test,
        "test_error": done.test_error,
        "model_error": None,
    }
    try:
        storage.write(_RESULT, (dump_json(result) + "\n").encode())
    except OSError as error:
        logger.warning("%s/%s cannot be written: %s", storage, _RESULT, redact(str(error)))
