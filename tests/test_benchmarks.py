"""The benchmark of searchers: what its figures are made of. The searchers' own figures need its libraries and time."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from benchmarks.searching import fingerprint, results, statistics
from benchmarks.searching.problem import Outcome
from benchmarks.searching.runs import regrets
from benchmarks.searching.workers import Barrier, first_time, mean_curve, simulate
from hpo_spark import Float, SearchSpace
from hpo_spark.searchers import make_searcher

SPACE = SearchSpace(x=Float(0, 1))


@dataclass
class Line:
    """The value itself; it takes ``seconds(x)``."""

    seconds: object
    name: str = "line"
    space = SPACE

    def evaluate(self, params, rng):
        return Outcome(params["x"], params["x"], self.seconds(params["x"]))


def draws(seed=0):
    return make_searcher("random", SPACE, ("minimize",), seed)


def even(x):
    return 1.0


def uneven(x):
    return 0.5 + 10 * x


def test_regret_is_that_of_the_best_so_far():
    values = [proposal.params["x"] for proposal in draws().ask(20)]
    found = regrets(draws(), Line(even), 0, (1, 5, 20))
    assert found == pytest.approx([min(values[:n]) for n in (1, 5, 20)], rel=1e-4)


def test_a_searcher_that_ends_keeps_what_it_has():
    grid = make_searcher({"name": "grid", "points": 3}, SPACE, ("minimize",), 0)
    assert regrets(grid, Line(even), 0, (1, 3, 10)) == [0.0, 0.0, 0.0]


def test_where_all_take_as_long_a_barrier_costs_nothing():
    free = simulate(draws(), Line(even), 0, 4, (8, 20))
    assert free == simulate(Barrier(draws(), 4), Line(even), 0, 4, (8, 20))
    assert free[0] == free[1] == [2.0, 5.0]


def test_where_they_do_not_a_barrier_waits_for_the_slowest():
    seconds = [uneven(proposal.params["x"]) for proposal in draws().ask(20)]
    batches = [max(seconds[start : start + 4]) for start in range(0, 20, 4)]
    waiting = simulate(Barrier(draws(), 4), Line(uneven), 0, 4, (20,))
    assert waiting[:2] == [[pytest.approx(sum(batches), rel=1e-4)]] * 2
    free = simulate(draws(), Line(uneven), 0, 4, (20,))
    assert sum(seconds) / 4 * 0.5 < free[0][0] < waiting[0][0]
    assert free[0][0] <= free[1][0]  # which waits for stragglers


def test_one_worker_does_one_after_the_other():
    alone = simulate(draws(), Line(uneven), 0, 1, (10,))
    seconds = [uneven(proposal.params["x"]) for proposal in draws().ask(10)]
    assert alone[:2] == [[pytest.approx(sum(seconds), rel=1e-4)]] * 2


def test_the_incumbent_over_time():
    changes = [[1.0, 0.5], [4.0, 0.25]]
    assert first_time(changes, 0.5) == 1.0
    assert first_time(changes, 0.3) == 4.0
    assert first_time(changes, 0.1) == float("inf")
    curve = mean_curve([changes, [[2.0, 0.0]]], np.array([1.0, 2.0, 4.0]))
    assert np.isnan(curve[0])
    assert curve[1:].tolist() == [0.25, 0.125]


def test_means_ranks_and_pairs():
    good = {"a": {0: [0.1], 1: [0.3]}, "b": {0: [0.0], 1: [0.2]}}
    bad = {"a": {0: [0.5], 1: [0.6]}, "b": {0: [0.1], 1: [0.4], 2: [9.0]}}
    mean, error = statistics.mean_and_error(good, 0)
    assert mean == pytest.approx(0.15)
    assert error == pytest.approx(0.1 / np.sqrt(2))  # each problem's error is 0.1
    assert statistics.mean_ranks({"good": good, "bad": bad}, 0) == {"good": 1.0, "bad": 2.0}
    found = statistics.paired(good, bad, 0)
    assert found.difference == pytest.approx(-0.25)
    assert found.p == pytest.approx(0.125)  # four of four
    same = statistics.paired(good, good, 0)
    assert (same.difference, same.p) == (0.0, 1.0)


def test_results_are_read_as_they_were_written(tmp_path):
    record = results.Record({"numpy": "2"}, "abc", {"n": [1]}, {"b": {10: [0.5], 2: [0.25]}, "a": {0: [[1.0], [2, 3]]}})
    path = tmp_path / "folder" / "rows.json"
    results.write(path, {"one": record, "other": record})
    assert results.read(path) == {"one": record, "other": record}
    json.loads(path.read_text())
    assert results.read(tmp_path / "none.json") == {}


def test_a_fingerprint_follows_code_and_not_its_text(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text("import json\n\nfrom pack.second import f\n")
    (package / "second.py").write_text('"""Doc."""\ndef f(x):\n    """Doc."""\n    return x  # why\n')
    before = fingerprint.code(["pack.first"])
    fingerprint._source.cache_clear()
    (package / "second.py").write_text('"""Other."""\n\n\ndef f(x):\n    return (x)\n')
    assert fingerprint.code(["pack.first"]) == before
    fingerprint._source.cache_clear()
    (package / "second.py").write_text("def f(x):\n    return x + 1\n")
    assert fingerprint.code(["pack.first"]) != before


def test_what_makes_any_searcher_depends_on_all():
    reached = fingerprint._reached(["hpo_spark.searchers"])
    assert {"hpo_spark.searchers.evolution", "hpo_spark.searchers.parzen", "hpo_spark.space"} <= set(reached)
    assert "hpo_spark.searchers.genetic" not in fingerprint._reached(["hpo_spark.searchers.evolution"])


def test_versions_are_those_of_what_the_code_imports():
    found = fingerprint.versions(["hpo_spark.searchers.evolution"])
    assert {"python", "numpy", "deap"} <= set(found)
    assert "pyspark" not in found
