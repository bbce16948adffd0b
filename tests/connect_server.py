"""A Spark Connect server in processes of its own, as somebody else's would be."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pyspark

from hpo_spark.session import local_settings

_CLASS = "org.apache.spark.sql.connect.service.SparkConnectServer"

# Also where a test run is killed, and ends nothing itself.
_DYING_WITH_ITS_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"


@contextlib.contextmanager
def connect_server(master="local[2]", conf=None, env=None):
    """A server for a ``with`` block; gives its URL. Nothing of it is left afterwards."""
    port = _free_port()
    settings = {**local_settings("tests"), "spark.connect.grpc.binding.port": str(port), **(conf or {})}
    options = [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]
    command = [str(Path(pyspark.__file__).parent / "bin" / "spark-submit"), "--master", master, "--class", _CLASS]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", _DYING_WITH_ITS_PARENT, *command, *options, "spark-internal"],
            env={**os.environ, "PYSPARK_PYTHON": sys.executable, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 240
            while not _answers(port):
                if server.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise AssertionError(f"the server does not answer:\n{log.read()}")
                time.sleep(0.1)
            yield f"sc://127.0.0.1:{port}"
        finally:
            _end(server)


def _end(server):
    """In order where it can, since Spark then removes its files."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(server.pid, number)
            server.wait(30)
            return


@contextlib.contextmanager
def connect_session(url):
    """A session of its own, of which the rest of this process knows nothing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        from pyspark.sql.connect.session import SparkSession
    session = SparkSession(connection=url)
    try:
        yield session
    finally:
        session.stop()


def _answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
