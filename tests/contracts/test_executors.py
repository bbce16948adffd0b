"""What every executor promises of `submit` and `map`, whichever it is."""

import functools
import itertools
import math
import os
import threading
import time
from concurrent.futures import Future, wait

import pytest
from calls import Adder, depth_of, describe, double, give, hold, nest, note, numbers, place, recurse, touch
from kinds import ON_SPARK, OURS, REMOTE, until

from hpo_spark import ProcessExecutor, SerialExecutor
from hpo_spark.executors.base import cancel_task, drop_tasks, slots_of, window_of

ours = pytest.mark.parametrize("name", OURS, scope="module")


def test_submit_returns_the_result_of_the_call(executor):
    future = executor.submit(describe, 1, 2, fn=3, self=4, timeout=5)
    assert isinstance(future, Future)
    assert future.result(timeout=60) == (1, (2,), {"fn": 3, "self": 4, "timeout": 5})
    assert future.done()
    assert future.exception() is None


def test_submit_takes_its_function_by_position_only(executor):
    with pytest.raises(TypeError):
        executor.submit(fn=double, x=1)
    with pytest.raises(TypeError):
        executor.submit()


def test_anything_that_can_be_called_can_be_submitted(executor):
    calls = {
        functools.partial(pow, 2): 8,
        abs: 3,
        Adder(4).add: 7,
        Adder.make: Adder(3),
        Adder.negative: -3,
        Adder: Adder(3),
        math.factorial: 6,
    }
    futures = {executor.submit(call, 3): expected for call, expected in calls.items()}
    futures[executor.submit(Adder(1), 3)] = 4
    futures[executor.submit(str.upper, "x")] = "X"
    assert [future.result(timeout=60) for future in futures] == list(futures.values())


def test_a_call_that_python_refuses_fails_in_its_future(executor):
    assert isinstance(executor.submit(double).exception(timeout=60), TypeError)
    assert isinstance(executor.submit(double, 1, 2).exception(timeout=60), TypeError)
    assert isinstance(executor.submit(42, 1).exception(timeout=60), TypeError)


def test_results_keep_their_types_and_nothing_is_taken_for_an_error(executor):
    values = [None, 0, 0.0, -0.0, False, "", b"", (), [], {}, set(), NotImplemented, ..., 2**100, 1j, Adder(2), [[1]]]
    results = [future.result(timeout=60) for future in [executor.submit(give, value) for value in values]]
    assert results == values
    assert [type(result) for result in results] == [type(value) for value in values]
    assert list(map(repr, executor.map(give, values))) == list(map(repr, values))
    assert math.isnan(executor.submit(give, math.nan).result(timeout=60))
    error = executor.submit(give, ValueError("returned, not raised")).result(timeout=60)
    assert isinstance(error, ValueError) and error.args == ("returned, not raised",)
    assert executor.submit(give, KeyError).result(timeout=60) is KeyError


def test_calls_run_where_the_executor_says(name, executor):
    places = {executor.submit(place, n).result(timeout=60) for n in range(4)} | set(executor.map(place, range(4)))
    if name in REMOTE:
        assert os.getpid() not in {process for process, _ in places}
    elif name == "threads":
        assert {process for process, _ in places} == {os.getpid()}
        assert threading.get_ident() not in {thread for _, thread in places}
    else:
        assert places == {(os.getpid(), threading.get_ident())}


def test_as_many_calls_run_at_once_as_there_are_slots(name, executor, gate):
    futures = gate.fill(executor, 6)
    if name == "serial":
        assert slots_of(executor) == 1
        assert gate.begun == 6
        return
    assert slots_of(executor) == 2
    assert window_of(executor) >= 2
    gate.wait_for(2)
    time.sleep(0.2)
    assert gate.begun == 2
    gate.open()
    assert [future.result(timeout=60) for future in futures] == list(range(6))


def test_calls_begin_in_the_order_of_their_submission(make, tmp_path):
    executor = make(slots=1)
    futures = [executor.submit(note, tmp_path / "notes", n) for n in range(12)]
    assert [future.result(timeout=60) for future in futures] == list(range(12))
    assert (tmp_path / "notes").read_text().split() == [str(n) for n in range(12)]


@ours
def test_arguments_are_taken_as_they_are_at_submission(executor, gate):
    held = gate.fill(executor)
    argument = [1]
    future = executor.submit(give, argument)
    argument.append(2)
    gate.open()
    assert future.result(timeout=60) == [1]
    wait(held, timeout=60)


def test_closures_and_lambdas_travel_but_in_the_standard_pool(name, executor):
    factor = 3
    if name == "standard":
        with pytest.raises(Exception, match="pickle"):
            executor.submit(lambda x: factor * x, 5).result(timeout=60)
        return
    assert executor.submit(lambda x: factor * x, 5).result(timeout=60) == 15
    assert list(executor.map(lambda x: factor * x, [1, 2])) == [3, 6]
    assert list(executor.map(functools.partial(pow, 2), [1, 2, 3])) == [2, 4, 8]


