"""GPUs of a trial on real masters, simulated with a discovery script: the worker has two, and its executor both."""

import pyspark
import pytest
from cluster import gpu_script, held, local, standalone
from devices import DEVICES, counted

from hpo_spark import ConfigError, SparkExecutor
from hpo_spark.cli import main
from hpo_spark.journal import read_trials

pytestmark = pytest.mark.cluster

SPARK = int(pyspark.__version__.partition(".")[0])
fractions = pytest.mark.skipif(SPARK < 4, reason="Spark 3.5 has fractions from the submission alone, and says so")


@pytest.fixture(
    scope="module", params=[("local-cluster", None), ("standalone", None), ("standalone", "GPU-aa,GPU-bb")], ids=str
)
def gpus(request, tmp_path_factory):
    """A session with four cores and two GPUs; ``devices`` are the names by which libraries know these."""
    master, visible = request.param
    folder = tmp_path_factory.mktemp("gpus")
    of_worker = {
        "spark.worker.resource.gpu.amount": "2",
        "spark.worker.resource.gpu.discoveryScript": str(gpu_script(folder)),
    }
    # A task asks for GPUs by a profile of its own: the submission says what executors have, and no more.
    conf = {"spark.executor.resource.gpu.amount": "2", "spark.executor.cores": "4"}
    if visible:
        conf["spark.executorEnv.CUDA_VISIBLE_DEVICES"] = visible
    if master == "standalone":
        options = " ".join(f"-D{key}={value}" for key, value in of_worker.items())
        opened = standalone(folder / "cluster", n_workers=1, cores=4, worker_opts=options, conf=conf)
    else:
        opened = local("local-cluster[1,4,1024]", folder / "cluster", conf={**of_worker, **conf})
    with opened as cluster:
        cluster.devices = (visible or "0,1").split(",")
        yield cluster


def test_tasks_at_the_same_time_have_a_gpu_each(gpus, tmp_path):
    with SparkExecutor(gpus.spark, gpus=1) as executor:
        assert executor.slots == 2
        assert counted(executor, tmp_path / "one", 12, 2) == dict.fromkeys(gpus.devices, 6)


def test_a_task_may_have_them_all(gpus, tmp_path):
    with SparkExecutor(gpus.spark, gpus=2) as executor:
        assert executor.slots == 1
        outcome = counted(executor, tmp_path / "all", 3, 1)
    assert {tuple(sorted(devices.split(","))) for devices in outcome} == {tuple(gpus.devices)}


@fractions
def test_two_tasks_may_share_one(gpus, tmp_path):
    with SparkExecutor(gpus.spark, gpus=0.5) as executor:
        assert executor.slots == 4
        assert counted(executor, tmp_path / "half", 8, 4, 2) == dict.fromkeys(gpus.devices, 4)


@pytest.mark.skipif(SPARK >= 4, reason="Spark 4 divides them")
def test_a_fraction_that_spark_would_not_give_is_refused(gpus):
    with pytest.raises(ConfigError, match=r"gpus=0\.5: .*--conf spark\.task\.resource\.gpu\.amount=0\.5"):
        SparkExecutor(gpus.spark, gpus=0.5)


@fractions
def test_cores_and_gpus_limit_the_slots_together(gpus, tmp_path):
    with SparkExecutor(gpus.spark, cpus=4, gpus=0.5) as executor:
        assert executor.slots == 1
        assert sum(counted(executor, tmp_path / "one", 3, 1, 1).values()) == 3


STUDY = """\
study: {seed: 1, max_trials: 8}
space:
  x: {float: [-1.0, 1.0]}
objective:
  function: my_objective.py:train
fixed: {folder: FOLDER, together: TOGETHER, sharing: SHARING}
resources: {gpus: GPUS}
report: false
"""
OBJECTIVE = """\
import devices

def train(params):
    devices.meet(params["folder"], params["together"], params["sharing"])
    return params["x"]
"""


@pytest.mark.parametrize(("asked", "together", "sharing"), [(1, 2, 1), pytest.param(0.5, 4, 2, marks=fractions)])
def test_one_line_of_the_study_file_asks_for_them(gpus, tmp_path, monkeypatch, asked, together, sharing):
    """In the session of a submission, which says what executors have, and no more."""
    monkeypatch.chdir(tmp_path)
    values = {"FOLDER": str(tmp_path / "gate"), "TOGETHER": together, "SHARING": sharing, "GPUS": asked}
    text = STUDY
    for name, value in values.items():
        text = text.replace(name, str(value))
    (tmp_path / "study.yaml").write_text(text)
    (tmp_path / "my_objective.py").write_text(OBJECTIVE)
    (tmp_path / "gate").mkdir()
    assert main(["run", "study.yaml", "--out", "run", "--quiet"]) == 0
    trials = read_trials(tmp_path / "run" / "journal.jsonl")
    assert [str(trial.state) for trial in trials] == ["COMPLETED"] * 8


def test_maps_run_beside_tasks_with_gpus(gpus):
    with SparkExecutor(gpus.spark, gpus=1) as executor:
        future = executor.submit(held, DEVICES, 0.5)
        assert list(executor.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        assert future.result(timeout=60)[0] in gpus.devices


@pytest.mark.parametrize("asked", [3, 1.5, -1, True])
def test_what_no_executor_has_is_refused(gpus, asked):
    with pytest.raises(ConfigError if asked == 3 else ValueError, match=f"gpus={asked}"):
        SparkExecutor(gpus.spark, gpus=asked)
