"""The run folder: the files that a search leaves behind."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from hpo_spark import yaml
from hpo_spark.models import SUFFIXES
from hpo_spark.plain import dump_json
from hpo_spark.redaction import redact, redact_all
from hpo_spark.results.columns import csv_of
from hpo_spark.results.result import Result
from hpo_spark.storage import Storage
from hpo_spark.trial import Trial, TrialState

__all__ = ["RunFolder"]

logger = logging.getLogger(__name__)

_MODELS = {suffix: f"best/model{suffix}" for suffix in SUFFIXES}


class RunFolder:
    """Writes a study's files, so that a reader never sees half of one.

    None of them is the record, which is the journal: one that cannot be written is a warning, and the search goes on.

    Args:
        storage: The folder.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def write_study(self, study: Mapping[str, Any]) -> None:
        """Write ``study.yaml``: the study with all its defaults."""
        self._write("study.yaml", yaml.dump(redact_all(study)))

    def write_best(self, trial: Trial, fixed: Mapping[str, Any], model: str | None) -> str | None:
        """Write ``best/params.yaml`` of a trial, and its ``best/model.keras``, ``.weights.h5`` or ``.joblib``.

        Args:
            trial: The best trial so far.
            fixed: Constants that were passed with its params.
            model: The file of its model in the run folder; None where it has none.

        Returns:
            The name of the model's new file; None where it has none, or could not be written.
        """
        self._write("best/params.yaml", yaml.dump(redact_all({**fixed, **trial.params})))
        name = None if model is None else next(name for suffix, name in _MODELS.items() if model.endswith(suffix))
        try:
            if model is not None and name is not None:
                self._storage.copy(model, name)
            for other in {*_MODELS.values()} - {name}:
                self._storage.remove(other)
        except OSError as error:
            logger.warning("%s/best cannot be written: %s", self._storage, redact(str(error)))
            return None
        return name

    def best_model(self) -> str | None:
        """The name of the model's file in ``best/``; None where there is none."""
        return next((name for name in _MODELS.values() if self._storage.exists(name)), None)

    def remove_best(self) -> None:
        """Remove what an earlier study left in ``best/``."""
        for name in (*_MODELS.values(), "best/params.yaml"):
            try:
                self._storage.remove(name)
            except OSError as error:
                logger.warning("%s/%s cannot be removed: %s", self._storage, name, redact(str(error)))

    def write_log(self, trial: Trial, output: str) -> None:
        """Write ``logs/trial-N.log``: why a trial failed, and all that it printed."""
        if trial.error and trial.state not in (TrialState.CANCELLED, TrialState.PRUNED):
            where = f"host {trial.host}, attempt {trial.attempt}"
            printed = f"\nIts output:\n{output}\n" if output else ""
            text = f"{trial.state} {trial.params}\n{where}\n\n{trial.error}\n{printed}"
            self._write(f"logs/trial-{trial.number}.log", text)

    def write_result(self, result: Result) -> None:
        """Write ``result.json`` and ``trials.csv``."""
        self._write("trials.csv", csv_of(result.trials))
        self._write("result.json", dump_json(result.to_dict()) + "\n")

    def _write(self, name: str, content: str | bytes) -> None:
        if isinstance(content, str):
            content = content.encode(errors="backslashreplace")
        try:
            self._storage.write(name, content)
        except OSError as error:
            logger.warning("%s/%s cannot be written: %s", self._storage, name, redact(str(error)))
