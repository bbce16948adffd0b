"""How every executor ends: shut down, forgotten, or overtaken by the end of the program; and what it lets go of."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, as_completed, wait
from concurrent.futures.process import BrokenProcessPool

import pytest
from calls import Adder, CannotPickle, Trouble, double, fail, give, hold_and_die, touch
from kinds import CONCURRENT, OURS, REMOTE, alive, is_back_to, is_gone, until

from hpo_spark import WorkerCrashed

ours = pytest.mark.parametrize("name", OURS, scope="module")
remote = pytest.mark.parametrize("name", REMOTE, scope="module")
concurrent = pytest.mark.parametrize("name", CONCURRENT, scope="module")


@pytest.fixture
def before(executor):
    """What lives when one executor of the kind, and whatever all of them share, has been at work."""
    assert executor.submit(double, 1).result(timeout=60) == 2
    return alive()


# Shutdown.


def test_shutdown_waits_and_then_refuses(name, make, before):
    executor = make()
    futures = [executor.submit(double, n) for n in range(4)]
    executor.shutdown()
    assert [future.result(timeout=0) for future in futures] == [0, 2, 4, 6]
    for call in (double, CannotPickle()):
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(call, 1)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.map(call, [1])
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(give, CannotPickle())
    for options in ({}, {"wait": False}, {"cancel_futures": True}, {"wait": True, "cancel_futures": True}):
        executor.shutdown(**options)
    assert [future.result(timeout=0) for future in futures] == [0, 2, 4, 6]
    assert is_back_to(before)


def test_shutdown_waits_for_a_map_that_nobody_reads(make, tmp_path):
    executor = make()
    results = executor.map(touch, [str(tmp_path / str(n)) for n in range(5)])
    executor.shutdown()
    assert len(list(tmp_path.iterdir())) == 5
    assert len(list(results)) == 5


def test_an_executor_that_had_nothing_to_do_shuts_down(make, before):
    for options in ({}, {"wait": False}, {"cancel_futures": True}):
        make().shutdown(**options)
    assert is_back_to(before)


def test_a_with_block_waits_at_its_end_also_after_an_error(make, gate):
    executor, futures = make(), []
    timer = threading.Timer(0.1, gate.open)

    def leave_a_block():
        with executor as entered:
            assert entered is executor
            futures.extend(gate.fill(executor))
            timer.start()
            raise KeyError("out of the block")

    with pytest.raises(KeyError, match="out of the block"):
        leave_a_block()
    assert [future.result(timeout=0) for future in futures] == list(range(len(futures)))
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(double, 1)
    timer.join()


def test_shutdown_without_waiting_returns_and_finishes_what_was_submitted(name, make, gate, before):
    executor = make()
    futures = [*gate.fill(executor), executor.submit(double, 21)]
    executor.shutdown(wait=False)
    assert any(future.done() for future in futures) == (name == "serial")
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(double, 1)
    gate.open()
    assert [future.result(timeout=60) for future in futures] == [*range(len(futures) - 1), 42]
    assert is_back_to(before)


def test_shutdown_can_wait_after_all(name, make, gate):
    executor = make()
    futures = gate.fill(executor)
    executor.shutdown(wait=False)
    timer = threading.Timer(0.1, gate.open)
    timer.start()
    executor.shutdown(wait=True)
    if name != "standard":  # which does not wait any more
        assert all(future.done() for future in futures)
    assert [future.result(timeout=60) for future in futures] == list(range(len(futures)))
    timer.join()


def test_shutdown_can_cancel_what_waits(name, make, gate, before):
    executor = make()
    held = gate.fill(executor)
    waiting = [executor.submit(double, n) for n in range(12)]
    if name != "serial":
        gate.wait_for(2)
    called = []
    for future in waiting:
        future.add_done_callback(called.append)
    executor.shutdown(wait=False, cancel_futures=True)
    if name != "serial":
        until(lambda: all(future.cancelled() for future in waiting))
        for future in waiting:
            with pytest.raises(CancelledError):
                future.result(timeout=0)
        assert held[-1].cancelled()
    gate.open()
    until(lambda: all(future.done() for future in held))
    ended = [n for n, future in enumerate(held) if not future.cancelled()]
    assert len(ended) >= 2
    assert [held[n].result() for n in ended] == ended
    until(lambda: len(called) == len(waiting))
    assert set(called) == set(waiting)
    executor.shutdown()
    assert is_back_to(before)


def test_shutdown_that_cancels_waits_for_what_runs(name, make, gate):
    executor = make()
    futures = gate.fill(executor, 12)
    if name != "serial":
        gate.wait_for(2)
    timer = threading.Timer(0.1, gate.open)
    timer.start()
    executor.shutdown(wait=True, cancel_futures=True)
    assert all(future.done() for future in futures)
    assert any(future.cancelled() for future in futures) == (name != "serial")
    assert sum(not future.cancelled() for future in futures) >= 2
    timer.join()


def test_a_second_shutdown_can_still_cancel_what_waits(name, make, gate):
    executor = make()
    gate.fill(executor)
    last = executor.submit(double, 4)
    executor.shutdown(wait=False)
    executor.shutdown(wait=False, cancel_futures=True)
    if name in (*OURS, "threads"):
        until(last.cancelled)
    gate.open()
    until(last.done)
    assert last.cancelled() or last.result() == 8


@ours
def test_who_waits_for_what_a_shutdown_cancels_is_told(make, gate):
    """With a standard pool `wait` and `as_completed` hang on what its shutdown has cancelled."""
    executor = make()
    held = gate.fill(executor)
    waiting = [executor.submit(double, n) for n in range(3)]
    found = []
    thread = threading.Thread(target=lambda: found.append(wait(waiting, timeout=20)))
    thread.start()
    gate.wait_for(2)
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    executor.shutdown()
    assert wait([*held, *waiting], timeout=5).not_done == set()
    assert set(as_completed(waiting, timeout=5)) == set(waiting)
    thread.join(60)
    assert found == [(set(waiting), set())]


def test_several_threads_can_shut_down_at_once(name, make, gate):
    count = 1 if name == "standard" else 4  # its shutdown can raise when several call it
    executor = make()
    futures = gate.fill(executor, 4)
    returned = []

    def shut_down():
        executor.shutdown()
        returned.append([future.done() for future in futures])

    threads = [threading.Thread(target=shut_down) for _ in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    gate.open()
    for thread in threads:
        thread.join(60)
    assert returned == [[True] * 4] * count


def test_a_call_that_was_cancelled_just_before_does_not_hold_up_a_shutdown(name, make):
    executor = make(slots=1)
    assert executor.submit(double, 1).result(timeout=60) == 2
    future = executor.submit(double, 2)
    cancelled = future.cancel()
    executor.shutdown()
    assert future.cancelled() == cancelled
    assert cancelled or future.result(timeout=0) == 4


def test_a_callback_can_shut_down(make, gate):
    executor = make()
    futures = gate.fill(executor)
    called = threading.Event()

    def shut_down(_):
        executor.shutdown(wait=False)
        called.set()

    futures[0].add_done_callback(shut_down)
    gate.open()
    assert called.wait(60)
    assert [future.result(timeout=60) for future in futures] == list(range(len(futures)))
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(double, 1)


@pytest.mark.parametrize("cancel", [False, True], ids=["finishing", "cancelling"])
def test_a_submission_during_a_shutdown_is_refused_or_ends(make, cancel):
    executor = make()
    taken, refused = [], []

    def submit(start):
        for n in range(start, start + 8):
            try:
                taken.append((n, executor.submit(double, n)))
            except RuntimeError:
                refused.append(n)

    threads = [threading.Thread(target=submit, args=(1000 * index + 20,)) for index in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(taken) > 4)
    executor.shutdown(cancel_futures=cancel)
    for thread in threads:
        thread.join(60)
    assert len(taken) + len(refused) == 32
    until(lambda: all(future.done() for _, future in taken))
    assert all(future.result() == 2 * n for n, future in taken if not future.cancelled())
    assert cancel or not any(future.cancelled() for _, future in taken)


@concurrent
def test_callbacks_that_submit_again_and_again_end_with_the_shutdown(make):
    executor = make()
    ended, futures = threading.Event(), []

    def go_on(_):
        try:
            future = executor.submit(double, 1)
        except RuntimeError:
            ended.set()
            return
        futures.append(future)
        future.add_done_callback(go_on)

    go_on(None)
    until(lambda: len(futures) > 5)
    executor.shutdown()
    assert ended.wait(60)
    assert all(future.result(timeout=60) == 2 for future in futures)


@ours
def test_a_submission_that_waits_for_room_ends_with_the_shutdown(make, gate):
    """Be there room for them all or not, each is refused, or cancelled, or ends."""
    executor = make()
    held = gate.fill(executor, 2)
    gate.wait_for(2)
    futures, refused = [], []

    def submit():
        try:
            for n in range(8000):
                futures.append(executor.submit(double, 20 + n))
        except RuntimeError:
            refused.append(len(futures))

    thread = threading.Thread(target=submit)
    thread.start()
    count = -1
    while thread.is_alive() and count != len(futures):
        count = len(futures)
        thread.join(0.2)
    executor.shutdown(wait=False, cancel_futures=True)
    thread.join(30)
    assert not thread.is_alive()
    assert (len(futures) == 8000) != bool(refused)
    gate.open()
    assert [future.result(timeout=60) for future in held] == [0, 1]
    until(lambda: all(future.done() for future in futures))


@remote
def test_a_process_that_dies_after_the_shutdown_does_not_hold_it_up(name, make, gate):
    executor = make()
    future = executor.submit(hold_and_die, gate.path)
    gate.wait_for(1)
    executor.shutdown(wait=False)
    gate.open()
    assert isinstance(future.exception(timeout=60), BrokenProcessPool if name == "standard" else WorkerCrashed)
    executor.shutdown()


@remote
def test_a_call_that_cannot_be_sent_does_not_hold_up_a_shutdown(make, before):
    executor = make()
    future = executor.submit(give, CannotPickle())
    executor.shutdown(wait=False)
    assert isinstance(future.exception(timeout=60), TypeError)
    assert is_back_to(before)


# An executor that nobody holds any more.


def test_an_executor_that_is_forgotten_finishes_its_calls_and_ends(name, make, gate, before):
    executor = make()
    reference = weakref.ref(executor)
    futures = gate.fill(executor)
    del executor
    gc.collect()
    gate.open()
    assert [future.result(timeout=60) for future in futures] == list(range(len(futures)))
    assert is_gone(reference)
    assert is_back_to(before)


def test_an_idle_executor_that_is_forgotten_ends(make, before):
    executor = make()
    assert list(executor.map(double, [1, 2])) == [2, 4]
    assert executor.submit(double, 3).result(timeout=60) == 6
    assert isinstance(executor.submit(double, 13).exception(timeout=60), ValueError)
    reference = weakref.ref(executor)
    del executor
    assert is_gone(reference)
    assert is_back_to(before)


# What is let go of.


def test_arguments_are_let_go_of(executor):
    argument = Adder(1)
    reference = weakref.ref(argument)
    future = executor.submit(give, argument)
    assert future.result(timeout=60) == argument
    del future, argument
    assert is_gone(reference)


def test_arguments_are_let_go_of_though_the_future_is_kept(executor):
    argument = Adder(1)
    reference = weakref.ref(argument)
    future = executor.submit(repr, argument)
    assert "Adder" in future.result(timeout=60)
    del argument
    assert is_gone(reference)


def test_items_of_a_map_are_let_go_of(executor):
    items = [Adder(n) for n in range(3)]
    references = [weakref.ref(item) for item in items]
    assert all("Adder" in text for text in executor.map(repr, items))
    del items
    assert all(is_gone(reference) for reference in references)


def test_the_function_of_a_call_that_nobody_waits_for_is_let_go_of(executor):
    owner = Adder(1)
    reference = weakref.ref(owner)
    executor.submit(owner.add, 2)
    del owner
    assert is_gone(reference)


def test_a_closure_is_let_go_of(name, executor):
    def closure_over(adder):
        return lambda x: adder.add(x)

    captured = Adder(1)
    reference = weakref.ref(captured)
    future = executor.submit(closure_over(captured), 2)
    if name == "standard":  # which cannot send it, and keeps what it could not send until it sends something
        assert future.exception(timeout=60) is not None
        executor.submit(double, 1).result(timeout=60)
    else:
        assert future.result(timeout=60) == 3
    del future, captured
    assert is_gone(reference)


def test_results_and_futures_are_let_go_of(executor):
    future = executor.submit(Adder, 1)
    references = [weakref.ref(future.result(timeout=60)), weakref.ref(future)]
    del future
    assert all(is_gone(reference) for reference in references)


def test_exceptions_are_let_go_of(executor):
    future = executor.submit(fail, Trouble("gone"))
    references = [weakref.ref(future.exception(timeout=60)), weakref.ref(future)]
    del future
    assert all(is_gone(reference) for reference in references)


def test_results_of_a_map_are_let_go_of_as_they_are_taken(executor):
    for result in executor.map(Adder, range(3)):
        reference = weakref.ref(result)
        del result
        assert is_gone(reference)


def test_as_completed_lets_go_of_the_futures_that_it_gave(executor):
    futures = [executor.submit(double, n) for n in range(3)]
    for future in as_completed(futures, timeout=60):
        futures.remove(future)
        reference = weakref.ref(future)
        del future
        assert is_gone(reference)


def test_what_was_cancelled_is_let_go_of(name, executor, gate):
    held = gate.fill(executor)
    argument = Adder(1)
    reference = weakref.ref(argument)
    future = executor.submit(give, argument)
    assert future.cancel() == (name != "serial")
    del future, argument
    gate.open()
    assert [each.result(timeout=60) for each in held] == list(range(len(held)))
    assert is_gone(reference)


def test_what_cannot_be_sent_is_let_go_of(name, executor):
    argument = CannotPickle()
    reference = weakref.ref(argument)
    future = executor.submit(repr, argument)
    wait([future], timeout=60)
    del future, argument
    if name == "standard":  # it goes with the next call
        executor.submit(double, 1).result(timeout=60)
    assert is_gone(reference)


# The end of the program.


PROGRAM = """
import atexit, contextlib, os, sys

