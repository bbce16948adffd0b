"""What all tests share: a Spark session, a Spark Connect server, and a check that no trial process outlives them."""

import os
import time

# Before anything reads it: tests must not find a dataset of the machine that they run on.
os.environ.pop("HPO_SPARK_DATA", None)
# Hundreds of small searches need no page each: half a second of CPU. The tests of reports ask for theirs.
os.environ["HPO_SPARK_REPORT"] = "0"

import psutil
import pytest
from connect_server import connect_server, connect_session

from hpo_spark.session import open_session


@pytest.fixture(scope="session")
def spark():
    with open_session("tests", "local[2]") as session:
        yield session


@pytest.fixture(scope="session")
def connect_url():
    with connect_server() as url:
        yield url


@pytest.fixture(scope="session")
def remote_spark(connect_url):
    with connect_session(connect_url) as session:
        yield session


@pytest.fixture(scope="session", autouse=True)
def no_process_left():
    yield
    deadline = time.monotonic() + 10
    while (left := _trial_processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def _trial_processes():
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if "hpo_spark.executors.child" in command and process.status() != psutil.STATUS_ZOMBIE:
            found.append(command)
    return found
