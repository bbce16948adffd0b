"""What an image holds, and that Spark on Kubernetes can call it."""

import re

import pytest
from engine import UID

pytestmark = pytest.mark.images

# Of what Spark has the Java of each executor opened for it.
_JAVA_OPTIONS = [
    "-XX:+IgnoreUnrecognizedVMOptions",
    "--add-modules=jdk.incubator.vector",
    *(
        f"--add-opens=java.base/{package}=ALL-UNNAMED"
        for package in (
            "java.lang",
            "java.lang.invoke",
            "java.net",
            "java.nio",
            "java.util",
            "sun.nio.ch",
            "sun.nio.cs",
        )
    ),
]


def inside(engine, image, *command):
    return engine.podman("run", "--rm", "--network", "none", image, *command)


def test_nobody_is_root_and_java_and_the_package_are_there(engine, plain):
    assert inside(engine, plain, "id", "--user") == str(UID)
    assert 'version "17.' in inside(engine, plain, "java", "-version")
    assert re.fullmatch(r"\d+\.\d+\.\d+", inside(engine, plain, "hpo-spark", "version"))
    assert "tini" in inside(engine, plain, "cat", "/proc/1/cmdline")


def test_tensorflow_is_there_where_it_was_asked_for(engine, plain, full):
    look = ("python", "-c", "from importlib.util import find_spec; print(find_spec('tensorflow') is not None)")
    assert [inside(engine, image, *look) for image in (plain, full)] == ["False", "True"]


def test_nothing_secret_is_in_its_history_or_environment(engine, plain):
    said = engine.podman("history", "--no-trunc", plain) + engine.podman("inspect", plain)
    assert not re.search(r"password|secret|token|access_key", said, re.IGNORECASE)


def test_driver_and_executor_are_started_as_spark_on_kubernetes_does(engine, plain, tmp_path):
    """Without Kubernetes: a master without workers stands in for it, and the driver gets its executor from outside."""
    (tmp_path / "study.yaml").write_text(
        "study: {name: pods, seed: 0, max_trials: 6}\n"
        "space: {C: {float: [0.01, 100], log: true}}\n"
        "searcher: random\n"
        "objective: {sklearn: sklearn.linear_model:LogisticRegression, data: digits}\n"
    )
    (tmp_path / "spark.properties").write_text(
        "spark.master=spark://master:7077\nspark.driver.host=driver\nspark.driver.port=7078\n"
    )
    tmp_path.chmod(0o755)  # the container's user is another
    with engine.network("pods") as network:
        engine.start(plain, "master", "master", network=network)
        engine.await_health("master")
        engine.start(
            plain, "driver", "driver",
            "--properties-file", "/study/spark.properties", "--class", "org.apache.spark.deploy.PythonRunner",
            "local:///opt/hpo_spark/jobs/tune.py", "run", "/study/study.yaml", "--out", "/runs/pods",
            network=network,
            volumes=[(tmp_path, "/study")],
            environment={"SPARK_DRIVER_BIND_ADDRESS": "0.0.0.0"},
        )  # fmt: skip
        environment = {f"SPARK_JAVA_OPT_{n}": option for n, option in enumerate(_JAVA_OPTIONS)}
        environment |= {
            "SPARK_DRIVER_URL": "spark://CoarseGrainedScheduler@driver:7078",
            "SPARK_EXECUTOR_ID": "1",
            "SPARK_EXECUTOR_CORES": "2",
            "SPARK_EXECUTOR_MEMORY": "512m",
            "SPARK_APPLICATION_ID": "spark-pods",
            "SPARK_EXECUTOR_POD_IP": "executor",
            "SPARK_EXECUTOR_POD_NAME": "executor",
            "SPARK_RESOURCE_PROFILE_ID": "0",
        }
        applications = lambda: engine.page("master", "http://localhost:8080/json/")["activeapps"]  # noqa: E731
        engine.wait_for(applications, "application", 120, "driver")
        engine.start(plain, "executor", "executor", network=network, environment=environment)
        code, said = engine.await_end("driver", 180)
        assert code == 0, said[-6000:]
        assert "results in /runs/pods" in said
        engine.await_end("executor", 60)  # with its driver
