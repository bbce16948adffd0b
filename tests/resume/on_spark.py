"""One life of the search of `storm`, on Spark: ``python on_spark.py FOLDER N_TRIALS``."""

import sys
from pathlib import Path

from storm import make_study

from hpo_spark import SparkExecutor
from hpo_spark.session import open_session

if __name__ == "__main__":
    folder, n_trials = Path(sys.argv[1]), int(sys.argv[2])
    study = make_study(folder, "evolution", folder / "run")
    with open_session("resume", "local[2]") as session, SparkExecutor(session) as pool:
        study.run(pool, n_trials)