def test_ten_megabytes_go_and_come_back(executor):
    blobs = [os.urandom(1 << 20) * 10 for _ in range(2)]
    futures = [executor.submit(give, blob) for blob in blobs]
    results = [*(future.result(timeout=60) for future in futures), *executor.map(give, blobs)]
    same = [result == blob for result, blob in zip(results, blobs * 2, strict=True)]
    assert same == [True] * 4  # so, for pytest would print the blobs


def test_deep_objects_and_deep_recursion_fail_alone_where_they_fail(name, executor):
    depth = 100_000
    if name in REMOTE:
        with pytest.raises(Exception, match="recursion"):
            executor.submit(depth_of, nest(depth)).result(timeout=60)
        with pytest.raises(Exception, match="recursion"):
            executor.submit(nest, depth).result(timeout=60)
    else:
        assert executor.submit(depth_of, nest(depth)).result(timeout=60) == depth
        assert depth_of(executor.submit(nest, depth).result(timeout=60)) == depth
    assert isinstance(executor.submit(recurse, 0).exception(timeout=60), RecursionError)
    assert executor.submit(depth_of, nest(50)).result(timeout=60) == 50


def test_a_generator_is_no_result_but_where_nothing_travels(name, executor):
    if name in REMOTE:
        with pytest.raises(Exception, match="generator"):
            executor.submit(numbers, 0).result(timeout=60)
    else:
        assert list(executor.submit(numbers, 0).result(timeout=60)) == [0, 1, 2]
    assert executor.submit(sum, [1, 2]).result(timeout=60) == 3


