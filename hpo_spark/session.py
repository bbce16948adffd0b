"""The Spark session of a command: the one that spark-submit prepared, or one of our own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from hpo_spark.errors import ConfigError, EnvironmentProblem, MissingExtra
from hpo_spark.executors.spark_errors import first_lines
from hpo_spark.signals import end_with_parent

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = [
    "check_environment",
    "check_java",
    "end_with_spark_submit",
    "local_settings",
    "open_session",
    "under_spark_submit",
]


def under_spark_submit() -> bool:
    """Whether spark-submit started this program: it then decides on the master and everything else."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def end_with_spark_submit() -> None:
    """Under spark-submit, end this program when the JVM that started it ends, be it by SIGKILL; on Linux only.

    A program that a shell or another program has started stays when that ends, so that ``nohup`` means what it says.
    """
    if not under_spark_submit():
        return
    with suppress(psutil.Error):  # it has just ended, and its gateway with it
        parent = psutil.Process(os.getppid())
        if parent.name() == "java":
            end_with_parent(parent.pid)


def check_environment(master: str | None) -> None:
    """Find out, before Spark starts, whether it can.

    Raises:
        ConfigError: If a master is given under spark-submit.
        MissingExtra: If pyspark is not installed.
        EnvironmentProblem: If there is no suitable Java; says what to install.
    """
    if under_spark_submit():
        if master is not None:
            raise ConfigError(f"--master {master}: under spark-submit give the master to spark-submit instead.")
        return
    check_java()


@contextmanager
def open_session(name: str, master: str | None, task_cpus: int | None = None) -> Iterator[SparkSession]:
    """A Spark session for a ``with`` block; stopped afterwards only if it was made here.

    Args:
        name: Shown in Spark's pages.
        master: URL of the master; None for spark-submit's, or ``local[*]`` without it.
        task_cpus: Cores for one task, where the session is made here; None for what Spark's configuration says.

    Raises:
        EnvironmentProblem: If Spark cannot start.
    """
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    found = SparkContext._active_spark_context is not None
    builder = SparkSession.builder
    if not under_spark_submit() and not found:
        master = master or "local[*]"
        settings = local_settings(name) if master.startswith("local") else _settings(name)
        for key, value in settings.items():
            builder = builder.config(key, value)
        builder = builder.master(master)
        if task_cpus is not None:
            builder = builder.config("spark.task.cpus", task_cpus)
    try:
        with warnings.catch_warnings():
            # pyspark 4.3 looks for pandas when it starts, and warns of pandas 3; nothing here gives it any.
            warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
            session = builder.getOrCreate()
    except Exception as error:  # Java's, of any kind
        raise EnvironmentProblem(f"Spark could not start on master {master}: {first_lines(error)}") from error
    try:
        yield session
    finally:
        if not found:
            session.stop()


def local_settings(name: str) -> dict[str, str]:
    """Settings for Spark on this machine alone, which then is quiet and runs this Python."""
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    logging = Path(__file__).with_name("log4j2.properties").as_uri()
    # Beside trials the JVM does little, and its second compiler would optimise that for a minute on their cores. A
    # million rows that Spark reads take as long without it.
    java_options = f"-Dlog4j2.configurationFile={logging} -XX:TieredStopAtLevel=1"
    return {
        **_settings(name),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.driver.extraJavaOptions": java_options,
    }


def _settings(name: str) -> dict[str, str]:
    return {"spark.app.name": f"hpo-spark {name}", "spark.ui.showConsoleProgress": "false"}


def check_java() -> None:
    """Find out whether there is a Java for the pyspark that is installed.

    Raises:
        MissingExtra: If pyspark is not installed.
        EnvironmentProblem: If there is no suitable Java; says what to install.
    """
    try:
        spark = tuple(int(part) for part in version("pyspark").split(".")[:2])
    except PackageNotFoundError:
        raise MissingExtra("The executor 'spark'", "pyspark", "spark") from None
    _check_java(17 if spark >= (4, 0) else 8, needs_vectors=spark >= (4, 3))


def _check_java(minimum: int, needs_vectors: bool) -> None:
    install = f"Install a Java {minimum} or newer (on Debian or Ubuntu: apt-get install openjdk-{minimum}-jre-headless)"
    instead = "or use --executor processes, which needs no Java."
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or shutil.which(java) is None:
        where = f"JAVA_HOME={home} has no bin/java" if home else "no java is on PATH"
        raise EnvironmentProblem(f"Spark needs Java, but {where}. {install} and set JAVA_HOME, {instead}")
    try:
        report = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentProblem(f"Spark needs Java, but {java} cannot be run: {error}. {install}, {instead}") from None
    match = re.search(r'version "(?:1\.)?(\d+)', report)
    if match is None or int(match[1]) < minimum:
        found = f"is version {match[1]}" if match else "does not tell its version"
        raise EnvironmentProblem(f"Spark needs Java {minimum} or newer, but {java} {found}. {install}, {instead}")
    if needs_vectors:
        command = [java, "--list-modules"]
        modules = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
        if "jdk.incubator.vector" not in modules:
            raise EnvironmentProblem(
                f"Spark needs Java's module jdk.incubator.vector, which {java}, a cut-down runtime, lacks. "
                f"{install}, {instead}"
            )
