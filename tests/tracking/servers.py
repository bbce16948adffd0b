"""A real tracking server of MLflow on loopback, which can be stopped and started again."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import psutil

# It ends when this process does, however that ends: its input is closed then.
_SERVER = """
import os, signal, sys, threading
def watch():
    sys.stdin.read()
    os.killpg(os.getpgid(0), signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
from mlflow.cli import cli
cli(sys.argv[1:])
"""


class TrackingServer:
    """``mlflow server`` with a database of SQLite, in a process group of its own.

    Args:
        folder: For its database and artifacts.
    """

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.process = None

    def start(self):
        words = ["server", "--host", "127.0.0.1", "--port", self.port, "--workers", 1]
        words += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        words += ["--artifacts-destination", self.folder / "artifacts"]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _SERVER, *map(str, words)],
                stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 200
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return
            time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"the tracking server does not start:\n{(self.folder / 'server.log').read_text()}")

    def stop(self):
        """Kill it as a power failure would, with all of its processes."""
        if self.process is None:
            return
        members = [self.process.pid, *(child.pid for child in psutil.Process(self.process.pid).children(True))]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.stdin.close()
        self.process.wait(timeout=10)
        _, left = psutil.wait_procs([psutil.Process(pid) for pid in members if psutil.pid_exists(pid)], timeout=10)
        assert not left
        self.process = None
