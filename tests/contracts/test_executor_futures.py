"""What the futures of every executor promise: their states, time-outs, callbacks, and that they can be cancelled."""

import asyncio
import logging
import sys
import threading
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    InvalidStateError,
    as_completed,
    wait,
)

import pytest
from calls import double, fail, give, hold, touch
from kinds import OURS, until

from hpo_spark import SerialExecutor

ours = pytest.mark.parametrize("name", OURS, scope="module")


# States.


def test_a_future_tells_where_its_call_stands(name, executor, gate):
    future = executor.submit(hold, gate.path, "held")
    if name != "serial":
        gate.wait_for(1)
        assert (future.running(), future.done(), future.cancelled()) == (True, False, False)
        assert "running" in repr(future)
        gate.open()
    assert future.result(timeout=60) == "held"
    assert (future.running(), future.done(), future.cancelled()) == (False, True, False)
    assert "finished returned str" in repr(future)
    with pytest.raises(InvalidStateError):
        future.set_result("something else")
    assert future.result() == "held"


def test_a_waiting_future_neither_runs_nor_is_done(name, executor, gate):
    gate.fill(executor)
    last = executor.submit(double, 1)
    if name != "serial":
        assert (last.running(), last.done(), last.cancelled()) == (False, False, False)
    gate.open()
    assert last.result(timeout=60) == 2


