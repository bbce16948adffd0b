"""The DAGs: a search every week, through spark-submit, and one that Airflow runs on its own machine when it is told to.

Airflow needs this folder as its DAGs folder, or copies of its files there with the paths below made right.
"""

import os
from pathlib import Path

from hpo_spark_search import local_search, submitted_search

CHECKOUT = Path(__file__).resolve().parents[2]
DEFAULTS = {"study_file": str(CHECKOUT / "conf" / "digits.yaml"), "runs": str(CHECKOUT / "runs")}
SPARK_PYTHON = os.environ.get("PYSPARK_PYTHON", str(CHECKOUT / ".venv" / "bin" / "python"))

weekly = submitted_search("hpo_spark", DEFAULTS, schedule="@weekly")
local = local_search("hpo_spark_local", DEFAULTS, python=SPARK_PYTHON)
