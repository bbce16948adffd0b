"""The submissions in ``conf/`` to clusters that cannot be had here, as far as Spark itself goes with them.

On Kubernetes that is up to the objects that it asks an API server for, which are held against Kubernetes' schema; on
YARN up to the resource manager's port, where nobody answers.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
from cluster import ROOT, SPARK_HOME
from recorder import recorder

from jobs.standalone import wait_for

pytestmark = pytest.mark.cluster

PROGRAM = ("run", "study.yaml", "--out", "run", "--resume")
NOBODY = """\
<configuration>
  <property><name>yarn.resourcemanager.address</name><value>127.0.0.1:1</value></property>
  <property><name>yarn.resourcemanager.connect.max-wait.ms</name><value>100</value></property>
  <property><name>yarn.resourcemanager.connect.retry-interval.ms</name><value>100</value></property>
  <property><name>ipc.client.connect.max.retries</name><value>0</value></property>
</configuration>
"""


@pytest.fixture
def path(tmp_path):
    """A ``PATH`` with Spark's ``spark-submit``, which says what it was given and does not wait for an end."""
    submit = tmp_path / "bin" / "spark-submit"
    submit.parent.mkdir()
    more = "--verbose --conf spark.kubernetes.submission.waitAppCompletion=false"
    submit.write_text(f'#!/bin/sh\nexec {SPARK_HOME}/bin/spark-submit {more} "$@"\n')
    submit.chmod(0o755)
    return os.pathsep.join([str(submit.parent), str(Path(sys.executable).parent), os.environ["PATH"]])


def start(command, folder, **variables):
    """Start a submission in a session of its own; what it says goes to the file ``log``."""
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYTHONPATH": str(ROOT), **variables}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def finish(command, folder, **variables):
    """The exit code of a submission that ends by itself, and what it said."""
    process = start(command, folder, **variables)
    try:
        code = process.wait(timeout=200)
    finally:
        end(process)
    return code, (folder / "log").read_text()


def end(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def check(objects):
    for made in objects:
        kubernetes_validate.validate(made, "1.30", strict=True)


def container_of(pod):
    (container,) = pod["spec"]["containers"]
    return container


@pytest.mark.parametrize("gpus", ["0", "1"])
def test_a_driver_is_asked_for_on_kubernetes(tmp_path, path, gpus):
    with recorder() as server:
        script = ROOT / "conf" / "kubernetes" / "cluster.sh"
        code, log = finish(
            [script, *PROGRAM], tmp_path, PATH=path, KUBERNETES=server.url, IMAGE="hpo:1", NAMESPACE="ours", GPUS=gpus
        )
    assert code == 0, log
    check(server.objects)
    (pod,) = server.of_kind("Pod")
    container = container_of(pod)
    assert container["image"] == "hpo:1"
    assert container["args"][-6:] == ["local:///opt/hpo_spark/jobs/tune.py", *PROGRAM]
    assert pod["spec"]["serviceAccountName"] == "hpo-spark"
    assert {"/runs", "/study"} <= {mount["mountPath"] for mount in container["volumeMounts"]}
    files = {name: text for made in server.of_kind("ConfigMap") for name, text in made["data"].items()}
    assert "TaskSetManager" in files["log4j2.properties"]
    assert ("nvidia.com/gpu.present" in files["podspec-configmap-key"]) == (gpus == "1")
    assert ("spark.executor.resource.gpu.amount=1" in files["spark.properties"]) == (gpus == "1")
    assert "spark.speculation=false" in files["spark.properties"]


@pytest.mark.parametrize("gpus", ["0", "1"])
def test_executors_are_asked_for_on_kubernetes(tmp_path, path, gpus):
    (tmp_path / "study.yaml").write_text((ROOT / "conf" / "digits.yaml").read_text())
    with recorder() as server:
        script = ROOT / "conf" / "kubernetes" / "client.sh"
        process = start(
            [script, *PROGRAM],
            tmp_path,
            PATH=path,
            KUBERNETES=server.url,
            IMAGE="hpo:1",
            DRIVER_HOST="127.0.0.1",
            DRIVER_PORT="0",
            BLOCK_MANAGER_PORT="0",
            DRIVER_PYTHON=sys.executable,
            EXECUTORS="2",
            GPUS=gpus,
        )
        try:
            wait_for(lambda: len(server.of_kind("Pod")) >= 2, "two executors", 200, (tmp_path / "log").read_text)
        finally:
            end(process)
    check(server.objects)
    for pod in server.of_kind("Pod"):
        container = container_of(pod)
        assert container["args"] == ["executor"]
        assert container["resources"]["limits"].get("nvidia.com/gpu") == (None if gpus == "0" else "1")
        assert {"/runs", "/cache"} <= {mount["mountPath"] for mount in container["volumeMounts"]}
        assert container["resources"]["limits"]["memory"] == "4096Mi"  # the JVM's gigabyte, and three for trials
        assert {"name": "HPO_SPARK_CACHE", "value": "/cache"} in container["env"]


@pytest.fixture
def nowhere(tmp_path):
    """The configuration of a YARN of which nothing answers."""
    folder = tmp_path / "hadoop"
    folder.mkdir()
    (folder / "yarn-site.xml").write_text(NOBODY)
    (folder / "core-site.xml").write_text(NOBODY)
    return str(folder)


@pytest.fixture
def shipped(tmp_path):
    """Files of the names that submissions take along, without content."""
    for name in ("environment.tar.gz", "study.yaml", "my_models.py", "tune.py"):
        (tmp_path / name).touch()
    (tmp_path / "study.yaml").write_text((ROOT / "conf" / "digits.yaml").read_text())
    return tmp_path


def test_a_driver_is_submitted_to_yarn(shipped, path, nowhere):
    script = ROOT / "conf" / "yarn" / "cluster.sh"
    files = "study.yaml,my_models.py"
    code, log = finish([script, *PROGRAM], shipped, PATH=path, HADOOP_CONF_DIR=nowhere, DIST=str(shipped), FILES=files)
    assert_reached_yarn(code, log)
    assert "deployMode              cluster" in log
    assert "(spark.yarn.dist.archives,file://" in log and "environment.tar.gz#environment)" in log
    assert "my_models.py)" in log


def test_a_search_is_submitted_to_yarn_from_here(shipped, path, nowhere):
    script = ROOT / "conf" / "yarn" / "client.sh"
    variables = {"HADOOP_CONF_DIR": nowhere, "DIST": str(shipped), "DRIVER_PYTHON": sys.executable}
    code, log = finish([script, *PROGRAM], shipped, PATH=path, **variables)
    assert_reached_yarn(code, log)
    assert "deployMode              client" in log
    assert "hpo-spark: Spark could not start" in log


def test_a_step_is_submitted_as_on_emr(shipped, path, nowhere):
    (step,) = json.loads((ROOT / "conf" / "emr" / "step.json").read_text())
    command = shlex.join(step["Args"]).replace("s3://BUCKET/hpo_spark/", f"{shipped}/")
    code, log = finish(["/bin/sh", "-c", f"exec {command}"], shipped, PATH=path, HADOOP_CONF_DIR=nowhere)
    assert_reached_yarn(code, log)
    assert "(spark.executor.memoryOverhead,3g)" in log


def assert_reached_yarn(code, log):
    assert code != 0
    assert "childArgs               [run study.yaml --out" in log, log
    assert "(spark.speculation,false)" in log
    assert "(spark.yarn.maxAppAttempts,2)" in log or "deployMode              client" in log
    assert "spark.pyspark.python,./environment/bin/python" in log
    assert "127.0.0.1:1" in log or "localhost:1" in log, log
