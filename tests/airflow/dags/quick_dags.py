"""The DAGs of jobs/airflow with the patience of a test; Airflow reads this file in its own environment."""

import os
from datetime import timedelta

from hpo_spark_search import local_search, submitted_search

FOLDER = os.environ["HPO_SPARK_TEST_FOLDER"]
DEFAULTS = {"study_file": f"{FOLDER}/study.yaml", "runs": f"{FOLDER}/runs"}
PATIENCE = {"retries": 3, "retry_delay": timedelta(seconds=1), "execution_timeout": timedelta(minutes=30)}
CONF = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1"}

submitted = submitted_search("submitted", DEFAULTS, conf=CONF, **PATIENCE)
in_cluster_mode = submitted_search("in_cluster_mode", DEFAULTS, conn_id="yarn_cluster", durable=False, **PATIENCE)
local = local_search("local", DEFAULTS, python=os.environ["PYSPARK_PYTHON"], **PATIENCE)
