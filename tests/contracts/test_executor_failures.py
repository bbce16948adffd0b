"""A call can fail at each hop of its way: whatever fails is that call's outcome, and nobody else's."""

import threading
import traceback
from concurrent.futures import BrokenExecutor, CancelledError
from concurrent.futures.process import BrokenProcessPool

import pytest
from calls import (
    CannotLoad,
    CannotPickle,
    CannotPickleError,
    DiesOnLoad,
    DiesOnPickle,
    Empty,
    ExitsOnLoad,
    ExitsOnPickle,
    ExitsOnPickleError,
    Falsey,
    NeedsArguments,
    NoWords,
    Odd,
    Trouble,
    UnloadableFunction,
    describe,
    die,
    double,
    fail,
    fail_custom,
    fail_for_a_cause,
    give,
    make_one,
    touch,
    type_name,
)
from kinds import MAPS_IN_WORKERS, ON_SPARK, OURS, REMOTE, until

from hpo_spark import WorkerCrashed

ours = pytest.mark.parametrize("name", OURS, scope="module")
remote = pytest.mark.parametrize("name", REMOTE, scope="module")


def goes_on(executor):
    """Whether every slot of an executor still works."""
    return [future.result(timeout=60) for future in [executor.submit(double, n) for n in range(3)]] == [0, 2, 4] and (
        list(executor.map(double, [1, 2, 3])) == [2, 4, 6]
    )


# Running the call.


def test_an_exception_arrives_with_its_type_arguments_and_cause(name, executor):
    future = executor.submit(double, 13)
    with pytest.raises(ValueError, match="unlucky") as raised:
        future.result(timeout=60)
    assert raised.value is future.exception()
    assert raised.value.args == ("unlucky", 13)
    if name in REMOTE:
        assert "in double" in str(raised.value.__cause__)
    assert 'raise ValueError("unlucky", x)' in "".join(traceback.format_exception(raised.value))


def test_an_exception_arrives_with_what_caused_it_at_least_as_text(executor):
    error = executor.submit(fail_for_a_cause, 0).exception(timeout=60)
    assert isinstance(error, RuntimeError)
    assert "the root of it" in "".join(traceback.format_exception(error))


def test_an_exception_keeps_its_attributes_and_notes(executor):
    error = Trouble("noted")
    error.add_note("a note")
    error.code = [7]
    found = executor.submit(fail, error).exception(timeout=60)
    assert (type(found), found.args, found.code, found.__notes__) == (Trouble, ("noted",), [7], ["a note"])
    group = ExceptionGroup("several", [ValueError(1), Trouble(2)])
    found = executor.submit(fail, group).exception(timeout=60)
    assert [type(each) for each in found.exceptions] == [ValueError, Trouble]


@pytest.mark.parametrize("error", [TimeoutError("t"), CancelledError("c"), BrokenExecutor("b"), StopIteration(1)])
def test_what_a_call_raises_is_not_taken_for_the_executors_own(executor, error):
    future = executor.submit(fail, error)
    assert type(future.exception(timeout=60)) is type(error)
    assert future.exception().args == error.args
    assert future.done() and not future.cancelled()
    with pytest.raises(type(error)):
        future.result()
    assert goes_on(executor)


@pytest.mark.parametrize("error", [Falsey("no"), Empty("nothing")])
def test_an_exception_that_is_false_is_an_exception(name, executor, error):
    future = executor.submit(fail, error)
    found = future.exception(timeout=60)
    # Before Python 3.13.4 the standard pool takes it for none, and so does `Future.result`.
    assert type(found) is type(error) or (name == "standard" and found is None)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("stop"), GeneratorExit(), Odd("odd")])
def test_exceptions_that_are_no_errors_end_the_call_and_nothing_else(name, executor, error):
    if name == "serial":  # they are for the program, which is this one
        with pytest.raises(type(error)):
            executor.submit(fail, error)
        with pytest.raises(type(error)):
            executor.map(fail, [error])
    else:
        found = executor.submit(fail, error).exception(timeout=60)
        assert (type(found), found.args) == (type(error), error.args)
        with pytest.raises(type(error)):
            list(executor.map(fail, [error]))
    assert goes_on(executor)


def test_an_exception_without_words_is_an_exception(executor):
    error = executor.submit(fail, NoWords("silent")).exception(timeout=60)
    assert "NoWords" in type(error).__name__ + "".join(map(str, error.args))
    assert goes_on(executor)


