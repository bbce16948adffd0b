"""What every executor promises, whichever it is; a new one joins by a line in ``EXECUTORS``."""

import functools
import threading
import time
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
    wait,
)

import pytest

from hpo_spark import ProcessExecutor, SerialExecutor, SparkExecutor

EXECUTORS = {
    "serial": lambda spark: SerialExecutor(),
    "processes": lambda spark: ProcessExecutor(2),
    "spark": SparkExecutor,
    "standard": lambda spark: ProcessPoolExecutor(2),
    "threads": lambda spark: ThreadPoolExecutor(2),
}
OURS = ("processes", "spark")


@pytest.fixture(params=EXECUTORS)
def name(request):
    return request.param


@pytest.fixture
def executor(name, spark):
    with EXECUTORS[name](spark) as made:
        yield made


def double(x):
    if x == 13:
        raise ValueError("unlucky", x)
    return 2 * x


def describe(fn, /, *args, **kwargs):
    return fn, args, kwargs


class NeedsArguments(Exception):
    def __init__(self, code, reason):
        super().__init__(reason)
        self.code = code


class CannotPickle:
    def __reduce__(self):
        raise TypeError("this object stays here")


class CannotLoad:
    def __reduce__(self):
        return double, (13,)


def raise_custom(x):
    raise NeedsArguments(x, "custom")


def return_unpicklable(x):
    return CannotPickle()


def exit_quietly(x):
    raise SystemExit(x)


def test_submit_returns_the_result_of_the_call(executor):
    future = executor.submit(describe, 1, 2, fn=3, self=4, timeout=5)
    assert future.result(timeout=60) == (1, (2,), {"fn": 3, "self": 4, "timeout": 5})
    assert future.done()
    assert future.exception() is None


def test_an_exception_arrives_with_its_type_arguments_and_cause(name, executor):
    future = executor.submit(double, 13)
    with pytest.raises(ValueError, match="unlucky") as raised:
        future.result(timeout=60)
    assert raised.value.args == ("unlucky", 13)
    if name in ("processes", "spark", "standard"):
        assert "in double" in str(raised.value.__cause__)


def test_map_keeps_order_and_length(executor):
    assert list(executor.map(double, range(10))) == [2 * x for x in range(10)]
    assert list(executor.map(pow, [2, 3, 4], [5, 6, 7, 8])) == [2**5, 3**6, 4**7]
    assert list(executor.map(double, (x for x in range(3)), chunksize=2)) == [0, 2, 4]
    assert list(executor.map(double, [])) == []


def test_map_raises_at_the_place_of_the_bad_item(executor):
    results = executor.map(double, [1, 2, 13, 3])
    assert [next(results), next(results)] == [2, 4]
    with pytest.raises(ValueError, match="unlucky"):
        next(results)


def test_map_has_a_timeout(name, executor):
    if name == "serial":
        assert list(executor.map(time.sleep, [0.01], timeout=60)) == [None]
        return
    with pytest.raises(TimeoutError):
        list(executor.map(time.sleep, [0, 2], timeout=0.2))


def test_result_has_a_timeout(name, executor):
    if name == "serial":
        assert executor.submit(time.sleep, 0.01).result(timeout=0) is None
        return
    future = executor.submit(time.sleep, 1)
    with pytest.raises(TimeoutError):
        future.result(timeout=0.1)
    assert future.result(timeout=60) is None


def test_wait_and_as_completed(executor):
    futures = [executor.submit(double, x) for x in range(6)]
    done, _ = wait(futures, return_when=FIRST_COMPLETED, timeout=60)
    assert done
    assert sorted(future.result() for future in as_completed(futures, timeout=60)) == [0, 2, 4, 6, 8, 10]


def test_callbacks_are_called_with_the_future(executor):
    called = threading.Event()
    seen = []

    def note(future):
        seen.append(future)
        called.set()

    future = executor.submit(double, 4)
    future.add_done_callback(note)
    assert called.wait(60)
    assert seen == [future]


