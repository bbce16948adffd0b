"""What Airflow knows of a search: its command line, its exit codes, its run folder, and the processes behind it.

Nothing here needs hpo_spark, Spark or TensorFlow, which live in an environment of their own.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from upath import UPath

__all__ = ["END_S", "FINAL", "TUNE", "end_all", "outcome", "read_result", "run_arguments", "started_by"]

TUNE = str(Path(__file__).resolve().parents[1] / "tune.py")

# How long a search may take to end once it was told to.
END_S = 30.0
# Exit codes after which another try would end alike. 75, and whatever a crash or a signal leaves, is worth one.
FINAL = {
    2: "the study file, the arguments or Spark's environment are wrong",
    3: "no trial succeeded",
}


def run_arguments(study_file: str, folder: str, settings: Mapping[str, Any]) -> list[str]:
    """The arguments of ``jobs/tune.py`` that begin a search, or go on with it.

    Args:
        study_file: Path of the study file.
        folder: The run folder.
        settings: Keys of the study file and what they become; None or an empty text leaves what the file says.
    """
    changes = [f"{key}={value}" for key, value in settings.items() if value not in (None, "")]
    return ["run", study_file, "--out", folder, "--resume", *(word for one in changes for word in ("--set", one))]


def read_result(folder: str) -> dict[str, Any] | None:
    """The content of ``result.json`` in a run folder, a path or a URL; None where there is none."""
    try:
        result: dict[str, Any] = json.loads((UPath(folder) / "result.json").read_text())
    except FileNotFoundError:
        return None
    return result


def outcome(folder: str) -> dict[str, Any]:
    """What the following tasks want to know of a search that has finished; the XCom of the task that ran it.

    Returns:
        ``folder``, the best trial's ``params``, and ``metrics``: its ``value`` (the first of several), what its
        objective reported, and ``test.NAME`` for each metric of its model on the test part.

    Raises:
        FileNotFoundError: If there is no ``result.json`` to be seen from here.
        AirflowFailException: If no trial succeeded.
        AirflowException: If it has not finished, and another try is worth it.
    """
    result = read_result(folder)
    if result is None:
        raise FileNotFoundError(
            f"{folder}/result.json: the search has finished, but its run folder is not to be seen from Airflow's "
            "worker. Let the param 'runs' be a folder or a URL that Spark's driver and Airflow share."
        )
    if result["state"] == "failed":
        raise AirflowFailException(f"{folder} is not tried again: {FINAL[3]}.")
    if result["state"] != "finished":
        raise AirflowException(
            f"{folder}/result.json: expected the state 'finished', got {result['state']!r}; a retry goes on with it."
        )
    best = result["best_trial"]
    metrics = {**best["metrics"], "value": best["values"][0]}
    metrics.update((f"test.{name}", value) for name, value in result["test"].items())
    return {"folder": folder, "params": best["params"], "metrics": metrics}


def started_by(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All that a process has started, and these in turn; nothing where it has ended.

    Without itself: whoever else waited for it would take its exit code.
    """
    if process.poll() is not None:
        return []
    return psutil.Process(process.pid).children(recursive=True)  # its number is nobody else's until it is waited for


def end_all(processes: Iterable[psutil.Process]) -> None:
    """Wait until processes that were told to end have done so, and kill those that have not after a while."""
    _, alive = psutil.wait_procs(list(processes), timeout=END_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=END_S)
