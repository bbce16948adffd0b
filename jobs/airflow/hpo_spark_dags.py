"""The DAGs: a search every week, through spark-submit, and one that Airflow runs on its own machine when it is told to.

Airflow needs this folder as its DAGs folder, or copies of its files there with ``CHECKOUT`` made right.
"""

import os
from pathlib import Path

from hpo_spark_search import local_search, submitted_search

CHECKOUT = Path(__file__).resolve().parents[2]
DEFAULTS = {"study_file": str(CHECKOUT / "conf" / "digits.yaml"), "runs": str(CHECKOUT / "runs")}
PROGRAM = str(CHECKOUT / "jobs" / "tune.py")
SPARK_PYTHON = os.environ.get("PYSPARK_PYTHON", str(CHECKOUT / ".venv" / "bin" / "python"))

if not os.path.isfile(PROGRAM):
    raise FileNotFoundError(
        f"{PROGRAM}: expected hpo_spark's jobs/tune.py; let CHECKOUT in {__file__} be its checkout."
    )

weekly = submitted_search("hpo_spark", DEFAULTS, schedule="@weekly", application=PROGRAM)
local = local_search("hpo_spark_local", DEFAULTS, python=SPARK_PYTHON, application=PROGRAM)
