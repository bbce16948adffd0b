"""Master, two workers and driver, each in a container on one network; a worker is lost in the middle of a search."""

import csv
import json
import os
from pathlib import Path

import pytest
from engine import UID

pytestmark = pytest.mark.images

_N_TRIALS = 12
_STUDY = f"""
study: {{name: containers, seed: 0, max_trials: {_N_TRIALS}, direction: minimize}}
space: {{x: {{float: [0, 1]}}}}
searcher: random
objective: {{function: gates.py:evaluate}}
report: false
"""


def test_every_trial_has_one_result_when_a_worker_is_lost(engine, plain, tmp_path):
    files, runs = tmp_path / "files", tmp_path / "runs"
    files.mkdir()
    runs.mkdir()
    os.chown(runs, UID, UID)
    (files / "study.yaml").write_text(_STUDY)
    (files / "gates.py").write_bytes(Path(__file__).with_name("gates.py").read_bytes())
    shared = [(runs, "/runs"), (files, "/study")]

    with engine.network("cluster") as network:
        engine.start(plain, "master", "master", network=network)
        engine.await_health("master")
        for name in ("worker-1", "worker-2"):
            cores = {"SPARK_WORKER_CORES": "1", "SPARK_WORKER_MEMORY": "1g"}
            engine.start(
                plain, name, "worker", "spark://master:7077", network=network, volumes=shared, environment=cores
            )
        engine.await_health("worker-1", "worker-2")
        engine.start(
            plain, "driver",
            "spark-submit", "--master", "spark://master:7077", "--conf", "spark.executor.memory=512m",
            "jobs/tune.py", "run", "/study/study.yaml", "--out", "/runs/search",
            network=network,
            volumes=shared,
        )  # fmt: skip
        engine.wait_for((runs / "held").exists, "trial on worker-2", 180, "driver")
        engine.podman("kill", "worker-2")
        code, said = engine.await_end("driver", 240)

    assert code == 0, said[-6000:]
    held = int((runs / "held").read_text())
    records = [json.loads(line) for line in (runs / "search" / "journal.jsonl").read_text().splitlines()]
    told = {record["number"]: record for record in records if record["kind"] == "tell"}
    assert sorted(record["number"] for record in records if record["kind"] == "tell") == list(range(_N_TRIALS))
    assert {(record["state"], record["host"]) for record in told.values()} == {("COMPLETED", "worker-1")}
    assert told[held]["attempt"] == 2
    with (runs / "search" / "trials.csv").open() as table:
        assert [int(row["number"]) for row in csv.DictReader(table)] == list(range(_N_TRIALS))
    assert (runs / "search" / "result.json").stat().st_uid == UID
