"""The engine and the images, made once for all tests here."""

import os
import re

import pytest
from engine import DOCKER, Engine

PLAIN, FULL, SERVERS = "localhost/hpo_spark:plain", "localhost/hpo_spark:test", "localhost/hpo_spark-servers:test"


def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.timeout(1800))  # the first one builds


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """With HPO_SPARK_TEST_IMAGES=FOLDER, what was built stays there for the next time."""
    kept = os.environ.get("HPO_SPARK_TEST_IMAGES")
    made = Engine(kept or tmp_path_factory.mktemp("engine"))
    try:
        yield made
    finally:
        made.close(keep=kept is not None)


@pytest.fixture(scope="session")
def base(engine):
    (name,) = set(re.findall(r"^ARG BASE_IMAGE=(\S+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE))
    engine.make_base(name)


@pytest.fixture(scope="session")
def plain(engine, base):
    """The image without TensorFlow."""
    engine.build(PLAIN, TENSORFLOW="none")
    return PLAIN


@pytest.fixture(scope="session")
def full(engine, base):
    """The image with all defaults."""
    engine.build(FULL)
    return FULL


@pytest.fixture(scope="session")
def servers(engine, base):
    engine.build(SERVERS, "--target", "servers")
    return SERVERS
