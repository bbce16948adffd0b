"""The main job: ``spark-submit jobs/tune.py run STUDY.yaml``, the same as ``hpo-spark run STUDY.yaml``."""

import sys

try:
    from hpo_spark.cli import main
except ImportError as error:
    sys.exit(
        f"{error}. This job runs with {sys.executable}: install hpo_spark there, "
        "or set PYSPARK_PYTHON to the Python of the environment that has it."
    )

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
