"""The main job: ``spark-submit jobs/tune.py run STUDY.yaml``, the same as ``hpo-spark run STUDY.yaml``."""

import os
import sys
from pathlib import Path

try:
    from hpo_spark.cli import main
except ImportError as error:
    # spark-submit starts the python3 that is first on PATH; in a checkout the right one is in .venv.
    python = Path(__file__).resolve().parents[1] / ".venv" / "bin" / "python"
    if python.exists() and Path(sys.prefix) != python.parents[1]:
        os.execv(python, [str(python), *sys.argv])
    sys.exit(
        f"{error}. This job runs with {sys.executable}: install hpo_spark there, "
        "or set PYSPARK_PYTHON to the Python of the environment that has it."
    )

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
