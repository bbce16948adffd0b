"""DAGs that search, judge the outcome and publish the model: through spark-submit, or on Airflow's own machine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG
from hpo_spark_operator import TuneOperator
from hpo_spark_run import TUNE
from hpo_spark_tasks import FOLDER, SETTINGS, STUDY_FILE, judge, params, publish, search_here

__all__ = ["local_search", "submitted_search"]

# Of the task that searches; the retries are for interruptions, and each goes on where the one before ended.
_PATIENCE: dict[str, Any] = {
    "execution_timeout": timedelta(hours=12),
    "retries": 3,
    "retry_delay": timedelta(minutes=2),
}


def submitted_search(
    dag_id: str,
    defaults: dict[str, Any],
    schedule: str | None = None,
    *,
    conn_id: str = "spark_default",
    **options: Any,
) -> DAG:
    """A DAG whose search goes to a cluster through spark-submit.

    Args:
        dag_id: Its name.
        defaults: Of its params: ``study_file`` and ``runs``, and any other.
        schedule: When it runs by itself.
        conn_id: Airflow's connection that says where Spark's master is.
        **options: Of the task that searches: ``execution_timeout`` of one try, ``retries``, ``conf``, and whatever else
            `SparkSubmitOperator` takes.
    """

    def search() -> Any:
        return TuneOperator(
            task_id="search",
            study_file=STUDY_FILE,
            folder=FOLDER,
            settings=SETTINGS,
            conn_id=conn_id,
            **{**_PATIENCE, **options},
        ).output

    return _dag(dag_id, defaults, schedule, search)


def local_search(
    dag_id: str,
    defaults: dict[str, Any],
    schedule: str | None = None,
    *,
    python: str,
    application: str = TUNE,
    **options: Any,
) -> DAG:
    """A DAG whose search runs on Airflow's own machine, on ``local[*]`` or where the study file says.

    Args:
        dag_id: Its name.
        defaults: Of its params: ``study_file`` and ``runs``, and any other.
        schedule: When it runs by itself.
        python: The interpreter of the environment that has hpo_spark.
        application: Path of ``jobs/tune.py``, where these files are not beside it.
        **options: Of the task that searches.
    """

    def search() -> Any:
        task = search_here.override(task_id="search", **{**_PATIENCE, **options})
        return task(python, application, STUDY_FILE, FOLDER, SETTINGS)

    return _dag(dag_id, defaults, schedule, search)


def _dag(dag_id: str, defaults: dict[str, Any], schedule: str | None, search: Callable[[], Any]) -> DAG:
    with DAG(dag_id, schedule=schedule, catchup=False, max_active_runs=1, params=params(**defaults)) as dag:
        found = search()
        judge(found) >> publish(found)
    return dag
