"""The Spark Connect session of a command: a client of a server that runs, or of one that is started for it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from hpo_spark.errors import ConfigError, EnvironmentProblem, MissingExtra
from hpo_spark.executors.spark_errors import first_lines
from hpo_spark.redaction import redact
from hpo_spark.session import check_java, local_settings

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

__all__ = ["open_remote_session"]

_REMOTE = "SPARK_REMOTE"
# What pyspark sets for the whole process when it makes a session.
_MODE = "SPARK_CONNECT_MODE_ENABLED"
_PACKAGES = {
    "pyspark": "pyspark",
    "grpc": "grpcio",
    "grpc_status": "grpcio-status",
    "google.rpc": "googleapis-common-protos",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "zstandard": "zstandard",
}
# Seconds that a server gets to answer at first.
_PATIENCE_S = 30.0
# Retries of a request, with growing pauses: a bit more than a minute in all, instead of pyspark's ten.
_MAX_RETRIES = 6


@contextmanager
def open_remote_session(name: str, remote: str | None) -> Iterator[SparkSession]:
    """A session of Spark Connect for a ``with`` block; stopped afterwards only if it was made here.

    Args:
        name: Shown in Spark's pages, where a server is started.
        remote: URL of the server, ``sc://HOST:PORT``, or ``local[N]`` to start one here; None for ``$SPARK_REMOTE``.

    Raises:
        ConfigError: If there is no URL, or it makes no sense.
        MissingExtra: If the client's packages are not installed.
        EnvironmentProblem: If pyspark is too old, or the server does not answer.
    """
    _check_packages()
    from pyspark.sql import SparkSession as Sessions

    remote = remote or os.environ.get(_REMOTE)
    if remote is None:
        raise ConfigError(
            f"executor: connect needs the URL of a Spark Connect server: remote: sc://HOST:15002 in the study file, "
            f"--set remote=sc://HOST:15002, or the variable {_REMOTE}."
        )
    with _importing():
        from pyspark.sql.connect.client.retries import DefaultPolicy
        from pyspark.sql.connect.session import SparkSession
    if (found := SparkSession.getActiveSession()) is not None:
        yield found
        return
    had_mode = _MODE in os.environ
    builder = Sessions.builder.remote(remote)
    if remote.startswith("sc://"):
        _check_server(remote)
    elif remote.startswith("local"):
        check_java()
        for key, value in local_settings(name).items():
            builder = builder.config(key, value)
    else:
        raise ConfigError(f"remote: expected sc://HOST:PORT or local[N], got {redact(remote)!r}.")
    try:
        session = builder.getOrCreate()
        session.client.set_retry_policies([DefaultPolicy(max_retries=_MAX_RETRIES)])
    except Exception as error:  # pyspark's, of any kind
        raise EnvironmentProblem(f"No Spark Connect session with {redact(remote)}: {first_lines(error)}") from error
    try:
        yield session
    finally:
        session.stop()
        if not had_mode:
            os.environ.pop(_MODE, None)


def _check_packages() -> None:
    for module, package in _PACKAGES.items():
        parent = module.partition(".")[0]
        if find_spec(parent) is None or find_spec(module) is None:
            raise MissingExtra("The executor 'connect'", package, "connect")
    try:
        found = version("pyspark")
    except PackageNotFoundError:  # a client of its own, such as Databricks'
        return
    if int(found.partition(".")[0]) < 4:
        raise EnvironmentProblem(f"The executor 'connect' needs pyspark 4 or newer, got {found}.")


@contextmanager
def _importing() -> Iterator[None]:
    """Without what pyspark says of a pandas that is newer than it knows: none of its pandas parts is used here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        yield


def _check_server(remote: str) -> None:
    """See that somebody answers: a client would try for ten minutes."""
    import grpc
    from pyspark.sql.connect.client import DefaultChannelBuilder

    try:
        channel = DefaultChannelBuilder(remote).toChannel()
    except Exception as error:  # pyspark's, about the URL
        raise ConfigError(f"remote: {redact(remote)} is no URL of a server: {first_lines(error)}") from None
    try:
        grpc.channel_ready_future(channel).result(timeout=_PATIENCE_S)
    except grpc.FutureTimeoutError:
        raise EnvironmentProblem(
            f"No Spark Connect server has answered at {redact(remote)} within {_PATIENCE_S:g} s: does it run, and can "
            "its port be reached from here? One of your own is started by start-connect-server.sh in Spark's sbin."
        ) from None
    finally:
        channel.close()
