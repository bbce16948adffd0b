import logging
import sys
import types

import pytest
from servers import TrackingServer

# TensorBoard reads with TensorFlow where that is installed; this is its own word for "without".
sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(autouse=True)
def _log_as_before():
    """What the command line does to the package's logger ends with a test, as its captured streams do."""
    logger = logging.getLogger("hpo_spark")
    handlers, propagate = logger.handlers[:], logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate


@pytest.fixture(scope="session")
def one_server(tmp_path_factory):
    server = TrackingServer(tmp_path_factory.mktemp("server"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(one_server):
    """The tracking server; one that a test has stopped runs again for the next."""
    if one_server.process is None:
        one_server.start()
    return one_server
