"""An operator of Airflow that runs a search through spark-submit and knows which of its ends are final."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowFailException
from hpo_spark_run import FINAL, TUNE, end_all, outcome, read_result, run_arguments, started_by

__all__ = ["TuneOperator"]


class TuneOperator(SparkSubmitOperator):
    """Runs the search of a study file; a retry goes on with it, and repeats no trial that has ended.

    In client mode spark-submit's exit code is that of ``jobs/tune.py``: 2 and 3 fail the task for good, since another
    try would end alike; 75 and crashes are retried. In cluster mode it says little, and ``state`` in ``result.json``
    counts: ``failed`` is final, whatever else is retried, a wrong study file too. (Cluster mode was tried with a
    stand-in for spark-submit only.)

    When Airflow ends the task by its time-out, the task ends once the driver and all its processes have, so that a
    retry finds the run folder free. By hand (not tried) Airflow's supervisor waits for 5 s only, then kills the task.

    Args:
        study_file: Path of the study file where the driver runs (templated).
        folder: Run folder, a path or a URL, that the driver and Airflow's worker see (templated).
        settings: Keys of the study file and what they become, as ``{"study.max_trials": "{{ params.trials }}"}``; one
            that renders to nothing is left out (templated).
        **options: Of `SparkSubmitOperator`.

    Returns:
        The XCom that `hpo_spark_run.outcome` describes.
    """

    template_fields: Sequence[str] = (*SparkSubmitOperator.template_fields, "study_file", "folder", "settings")

    def __init__(
        self, *, study_file: str, folder: str, settings: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init__(**{"application": TUNE, "name": "hpo_spark", **options})
        self.study_file = study_file
        self.folder = folder
        self.settings = settings or {}

    def execute(self, context: Any) -> dict[str, Any]:
        """Run it."""
        self.application_args = run_arguments(self.study_file, self.folder, self.settings)
        before = read_result(self.folder)
        try:
            super().execute(context)
        except Exception as error:
            if (reason := self._why_final(before)) is not None:
                raise AirflowFailException(f"{self.study_file} is not tried again: {reason}. See above.") from error
            raise
        return outcome(self.folder)

    def on_kill(self) -> None:
        """Kill spark-submit, by which the driver's Python gets SIGTERM, and wait for the end of them all."""
        processes = [] if self._submitted is None else started_by(self._submitted)
        super().on_kill()
        end_all(processes)

    def _why_final(self, before: dict[str, Any] | None) -> str | None:
        """Why a search that did not succeed need not be tried again; None where it may.

        Args:
            before: What ``result.json`` was before it; where it has not changed, it tells of an earlier try.
        """
        if self._submitted is None:
            return None
        if self._hook._connection["deploy_mode"] != "cluster":
            return FINAL.get(self._submitted.returncode)
        result = read_result(self.folder)
        return FINAL[3] if result is not None and result != before and result["state"] == "failed" else None

    @property
    def _submitted(self) -> Any:
        """The process of spark-submit, which the provider keeps to itself; None before it was started."""
        return None if self._hook is None else self._hook._submit_sp
