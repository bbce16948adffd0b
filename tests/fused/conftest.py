"""One trial process for the tests of a file."""

import pytest

from hpo_spark import ProcessExecutor


@pytest.fixture(scope="module")
def pool():
    with ProcessExecutor(1) as executor:
        yield executor
