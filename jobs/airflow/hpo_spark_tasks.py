"""The params of a search's DAG, and the tasks around the search: judge its outcome, publish its model."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from typing import Any

from airflow.sdk import Param, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from hpo_spark_run import END_S, FINAL, end_all, outcome, run_arguments, started_by
from upath import UPath

__all__ = ["FOLDER", "SETTINGS", "STUDY_FILE", "judge", "params", "publish", "search_here"]

logger = logging.getLogger(__name__)

STUDY_FILE = "{{ params.study_file }}"
# Each run of the DAG has its folder, all tries of the run the same; object stores and HDFS like neither : nor +.
FOLDER = "{{ params.runs }}/{{ dag.dag_id }}/{{ run_id | replace(':', '') | replace('+', '_') }}"
SETTINGS = {"study.max_trials": "{{ params.trials or '' }}", "study.timeout_s": "{{ params.timeout_s or '' }}"}


def params(study_file: str, runs: str, **defaults: Any) -> dict[str, Param]:
    """The params of a DAG, which Airflow checks by their JSON schemas before a run begins.

    Args:
        study_file: Default of the param of that name.
        runs: Default of the param of that name.
        **defaults: Those of the others; None without.
    """

    def optional(name: str, default: Any, what: str, type_: str, **schema: Any) -> dict[str, Param]:
        value = defaults.pop(name, default)
        return {name: Param(value, description=what, type=["null", type_], **schema)}

    found = {
        "study_file": Param(study_file, type="string", minLength=1, description="The study file, on the driver."),
        "runs": Param(runs, type="string", minLength=1, description="Where run folders are made: a path or a URL."),
        **optional("trials", None, "Trials at most; the study file's by default.", "integer", minimum=1),
        **optional("timeout_s", None, "Seconds that the search may take.", "number", exclusiveMinimum=0),
        **optional("at_least", None, "The run fails where the metric is below.", "number"),
        **optional("at_most", None, "The run fails where the metric is above.", "number"),
        **optional("publish_to", None, "Where the model is published: a path or a URL.", "string", minLength=1),
        "metric": Param(
            defaults.pop("metric", "value"),
            type="string",
            minLength=1,
            description="What is judged: value, a metric of the best trial, or test.NAME.",
        ),
    }
    if defaults:
        raise TypeError(f"A search's DAG has no param {', '.join(defaults)}; it has {', '.join(found)}.")
    return found


@task
def judge(found: dict[str, Any], params: dict[str, Any] | None = None) -> float:
    """Fail, for good, where the metric of the best trial is not good enough.

    Args:
        found: The search's XCom.
        params: Airflow gives them.
    """
    assert params is not None
    name, metrics = params["metric"], found["metrics"]
    if not isinstance(metrics.get(name), int | float):
        known = ", ".join(key for key, value in metrics.items() if isinstance(value, int | float))
        raise AirflowFailException(f"metric: expected one of {known}, got {name!r}.")
    value = float(metrics[name])
    for limit, wrong, what in (
        (params["at_least"], "below", "at least"),
        (params["at_most"], "above", "at most"),
    ):
        if limit is not None and not (value >= limit if wrong == "below" else value <= limit):
            raise AirflowFailException(f"{name} is {value:g}, {wrong} the threshold: expected {what} {limit:g}.")
    return value


@task
def publish(found: dict[str, Any], params: dict[str, Any] | None = None) -> str:
    """Copy the best model to where it is used from, and then let ``current.json`` there point to it.

    A reader follows ``current.json`` and so never meets half a model; what was published before stays.

    Args:
        found: The search's XCom.
        params: Airflow gives them.

    Returns:
        The model's new path or URL.
    """
    assert params is not None
    if params["publish_to"] is None:
        raise AirflowSkipException("publish_to: no place is given.")
    folder, place = UPath(found["folder"]), UPath(params["publish_to"])
    files = [*(folder / "best").iterdir(), folder / "result.json"]
    model = next((file.name for file in files if file.name.startswith("model.")), None)
    if model is None:
        raise AirflowFailException(f"{folder}/best has no model: its objective keeps none, or result.json says why.")
    (place / folder.name).mkdir(parents=True, exist_ok=True)
    for file in files:
        with file.open("rb") as source, (place / folder.name / file.name).open("wb") as target:
            shutil.copyfileobj(source, target)
    current = {"model": f"{folder.name}/{model}", "params": found["params"], "metrics": found["metrics"]}
    part = place / "current.json.part"
    part.write_text(json.dumps(current, indent=2) + "\n")
    part.rename(place / "current.json")
    return str(place / folder.name / model)


@task
def search_here(
    python: str, application: str, study_file: str, folder: str, settings: dict[str, Any]
) -> dict[str, Any]:
    """Run the search of a study file on this machine, without spark-submit; a retry goes on with it.

    Args:
        python: The interpreter of the environment that has hpo_spark, which is not Airflow's.
        application: Path of ``jobs/tune.py``.
        study_file: As for `TuneOperator`.
        folder: As for `TuneOperator`.
        settings: As for `TuneOperator`.

    Returns:
        The XCom that `hpo_spark_run.outcome` describes.
    """
    command = [python, application, *run_arguments(study_file, folder, settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace") as driver:
        assert driver.stdout is not None
        try:
            for line in driver.stdout:
                logger.info("%s", line.rstrip())
            code = driver.wait()
        finally:  # Airflow's time-out, or whatever else ends this task
            processes = started_by(driver)
            driver.terminate()
            try:
                driver.wait(END_S)
            except subprocess.TimeoutExpired:
                driver.kill()
            end_all(processes)
    if code in FINAL:
        raise AirflowFailException(f"{study_file} is not tried again: {FINAL[code]}. See above.")
    if code != 0:
        raise AirflowException(f"The search ended with exit code {code}; a retry goes on with {folder}.")
    return outcome(folder)
