import dataclasses
import time

import pytest

from hpo_spark import FunctionObjective, ProcessExecutor, SparkExecutor
from hpo_spark.preflight import Preflight, Worker, preflight
from hpo_spark.results.tables import workers_table
from hpo_spark.role import is_worker
from hpo_spark.versions import versions


def objective(params):
    return 1.0


class Unloadable:
    def __reduce__(self):
        return _fail, ()

    def __call__(self, params):
        return 1.0


def _fail():
    raise ImportError("not on this worker")


HERE = versions()
WORKER = Worker("there", 1, HERE, 2, "0", 2000.0)


def found(*workers, n_executors=None):
    return Preflight(list(workers), 4, n_executors or len(workers), [], HERE)


def test_workers_answer_and_agree(spark):
    for executor in (ProcessExecutor(2), SparkExecutor(spark)):
        with executor:
            seen = preflight(executor, FunctionObjective(objective))
        assert len(seen.workers) == seen.n_executors == 1
        assert seen.slots == 2
        assert seen.problems == seen.warnings == []
        assert seen.workers[0].versions == HERE
        assert seen.workers[0].cpus == 1
        assert seen.workers[0].free_mb > 100


def test_an_objective_that_cannot_be_loaded_is_a_problem():
    with ProcessExecutor(2) as executor:
        seen = preflight(executor, Unloadable())
    assert len(seen.problems) == 1
    assert "the objective cannot be loaded: ImportError: not on this worker" in seen.problems[0]


class Hangs:
    def __reduce__(self):
        return _hang, ()

    def __call__(self, params):
        return 1.0


def _hang():
    if is_worker():
        time.sleep(300)
    return Hangs()


def test_workers_that_hang_are_given_up_and_free_again(make_executor):
    began = time.monotonic()
    with make_executor() as executor:
        seen = preflight(executor, Hangs(), patience_s=3.0)
        assert "No worker has answered" in seen.problems[0]
        assert executor.submit(abs, -1).result(timeout=60) == 1
    assert time.monotonic() - began < 40


def test_a_long_silence_is_said_to_be_one(monkeypatch, caplog):
    monkeypatch.setattr("hpo_spark.preflight._SILENCE_S", 0.5)
    with ProcessExecutor(1) as executor:
        seen = preflight(executor, Hangs(), patience_s=2.0)
    assert not seen.workers
    assert caplog.text.count("no worker has answered") == 1


@pytest.fixture(params=["processes", "spark"])
def make_executor(request, spark):
    return {"processes": lambda: ProcessExecutor(2), "spark": lambda: SparkExecutor(spark)}[request.param]


def test_versions_are_compared_with_the_drivers():
    other = dataclasses.replace(WORKER, versions={**HERE, "keras": "1.0"})
    assert found(WORKER, other).warnings == [f"there: keras 1.0, driver {HERE['keras']}."]
    assert found(WORKER, other).problems == []
    old = dataclasses.replace(WORKER, versions={**HERE, "python": "3.8.1"})
    assert found(old).problems == [f"there: python 3.8, driver {'.'.join(HERE['python'].split('.')[:2])}."]
    patch = dataclasses.replace(WORKER, versions={**HERE, "python": HERE["python"] + "1"})
    assert found(patch).problems == found(patch).warnings[:0]
    bare = {name: version for name, version in HERE.items() if name not in ("pyspark", "tensorflow")}
    lacking = found(dataclasses.replace(WORKER, versions=bare)).warnings
    assert lacking == [f"there: tensorflow missing, driver {HERE['tensorflow']}."]


def test_executors_that_do_not_answer_are_counted():
    assert found(WORKER, n_executors=3).warnings == ["2 of 3 executor(s) have not answered."]


def test_mismatches_are_named_in_one_table(capsys):
    from rich.console import Console

    other = dataclasses.replace(WORKER, versions={**HERE, "keras": "1.0"}, error="ImportError: no\ntraceback")
    console = Console(width=250)
    console.print(workers_table(found(WORKER, other, n_executors=2)))
    text = capsys.readouterr().out
    assert "2 executor(s), 4 slot(s)" in text
    assert "1.0" in text
    assert "ImportError: no" in text
    assert "traceback" not in text
