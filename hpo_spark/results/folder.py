"""The run folder: the files that a search leaves behind."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from hpo_spark import yaml
from hpo_spark.plain import dump_json
from hpo_spark.redaction import redact, redact_all
from hpo_spark.results.columns import csv_of
from hpo_spark.results.result import Result
from hpo_spark.storage import Storage
from hpo_spark.trial import Trial, TrialState

__all__ = ["RunFolder"]

logger = logging.getLogger(__name__)

_MODEL, _WEIGHTS = "best/model.keras", "best/model.weights.h5"
_ZIP = b"PK"


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

    def write_best(self, trial: Trial, fixed: Mapping[str, Any], model: bytes | None) -> None:
        """Write ``best/params.yaml`` of the best trial so far, and its ``model.keras`` or ``model.weights.h5``."""
        params = {**fixed, **trial.params}
        self._write("best/params.yaml", yaml.dump(params))
        name = None if model is None else _MODEL if model.startswith(_ZIP) else _WEIGHTS
        for other in {_MODEL, _WEIGHTS} - {name}:
            self._storage.remove(other)
        if name is not None and model is not None:
            self._write(name, model)

    def write_log(self, trial: Trial, output: str) -> None:
        """Write ``logs/trial-N.log``: why a trial failed, and all that it printed."""
        if trial.error and trial.state is not TrialState.CANCELLED:
            where = f"host {trial.host}, attempt {trial.attempt}"
            printed = f"\nIts output:\n{output}\n" if output else ""
            text = f"{trial.state} {trial.params}\n{where}\n\n{trial.error}\n{printed}"
            self._write(f"logs/trial-{trial.number}.log", redact(text))

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