def test_many_submissions_from_several_threads_all_end(name, executor):
    """Each callback submits once more: it must never wait for room that only itself could make."""
    count = 8 if name in ON_SPARK else 250  # a task on Spark is 20 to 50 ms
    first, second = {}, {}

    def submit(start):
        for n in range(start, start + count):
            first[n] = executor.submit(give, n)
            first[n].add_done_callback(lambda future, n=n: second.update({n: executor.submit(double, 2 * n)}))

    threads = [threading.Thread(target=submit, args=(100_000 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(first) == 4 * count
    assert all(future.result(timeout=60) == n for n, future in first.items())
    until(lambda: len(second) == len(first))
    assert all(future.result(timeout=60) == 4 * n for n, future in second.items())


def test_two_executors_of_a_kind_work_side_by_side(executor, make):
    other = make()
    futures = [each.submit(double, n) for n in range(4) for each in (executor, other)]
    assert [future.result(timeout=60) for future in futures] == [0, 0, 2, 2, 4, 4, 6, 6]
    other.shutdown()
    assert executor.submit(double, 5).result(timeout=60) == 10


def test_an_executor_outlives_the_thread_that_made_it_and_those_that_submit(make):
    found = []

    def begin():
        executor = make()
        found.append((executor, [executor.submit(double, n) for n in range(3)]))

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join(60)
    ((executor, futures),) = found
    assert [future.result(timeout=60) for future in futures] == [0, 2, 4]
    thread = threading.Thread(target=lambda: futures.append(executor.submit(double, 3)))
    thread.start()
    thread.join(60)
    assert futures[-1].result(timeout=60) == 6
    assert executor.submit(double, 4).result(timeout=60) == 8


def test_a_study_can_drop_and_cancel_with_every_executor(name, executor, gate):
    held = gate.fill(executor)
    waiting = [executor.submit(double, n) for n in range(2)]
    if name == "serial":
        assert drop_tasks(executor, waiting[:1]) == []
        cancel_task(executor, waiting[1])
        assert [future.result() for future in waiting] == [0, 2]
        return
    gate.wait_for(2)
    running = [held[int(value)] for value in gate.which_began]
    assert drop_tasks(executor, [*running, waiting[0]]) == waiting[:1]
    cancel_task(executor, waiting[1])
    gate.open()
    assert all(future.cancelled() for future in waiting)
    assert [future.result(timeout=60) for future in held] == list(range(len(held)))
    cancel_task(executor, held[0])
    assert held[0].result() == 0


@pytest.mark.parametrize("slots", [0, -1, "2"])
def test_impossible_numbers_of_slots_are_refused(name, make, slots):
    if name == "serial":
        with pytest.raises(TypeError):
            SerialExecutor(slots)
        return
    with pytest.raises((ValueError, TypeError)):
        make(slots)


@ours
@pytest.mark.parametrize("slots", [1.5, True, math.nan, math.inf])
def test_our_executors_refuse_what_is_no_number_of_slots(make, slots):
    with pytest.raises((ValueError, TypeError)):
        make(slots)


@pytest.mark.parametrize("cpus", [0, -1, 1.5])
def test_impossible_numbers_of_cores_are_refused(cpus):
    with pytest.raises((ValueError, TypeError)):
        ProcessExecutor(1, cpus=cpus)


def test_every_executor_is_put_to_the_contract():
    import hpo_spark

    offered = {getattr(hpo_spark, each) for each in hpo_spark.__all__ if each.endswith("Executor")}
    made = {SerialExecutor, ProcessExecutor, hpo_spark.SparkExecutor, hpo_spark.ConnectExecutor}
    assert offered == made


# map


def test_map_keeps_order_and_length(executor):
    assert list(executor.map(double, range(10))) == [2 * x for x in range(10)]
    assert list(executor.map(pow, [2, 3, 4], [5, 6, 7])) == [2**5, 3**6, 4**7]
    assert list(executor.map(double, [])) == []
    assert list(executor.map(double)) == []


def test_map_ends_with_the_shortest_iterable(executor):
    assert list(executor.map(pow, [2, 3, 4], [5, 6])) == [2**5, 3**6]
    assert list(executor.map(pow, itertools.count(2), iter([5, 6]))) == [2**5, 3**6]
    assert list(executor.map(pow, [2, 3], [])) == []


@pytest.mark.parametrize("chunksize", [1, 2, 3, 7, 10, 11, 1000])
def test_map_gives_the_same_in_chunks_of_any_size(executor, chunksize):
    assert list(executor.map(pow, range(10), range(10), chunksize=chunksize)) == list(map(pow, range(10), range(10)))
    assert list(executor.map(double, (x for x in range(3)), chunksize=chunksize)) == [0, 2, 4]
    assert list(executor.map(double, [], chunksize=chunksize)) == []


@pytest.mark.parametrize("chunksize", [0, -1])
def test_map_refuses_impossible_chunks_or_does_not_look(name, executor, chunksize):
    if name in (*ON_SPARK, "standard"):
        with pytest.raises(ValueError, match="chunksize"):
            executor.map(double, [1], chunksize=chunksize)
    else:
        assert list(executor.map(double, [1], chunksize=chunksize)) == [2]


def test_map_takes_its_items_at_the_call_and_runs_them_though_nobody_asks(executor, tmp_path):
    taken = []

    def items():
        for n in range(5):
            taken.append(n)
            yield str(tmp_path / str(n))

    results = executor.map(touch, items())
    assert taken == list(range(5))
    until(lambda: len(list(tmp_path.iterdir())) == 5)
    del results
    executor.map(touch, [str(tmp_path / "unasked")])
    until((tmp_path / "unasked").exists)


def test_map_returns_an_iterator_that_ends_once_and_for_all(executor):
    results = executor.map(double, [1])
    assert iter(results) is results
    assert next(results) == 2
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(results)


def test_map_raises_at_the_place_of_the_bad_item(executor):
    results = executor.map(double, [1, 2, 13, 3])
    assert [next(results), next(results)] == [2, 4]
    with pytest.raises(ValueError, match="unlucky"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_map_does_not_end_quietly_when_a_call_raises_stop_iteration(executor):
    results = executor.map(next, [iter([1]), iter([]), iter([2])])
    assert next(results) == 1
    with pytest.raises(RuntimeError, match="StopIteration"):
        next(results)


def test_map_passes_on_what_its_items_raise_while_they_are_taken(executor):
    def items():
        yield 1
        raise KeyError("no second item")

    with pytest.raises(KeyError, match="no second item"):
        executor.map(double, items())
    with pytest.raises(TypeError):
        executor.map(double, 1)
    assert list(executor.map(double, [2])) == [4]


def test_map_has_a_timeout(name, executor, gate):
    results = executor.map(hold, [gate.path] * 3, timeout=0.1)
    if name == "serial":
        assert list(results) == [None] * 3
        return
    with pytest.raises(TimeoutError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)
    gate.open()
    assert list(executor.map(double, [1, 2], timeout=60)) == [2, 4]


def test_maps_timeout_counts_from_its_call_and_may_be_zero(name, executor, gate):
    results, late = executor.map(hold, [gate.path], timeout=0), executor.map(hold, [gate.path], timeout=0.05)
    if name == "serial":
        assert list(results) == list(late) == [None]
    else:
        with pytest.raises(TimeoutError):
            next(results)
        time.sleep(0.05)
        with pytest.raises(TimeoutError):
            next(late)
    assert list(executor.map(double, [], timeout=0)) == []


def test_a_map_that_ran_out_of_time_begins_no_further_call(name, make, gate, tmp_path):
    executor = make()
    held = gate.fill(executor, 2)
    gate.wait_for(2)
    results = executor.map(touch, [str(tmp_path / f"late{n}") for n in range(12)], timeout=0)
    if name == "serial":
        assert len(list(results)) == 12
        return
    with pytest.raises(TimeoutError):
        next(results)
    gate.open()
    assert [future.result(timeout=60) for future in held] == [0, 1]
    executor.shutdown()
    # The standard pool counts what lies in its pipe as running: one more than it has slots, and what was taken out.
    assert len(list(tmp_path.glob("late*"))) <= (3 if name == "standard" else 0)


def test_a_map_can_be_left_early(executor):
    results = executor.map(double, range(20))
    assert next(results) == 0
    results.close()
    with pytest.raises(StopIteration):
        next(results)
    assert list(executor.map(double, [3])) == [6]


def test_maps_of_several_threads_do_not_mix(executor):
    found = {}

    def run(start):
        found[start] = list(executor.map(double, range(start, start + 5)))

    threads = [threading.Thread(target=run, args=(100 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {start: [2 * n for n in range(start, start + 5)] for start in (0, 100, 200, 300)}
