"""Runs in Airflow's environment: the errors in a folder of DAGs, and what Airflow says to wrong params."""

import json
import sys
from pathlib import Path

from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization

folder, *wrong = sys.argv[1:]
bag = BundleDagBag(dag_folder=Path(folder), bundle_path=Path(folder), bundle_name="dags-folder")
dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(bag.dags["hpo_spark"]))  # as the scheduler has it
answers = []
for conf in map(json.loads, wrong):
    try:
        dag.params.deep_merge(conf).validate()
        answers.append("accepted")
    except Exception as error:
        answers.append(f"{type(error).__name__}: {error}")
files = [str(Path(path).relative_to(folder)) for path in bag.file_last_changed]
print(json.dumps({"errors": bag.import_errors, "dags": sorted(bag.dags), "files": files, "answers": answers}))