def test_an_exception_that_cannot_travel_is_not_lost(name, make):
    executor = make()
    future = executor.submit(fail_custom, 7)
    if name == "standard":  # it breaks on such a class, and says nothing of it
        assert isinstance(future.exception(timeout=60), BrokenProcessPool)
        return
    error = future.exception(timeout=60)
    assert "NeedsArguments: custom" in f"{type(error).__name__}: {error}"
    if name in OURS:
        assert "in fail_custom" in "".join(traceback.format_exception(error))
    else:
        assert isinstance(error, NeedsArguments)
    with pytest.raises(Exception, match="custom"):
        list(executor.map(fail_custom, [7]))
    assert goes_on(executor)


@pytest.mark.parametrize("error", [CannotPickleError, ExitsOnPickleError])
def test_an_exception_that_cannot_be_pickled_is_not_lost(name, executor, error):
    def fail_so(_):
        raise error("from there")

    if name == "standard":
        assert executor.submit(fail_so, 0).exception(timeout=60) is not None  # it cannot even send the function
        return
    for future in executor.submit(fail_so, 0), executor.submit(fail_so, 1):
        found = future.exception(timeout=60)
        assert f"{error.__name__}: from there" in f"{type(found).__name__}: {found}"
    with pytest.raises(Exception, match="from there"):
        list(executor.map(fail_so, [0]))
    assert goes_on(executor)


@ours
def test_an_exception_of_a_class_that_only_the_call_knows_is_not_lost(executor):
    def fail_so(_):
        class Local(Exception):
            pass

        raise Local("known there")

    error = executor.submit(fail_so, 0).exception(timeout=60)
    assert "Local: known there" in f"{type(error).__name__}: {error}"


# Pickling the call.


def test_a_call_that_cannot_be_sent_says_so(name, executor):
    if name not in REMOTE:
        argument = CannotPickle()
        assert executor.submit(describe, 1, argument).result(timeout=60)[1] == (argument,)
        return
    with pytest.raises(TypeError, match="stays here"):
        executor.submit(describe, 1, CannotPickle()).result(timeout=60)
    with pytest.raises(TypeError, match="stays here"):
        executor.submit(describe, 1, key=CannotPickle()).result(timeout=60)
    with pytest.raises(TypeError, match="stays here"):
        list(executor.map(give, [CannotPickle()]))
    assert goes_on(executor)


@ours
def test_a_function_that_cannot_be_sent_names_what_it_captured(executor):
    lock = threading.Lock()

    def objective(x):
        with lock:
            return x

    with pytest.raises(TypeError, match=r"objective.*'lock'"):
        executor.submit(objective, 1).result(timeout=60)
    with pytest.raises(TypeError, match=r"objective.*'lock'"):
        list(executor.map(objective, [1]))
    assert goes_on(executor)


@ours
def test_an_exit_while_a_call_is_pickled_is_not_swallowed(executor):
    """It is of the program's own thread, as Ctrl-C would be there. The standard pool hangs on it."""
    with pytest.raises(SystemExit):
        executor.submit(give, ExitsOnPickle()).result(timeout=60)
    with pytest.raises(SystemExit):
        list(executor.map(give, [ExitsOnPickle()]))
    assert goes_on(executor)


@ours
def test_an_executor_and_a_future_are_no_arguments(executor):
    with pytest.raises(TypeError, match="cannot be sent"):
        executor.submit(give, executor).result(timeout=60)
    with pytest.raises(TypeError, match="cannot be sent"):
        executor.submit(give, executor.submit(double, 1)).result(timeout=60)


# Loading the call on the worker.


@pytest.mark.parametrize(("cls", "error"), [(CannotLoad, ValueError), (ExitsOnLoad, SystemExit)])
def test_a_call_that_cannot_be_loaded_says_so(name, make, cls, error):
    executor = make()
    if name == "standard":
        assert isinstance(executor.submit(give, cls()).exception(timeout=60), BrokenProcessPool)
        return
    if name not in REMOTE:
        assert isinstance(executor.submit(give, cls()).result(timeout=60), cls)
        return
    assert isinstance(executor.submit(type_name, cls()).exception(timeout=60), error)
    with pytest.raises(error):
        list(executor.map(type_name, [cls()]))
    assert goes_on(executor)


