"""Ways to run many calls of a function on a few slots: this package's executors, and what else there is on Spark.

Each is a context manager that takes the number of slots and gives a `Stage`. It has a session of its own, and is
written as its documentation or the tutorials write it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from hpo_spark import ConnectExecutor, ProcessExecutor, SparkExecutor
from hpo_spark.remote import open_remote_session
from hpo_spark.session import open_session

Function = Callable[[Any], Any]
Run = Callable[[Function, int], list[Any]]

_GENERATION = 10


@dataclass(frozen=True)
class Stage:
    """What can be timed.

    Attributes:
        run: Calls a function so many times as trials, and returns what the calls returned.
        items: The same for functions so cheap that many calls share a task; None where there is no such way.
    """

    run: Run
    items: Run | None = None


@contextmanager
def spark_submit(slots: int) -> Iterator[Stage]:
    """`SparkExecutor.submit`."""
    with open_session("bench", f"local[{slots}]") as spark, SparkExecutor(spark) as executor:
        yield Stage(_submitter(executor))


@contextmanager
def spark_map(slots: int) -> Iterator[Stage]:
    """`SparkExecutor.map`."""
    with open_session("bench", f"local[{slots}]") as spark, SparkExecutor(spark) as executor:

        def run(function: Function, n: int) -> list[Any]:
            return list(executor.map(function, range(n)))

        yield Stage(run, run)


@contextmanager
def connect_submit(slots: int) -> Iterator[Stage]:
    """`ConnectExecutor.submit`, on a server that is started for it."""
    with open_remote_session("bench", f"local[{slots}]") as spark, ConnectExecutor(spark) as executor:
        yield Stage(_submitter(executor), lambda function, n: list(executor.map(function, range(n))))


@contextmanager
def processes(slots: int) -> Iterator[Stage]:
    """`ProcessExecutor`."""
    with ProcessExecutor(slots) as executor:
        yield Stage(_submitter(executor))


@contextmanager
def spark_trials(slots: int) -> Iterator[Stage]:
    """`SparkTrials` of hyperopt."""
    from hyperopt import SparkTrials, fmin, hp, rand

    with open_session("bench", f"local[{slots}]") as spark:

        def run(function: Function, n: int) -> list[Any]:
            def objective(x: float) -> float:  # it must return a loss
                function(x)
                return 0.0

            trials = SparkTrials(parallelism=slots, spark_session=spark)
            space = hp.uniform("x", 0, 1)
            fmin(objective, space, rand.suggest, max_evals=n, trials=trials, show_progressbar=False, verbose=False)
            return trials.losses()

        yield Stage(run)


@contextmanager
def joblib_spark(slots: int) -> Iterator[Stage]:
    """`Parallel` of joblib on the backend of joblib-spark, which never makes batches by itself."""
    from joblib import Parallel, delayed, parallel_config
    from joblibspark import register_spark

    register_spark()
    with open_session("bench", f"local[{slots}]"), parallel_config("spark", n_jobs=slots):

        def run(function: Function, n: int) -> list[Any]:
            return Parallel()(delayed(function)(number) for number in range(n))

        def items(function: Function, n: int) -> list[Any]:
            return Parallel(batch_size=-(-n // (4 * slots)))(delayed(function)(number) for number in range(n))

        yield Stage(run, items)


@contextmanager
def tutorial(slots: int) -> Iterator[Stage]:
    """The tutorials' ``toolbox.map``, a generation after the other; with ``numSlices`` where items are cheap."""
    with open_session("bench", f"local[{slots}]") as spark:
        context = spark.sparkContext

        def run(function: Function, n: int) -> list[Any]:
            results = []
            for start in range(0, n, _GENERATION):
                population = list(range(start, min(start + _GENERATION, n)))
                results += context.parallelize(population).map(function).collect()
            return results

        def items(function: Function, n: int) -> list[Any]:
            return context.parallelize(list(range(n)), numSlices=4 * slots).map(function).collect()

        yield Stage(run, items)


Opener = Callable[[int], AbstractContextManager[Stage]]


def _submitter(executor: Executor) -> Run:
    def run(function: Function, n: int) -> list[Any]:
        return [future.result() for future in [executor.submit(function, number) for number in range(n)]]

    return run
