"""Each test of the contract runs once for every executor, by name."""

import weakref

import pytest
from kinds import EXECUTORS, Gate


@pytest.hookimpl(tryfirst=True)  # before those that -m does not choose are left out
def pytest_collection_modifyitems(items):
    for item in items:
        if getattr(item, "callspec", None) is not None and item.callspec.params.get("name") == "connect":
            item.add_marker("connect")


@pytest.fixture(scope="module", params=EXECUTORS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def session(name, request):
    fixture = {"spark": "spark", "connect": "remote_spark"}.get(name)
    return None if fixture is None else request.getfixturevalue(fixture)


@pytest.fixture(scope="module")
def executor(name, session):
    """One for all tests that do it no harm."""
    with EXECUTORS[name](session, 2) as made:
        yield made


@pytest.fixture
def make(name, session):
    """Makes executors for one test; it need not shut them down."""
    made = weakref.WeakSet()

    def make(slots=2):
        executor = EXECUTORS[name](session, slots)
        made.add(executor)
        return executor

    yield make
    for executor in made:
        executor.shutdown(wait=True, cancel_futures=True)


@pytest.fixture
def gate(make, name, tmp_path):
    """Closed, but for the executor that would wait before its own gate."""
    made = Gate(tmp_path / "gate")
    if name == "serial":
        made.open()
    yield made
    made.open()