def test_an_outcome_can_be_asked_for_again_and_by_many_threads(executor, gate):
    good, bad = executor.submit(hold, gate.path, [1]), executor.submit(double, 13)
    found = []
    threads = [threading.Thread(target=lambda: found.append(good.result(timeout=60))) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join(60)
    assert found == [[1]] * 4
    assert all(each is good.result() for each in found)
    assert bad.exception(timeout=60) is bad.exception()


# Time-outs.


def test_result_and_exception_have_a_timeout(name, executor, gate):
    future = executor.submit(hold, gate.path, 7)
    if name != "serial":
        for seconds in (0, 0.05):
            with pytest.raises(TimeoutError):
                future.result(timeout=seconds)
            with pytest.raises(TimeoutError):
                future.exception(timeout=seconds)
        gate.open()
        assert future.result(timeout=60) == 7
    assert future.result(timeout=0) == 7
    assert future.exception(timeout=0) is None


# Cancelling.


def test_a_waiting_call_can_be_cancelled_and_never_runs(name, executor, gate, tmp_path):
    held = gate.fill(executor)
    last = executor.submit(touch, str(tmp_path / "ran"))
    behind = executor.submit(double, 4)
    if name == "serial":
        assert not last.cancel()
        assert last.result() == str(tmp_path / "ran")
        return
    seen = []
    last.add_done_callback(seen.append)
    assert last.cancel()
    assert last.cancel()
    assert (last.running(), last.done(), last.cancelled()) == (False, True, True)
    assert seen == [last]
    with pytest.raises(CancelledError):
        last.result(timeout=60)
    with pytest.raises(CancelledError):
        last.exception(timeout=60)
    gate.open()
    assert behind.result(timeout=60) == 8
    assert [future.result(timeout=60) for future in held] == list(range(len(held)))
    assert wait([last], timeout=60).done == {last}
    assert list(as_completed([last], timeout=60)) == [last]
    assert not (tmp_path / "ran").exists()
    assert seen == [last]


def test_a_call_that_runs_or_is_over_is_not_cancelled(name, executor, gate):
    running = executor.submit(hold, gate.path, 1)
    gate.wait_for(1)
    assert not running.cancel()
    gate.open()
    assert running.result(timeout=60) == 1
    bad = executor.submit(double, 13)
    assert isinstance(bad.exception(timeout=60), ValueError)
    for future in running, bad:
        assert not future.cancel()
        assert not future.cancelled()
    assert running.result() == 1


def test_cancelling_in_the_middle_of_it_all_loses_nothing(executor):
    futures = [executor.submit(double, 20 + n) for n in range(30)]
    threads = [
        threading.Thread(target=lambda part=part: [each.cancel() for each in part])
        for part in (futures[1::3], futures[::-3])
    ]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        done, left = wait(futures, timeout=60)
    finally:
        sys.setswitchinterval(interval)
    assert (len(done), left) == (30, set())
    for n, future in enumerate(futures):
        assert future.cancelled() or future.result() == 2 * (20 + n)
    assert not any(future.cancelled() for future in futures[0::3])
    assert executor.submit(double, 1).result(timeout=60) == 2


# Callbacks.


def test_callbacks_are_called_once_each_in_their_order_with_the_future(executor, gate):
    seen = []
    future = executor.submit(hold, gate.path, 5)
    for n in range(4):
        future.add_done_callback(lambda done, n=n: seen.append((n, done, done.done(), done.result(timeout=0))))
    gate.open()
    until(lambda: len(seen) == 4)
    assert seen == [(n, future, True, 5) for n in range(4)]


def test_callbacks_are_called_for_calls_that_fail(executor, gate):
    seen = []
    future = executor.submit(fail, KeyError("k"))
    future.add_done_callback(lambda done: seen.append(type(done.exception(timeout=0))))
    until(lambda: seen == [KeyError])


def test_a_callback_of_a_call_that_is_over_is_called_at_once(executor):
    future = executor.submit(double, 4)
    future.result(timeout=60)
    seen = []
    future.add_done_callback(lambda done: seen.append((done, threading.current_thread())))
    assert seen == [(future, threading.current_thread())]


def test_a_callback_that_raises_hurts_neither_the_others_nor_the_executor(executor, gate, caplog):
    def raise_it(_):
        raise RuntimeError("out of a callback")

    seen = []
    futures = [executor.submit(hold, gate.path, n) for n in range(5)]
    for future in futures:
        future.add_done_callback(raise_it)
        future.add_done_callback(seen.append)
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        gate.open()
        assert [future.result(timeout=60) for future in futures] == list(range(5))
        until(lambda: len(seen) == 5)
    assert caplog.text.count("out of a callback") >= 5
    assert executor.submit(double, 1).result(timeout=60) == 2


@ours
def test_a_callback_that_exits_does_not_take_the_executor_with_it(make, gate):
    """One of the standard thread pool takes a thread with it, until none is left."""

    def leave(_):
        raise SystemExit(3)

    executor = make()
    held = gate.fill(executor, 6)
    for future in held:
        future.add_done_callback(leave)
    gate.open()
    assert [future.result(timeout=30) for future in held] == list(range(6))
    assert [executor.submit(double, n).result(timeout=30) for n in range(3)] == [0, 2, 4]


def test_a_callback_can_submit_again(make):
    """With one slot, so that the callback's own thread is all there is."""
    executor = make(slots=1)
    values, over = [], threading.Event()

    def go_on(future):
        values.append(future.result())
        if len(values) == 8:
            over.set()
        else:
            executor.submit(double, values[-1]).add_done_callback(go_on)

    executor.submit(give, 1).add_done_callback(go_on)
    assert over.wait(60)
    assert values == [2**n for n in range(8)]


def test_a_callback_can_cancel_what_waits(name, executor, gate):
    held = gate.fill(executor)
    last = executor.submit(double, 3)
    called = []
    held[0].add_done_callback(lambda _: called.append(last.cancel()))
    gate.open()
    until(lambda: called)
    assert called == [last.cancelled()]
    assert last.cancelled() or last.result(timeout=60) == 6
    assert name == "serial" or [future.result(timeout=60) for future in held] == list(range(len(held)))


# wait


def test_wait_returns_at_the_first_that_is_done(name, executor, gate):
    held, quick = executor.submit(hold, gate.path), executor.submit(double, 2)
    done, left = wait([held, quick], timeout=60, return_when=FIRST_COMPLETED)
    assert (done, left) == (({held, quick}, set()) if name == "serial" else ({quick}, {held}))
    done, left = wait([held, quick], timeout=60, return_when=FIRST_COMPLETED)
    assert quick in done
    gate.open()
    assert wait([held, quick], timeout=60) == ({held, quick}, set())


def test_wait_returns_at_the_first_that_fails(name, executor, gate):
    held, good, bad = executor.submit(hold, gate.path), executor.submit(double, 2), executor.submit(double, 13)
    done, left = wait([held, good, bad], timeout=60, return_when=FIRST_EXCEPTION)
    assert bad in done
    assert (held in left) == (name != "serial")
    gate.open()
    assert wait([held, good], timeout=60, return_when=FIRST_EXCEPTION) == ({held, good}, set())
    assert held in wait([held, bad], timeout=60, return_when=FIRST_EXCEPTION).done


def test_wait_returns_when_all_are_done_failed_or_cancelled(name, executor, gate):
    futures = gate.fill(executor)
    bad, cancelled = executor.submit(double, 13), executor.submit(double, 1)
    assert cancelled.cancel() == (name != "serial")
    timer = threading.Timer(0.1, gate.open)
    timer.start()
    everything = [*futures, bad, cancelled]
    assert wait(everything, timeout=60, return_when=ALL_COMPLETED) == (set(everything), set())
    timer.join()


def test_wait_gives_up_at_its_timeout(name, executor, gate):
    held = gate.fill(executor, 3)
    for seconds in (0, 0.05):
        done, left = wait(held, timeout=seconds)
        assert (done, left) == ((set(held), set()) if name == "serial" else (set(), set(held)))
    gate.open()
    assert wait(held, timeout=60).not_done == set()
    assert wait([], timeout=0) == (set(), set())


def test_wait_takes_a_future_twice_and_futures_of_several_executors(executor, gate):
    future, other = executor.submit(hold, gate.path), SerialExecutor().submit(double, 1)
    gate.open()
    assert wait([future, other, future], timeout=60) == ({future, other}, set())


# as_completed


def test_as_completed_gives_futures_in_the_order_of_their_ends(name, executor, gate):
    held, quick = executor.submit(hold, gate.path, "held"), executor.submit(double, 2)
    found = as_completed([held, quick], timeout=60)
    if name == "serial":
        assert set(found) == {held, quick}
        return
    assert next(found) is quick
    gate.open()
    assert next(found) is held
    with pytest.raises(StopIteration):
        next(found)


def test_as_completed_gives_up_at_its_timeout_and_gives_what_is_done_before(name, executor, gate):
    quick, held = executor.submit(double, 2), executor.submit(hold, gate.path)
    quick.result(timeout=60)
    for seconds in (0, 0.05):
        found = as_completed([held, quick], timeout=seconds)
        if name == "serial":
            assert set(found) == {held, quick}
            continue
        assert next(found) is quick
        with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
            next(found)
    assert list(as_completed([], timeout=0)) == []


def test_as_completed_gives_a_future_once(executor, gate):
    future = executor.submit(hold, gate.path)
    gate.open()
    assert list(as_completed([future] * 3, timeout=60)) == [future]
    assert list(as_completed(iter([future, future]), timeout=0)) == [future]


def test_as_completed_gives_everything_whatever_its_end(name, executor, gate):
    held = gate.fill(executor)
    futures = [executor.submit(double, n) for n in (1, 13, 3)]
    cancelled = futures[2].cancel()
    assert cancelled == (name != "serial")
    found = as_completed([*held, *futures], timeout=60)
    gate.open()
    assert set(found) == {*held, *futures}


# asyncio


def test_asyncio_awaits_calls(executor):
    async def main():
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, double, n) for n in (1, 13, 3)]
        wrapped = asyncio.wrap_future(executor.submit(give, x := [4]))
        return await asyncio.gather(*calls, wrapped, return_exceptions=True), x

    (first, second, third, fourth), x = asyncio.run(main())
    assert (first, third, fourth) == (2, 6, x)
    assert isinstance(second, ValueError)


def test_asyncio_cancels_what_waits_and_gives_up_what_runs(name, executor, gate, tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        held = [loop.run_in_executor(executor, hold, gate.path, n) for n in range(8)]
        last = loop.run_in_executor(executor, touch, str(tmp_path / "ran"))
        if name == "serial":
            return [*await asyncio.gather(*held), await last]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(held[0]), 0.05)
        assert last.cancel()
        with pytest.raises(asyncio.CancelledError):
            await last
        await asyncio.sleep(0)  # it tells the other future only now
        gate.open()
        return await asyncio.gather(*held)

    results = asyncio.run(main())
    assert results[:8] == list(range(8))
    assert executor.submit(double, 1).result(timeout=60) == 2
    assert (tmp_path / "ran").exists() == (name == "serial")