def test_a_waiting_task_can_be_cancelled(name, executor):
    if name == "serial":
        assert not executor.submit(double, 1).cancel()
        return
    blocking = [executor.submit(time.sleep, 0.5) for _ in range(8)]
    last = executor.submit(double, 1)
    assert last.cancel()
    assert last.cancelled()
    with pytest.raises(CancelledError):
        last.result()
    wait(blocking, timeout=60)


def test_shutdown_waits_and_then_refuses(name, spark):
    executor = EXECUTORS[name](spark)
    futures = [executor.submit(double, x) for x in range(4)]
    executor.shutdown()
    assert [future.result(timeout=0) for future in futures] == [0, 2, 4, 6]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(double, 1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(executor.map(double, [1]))
    executor.shutdown()


def test_shutdown_can_cancel_what_waits(name, spark):
    executor = EXECUTORS[name](spark)
    futures = [executor.submit(time.sleep, 0.3) for _ in range(12)]
    executor.shutdown(wait=True, cancel_futures=True)
    assert all(future.done() for future in futures)
    assert any(future.cancelled() for future in futures) or name == "serial"


def test_shutdown_without_waiting_finishes_what_was_submitted(name, spark):
    executor = EXECUTORS[name](spark)
    future = executor.submit(double, 21)
    executor.shutdown(wait=False)
    assert future.result(timeout=60) == 42


def test_a_custom_exception_is_not_lost(name, executor):
    if name == "standard":
        return  # the standard pool itself breaks on such a class
    with pytest.raises(Exception, match="custom") as raised:
        executor.submit(raise_custom, 7).result(timeout=60)
    assert "NeedsArguments" in f"{type(raised.value).__name__}: {raised.value}"


@pytest.mark.parametrize("argument", [CannotPickle()], ids=["argument"])
def test_a_call_that_cannot_be_sent_says_so(name, executor, argument):
    if name in ("serial", "threads"):
        assert executor.submit(describe, 1, argument).result(timeout=60)[1] == (argument,)
        return
    with pytest.raises(TypeError, match="stays here"):
        executor.submit(describe, 1, argument).result(timeout=60)
    assert executor.submit(double, 1).result(timeout=60) == 2


def test_a_result_that_cannot_be_sent_says_so(name, executor):
    if name in ("serial", "threads"):
        assert isinstance(executor.submit(return_unpicklable, 1).result(timeout=60), CannotPickle)
        return
    with pytest.raises(Exception, match="stays here"):
        executor.submit(return_unpicklable, 1).result(timeout=60)
    with pytest.raises(Exception, match="stays here"):
        list(executor.map(return_unpicklable, [1]))
    assert executor.submit(double, 1).result(timeout=60) == 2


@pytest.mark.parametrize("name", OURS)
def test_one_bad_item_spoils_no_other(executor):
    items = [1, CannotPickle(), 2, CannotLoad(), 3, 13, 4]
    found = []
    for item in items:
        results = executor.map(describe_type, [item, 0])
        try:
            found.append(next(results))
        except TypeError:
            found.append("TypeError")
        except ValueError:
            found.append("ValueError")
    assert found == ["int", "TypeError", "int", "ValueError", "int", "int", "int"]


def describe_type(item):
    return type(item).__name__


@pytest.mark.parametrize("name", OURS)
def test_closures_and_lambdas_travel(executor):
    factor = 3
    assert executor.submit(lambda x: factor * x, 5).result(timeout=60) == 15
    assert list(executor.map(functools.partial(pow, 2), [1, 2, 3])) == [2, 4, 8]


@pytest.mark.parametrize("name", OURS)
def test_a_function_that_cannot_be_sent_names_what_it_captured(executor):
    lock = threading.Lock()

    def objective(x):
        with lock:
            return x

    with pytest.raises(TypeError, match=r"objective.*'lock'"):
        executor.submit(objective, 1).result(timeout=60)
    with pytest.raises(TypeError, match=r"objective.*'lock'"):
        list(executor.map(objective, [1]))


@pytest.mark.parametrize("name", OURS)
def test_an_exit_ends_the_call_and_nothing_else(executor):
    with pytest.raises(SystemExit):
        executor.submit(exit_quietly, 3).result(timeout=60)
    assert executor.submit(double, 1).result(timeout=60) == 2