@ours
def test_a_function_that_cannot_be_loaded_says_so(executor):
    for _ in range(2):
        assert isinstance(executor.submit(UnloadableFunction(), 1).exception(timeout=60), ValueError)
    with pytest.raises(ValueError, match="unlucky"):
        list(executor.map(UnloadableFunction(), [1]))
    assert goes_on(executor)


# Pickling the result.


def test_a_result_that_cannot_be_sent_says_so(name, executor):
    if name not in REMOTE:
        assert isinstance(executor.submit(make_one, CannotPickle).result(timeout=60), CannotPickle)
        return
    with pytest.raises(Exception, match="stays here"):
        executor.submit(make_one, CannotPickle).result(timeout=60)
    with pytest.raises(Exception, match="stays here"):
        list(executor.map(make_one, [CannotPickle]))
    assert goes_on(executor)


@remote
def test_an_exit_while_a_result_is_pickled_is_the_calls_outcome(executor):
    assert isinstance(executor.submit(make_one, ExitsOnPickle).exception(timeout=60), SystemExit)
    with pytest.raises(SystemExit):
        list(executor.map(make_one, [ExitsOnPickle]))
    assert goes_on(executor)


# Loading the result on the driver.


@pytest.mark.parametrize(("cls", "error"), [(CannotLoad, ValueError), (ExitsOnLoad, SystemExit)])
def test_a_result_that_cannot_be_loaded_says_so(name, make, cls, error):
    executor = make()
    future = executor.submit(make_one, cls)
    if name == "standard":
        assert isinstance(future.exception(timeout=60), BrokenProcessPool)
        return
    if name not in REMOTE:
        assert isinstance(future.result(timeout=60), cls)
        return
    futures = [executor.submit(make_one, cls) for _ in range(5)]
    assert all(isinstance(each.exception(timeout=60), error) for each in [future, *futures])
    with pytest.raises(error):
        list(executor.map(make_one, [cls]))
    assert goes_on(executor)


# A process that dies on the way.


@pytest.mark.parametrize(
    ("call", "argument"),
    [(die, 0), (give, DiesOnLoad()), (make_one, DiesOnPickle)],
    ids=["running", "loading the call", "pickling the result"],
)
@remote
def test_a_process_that_dies_takes_no_other_call_with_it(name, make, call, argument):
    executor = make()
    futures = [executor.submit(double, 1), executor.submit(call, argument), executor.submit(double, 2)]
    if name == "standard":  # it does, and stays broken
        assert isinstance(futures[1].exception(timeout=60), BrokenProcessPool)
        with pytest.raises(BrokenProcessPool):
            executor.submit(double, 1)
        return
    assert isinstance(futures[1].exception(timeout=60), WorkerCrashed)
    assert [futures[0].result(timeout=60), futures[2].result(timeout=60)] == [2, 4]
    if name not in MAPS_IN_WORKERS:
        with pytest.raises(WorkerCrashed):
            list(executor.map(call, [argument]))
    assert goes_on(executor)


@ours
def test_a_process_that_dies_over_a_large_argument_does_not_hang(executor):
    large = bytes(10 << 20)
    futures = [executor.submit(describe, DiesOnLoad(), large), executor.submit(describe, large, DiesOnLoad())]
    assert all(isinstance(future.exception(timeout=60), WorkerCrashed) for future in futures)
    assert goes_on(executor)


@ours
def test_one_bad_item_spoils_no_other(name, executor, tmp_path):
    items = {1: None, CannotPickle(): TypeError, 2: None, CannotLoad(): ValueError, ExitsOnLoad(): SystemExit, 3: None}
    futures = {executor.submit(type_name, item): expected or type(None) for item, expected in items.items()}
    assert all(isinstance(future.exception(timeout=60), expected) for future, expected in futures.items())
    for bad in (CannotPickle(), CannotLoad(), ExitsOnLoad()):
        path = tmp_path / type(bad).__name__
        results = executor.map(touch, [str(path), bad, f"{path}-behind"], chunksize=3)
        assert next(results) == str(path)
        with pytest.raises((TypeError, ValueError, SystemExit)):
            next(results)
        if name in ON_SPARK:  # the standard library's map cancels what has not begun
            until((tmp_path / f"{path}-behind").exists)
