"""The main job: ``spark-submit jobs/tune.py run STUDY.yaml``, the same as ``hpo-spark run STUDY.yaml``."""

import sys

try:
    from hpo_spark.cli import main
except ImportError as error:
    sys.exit(
        f"{error}. This job runs with {sys.executable}: activate the environment that has hpo_spark "
        "before spark-submit, or name its Python in PYSPARK_PYTHON."
    )

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