from calls import touch_after
from kinds import EXECUTORS

name, folder = sys.argv[1:3]
stack = contextlib.ExitStack()
atexit.register(stack.close)
session = None
if name == "spark":
    from hpo_spark.session import open_session
    session = stack.enter_context(open_session("exit", "local[2]"))
elif name == "connect":
    from connect_server import connect_session
    session = stack.enter_context(connect_session(sys.argv[3]))
executor = EXECUTORS[name](session, 2)


def too_late(way, call):
    try:
        print(way, call(), flush=True)
    except RuntimeError as error:
        print(way, type(error).__name__, "cannot schedule new futures after" in str(error), flush=True)


atexit.register(too_late, "submit", lambda: executor.submit(abs, -1).result(timeout=30))
atexit.register(too_late, "map", lambda: list(executor.map(abs, [-1], timeout=30)))
for n in range(6):
    executor.submit(touch_after, os.path.join(folder, f"submit{n}"), 0.1)
if name != "standard":  # which can hang then
    other = EXECUTORS[name](session, 2)
    for n in range(6):
        other.submit(touch_after, os.path.join(folder, f"left{n}"), 0.1)
    other.shutdown(wait=False)
executor.map(touch_after, [os.path.join(folder, f"map{n}") for n in range(4)], [0.4] * 4)
print("over", flush=True)
"""


def test_a_program_that_ends_finishes_what_it_submitted(name, tmp_path, request):
    here = os.path.dirname(__file__)
    paths = os.pathsep.join([here, os.path.dirname(here), *filter(None, [os.environ.get("PYTHONPATH")])])
    server = [request.getfixturevalue("connect_url")] if name == "connect" else []
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, str(tmp_path), *server],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr and (name == "spark" or run.stderr == "")  # Java has its say
    expected = {f"submit{n}" for n in range(6)} | {f"map{n}" for n in range(4)}
    if name != "standard":
        expected |= {f"left{n}" for n in range(6)}
    assert {path.name for path in tmp_path.iterdir()} == expected
    late = ["map [1]", "submit 1"] if name == "serial" else ["map RuntimeError True", "submit RuntimeError True"]
    assert run.stdout.splitlines() == ["over", *late]
