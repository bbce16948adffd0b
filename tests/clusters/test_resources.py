"""What a trial asks of a master: it gets its cores, or is refused with a sentence instead of waiting for ever."""

import time

import pytest
from cluster import hold, local, most_at_once, standalone

from hpo_spark import ConfigError, SparkExecutor
from hpo_spark.preflight import preflight

pytestmark = pytest.mark.cluster

THREADS = "OMP_NUM_THREADS"


@pytest.mark.parametrize("master", ["local[2]", "local[2,3]"])
def test_what_a_local_master_cannot_give_is_refused_with_a_sentence(tmp_path, master):
    with local(master, tmp_path) as cluster:
        for options, word in (({"gpus": 1}, "gpus=1"), ({"gpus": 0.5}, "gpus=0.5"), ({"cpus": 2}, "spark.task.cpus")):
            began = time.monotonic()
            with pytest.raises(ConfigError, match=word):
                SparkExecutor(cluster.spark, **options)
            assert time.monotonic() - began < 5
        with SparkExecutor(cluster.spark, cpus=1, gpus=0) as executor:
            assert executor.submit(abs, -1).result(timeout=60) == 1


def test_gpus_that_no_executor_has_are_refused_with_a_sentence(tmp_path):
    with (
        standalone(tmp_path / "cluster", n_workers=1) as cluster,
        pytest.raises(ConfigError, match=r"gpus=1.*spark\.executor\.resource\.gpu\.amount"),
    ):
        SparkExecutor(cluster.spark, gpus=1)


def test_executors_that_no_worker_can_give_are_named_instead_of_waited_for_in_silence(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("hpo_spark.executors.spark._REGISTRATION_S", 3.0)
    conf = {"spark.executor.resource.gpu.amount": "1"}
    with (
        standalone(tmp_path / "cluster", n_workers=1, conf=conf, n_executors=0) as cluster,
        SparkExecutor(cluster.spark, gpus=1) as executor,
    ):
        assert "no executor has come in 3 s" in caplog.text
        assert "spark.executor.resource.gpu.amount=1" in caplog.text
        found = preflight(executor, abs, patience_s=3.0)
        assert found.problems == ["No worker has answered: are there any, and are they free?"]


@pytest.mark.parametrize("master", ["local-cluster[1,4,1024]", "standalone"])
def test_a_trial_gets_the_cores_that_it_asks_for(tmp_path, master):
    opened = (
        standalone(tmp_path / "cluster", n_workers=1, cores=4)
        if master == "standalone"
        else local(master, tmp_path / "cluster")
    )
    with opened as cluster:
        with SparkExecutor(cluster.spark, cpus=2) as executor:
            assert executor.slots == 2
            outcomes = hold(executor, THREADS, 6)
            assert {threads for threads, _ in outcomes} == {"2"}
            assert most_at_once([span for _, span in outcomes]) == 2
        with SparkExecutor(cluster.spark) as executor:
            assert executor.slots == 4
            assert {threads for threads, _ in hold(executor, THREADS, 4, 0.2)} == {"1"}
        with pytest.raises(ConfigError, match="cpus=8"):
            SparkExecutor(cluster.spark, cpus=8)


def test_cores_said_in_the_submission_are_those_of_a_trial(tmp_path):
    with local("local[4]", tmp_path, conf={"spark.task.cpus": "2"}) as cluster:
        for options in ({}, {"cpus": 2}):
            with SparkExecutor(cluster.spark, **options) as executor:
                assert executor.slots == 2
                assert {threads for threads, _ in hold(executor, THREADS, 2, 0.1)} == {"2"}
        with pytest.raises(ConfigError, match=r"cpus=1.*spark\.task\.cpus"):
            SparkExecutor(cluster.spark, cpus=1)
