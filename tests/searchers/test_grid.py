import itertools
import time

import pytest

from hpo_spark import Choice, ConfigError, Float, Int, SearchSpace
from hpo_spark.searchers import make_searcher

TUTORIAL = SearchSpace(
    layers=Int(1, 3), units=Int(5, 15, step=5), optimizer=Choice(["sgd", "adam"]), rate=Float(1e-3, 1e-1, log=True)
)


def grid(space, **options):
    return make_searcher({"name": "grid", **options}, space, ("maximize",), 0)


def all_of(searcher):
    return [proposal.params for proposal in searcher.ask(10_000)]


def test_every_combination_comes_once_the_last_parameter_fastest():
    found = all_of(grid(TUTORIAL, points=3))
    rates = [1e-3, 1e-2, 1e-1]
    expected = itertools.product([1, 2, 3], [5, 10, 15], ["sgd", "adam"], rates)
    assert [tuple(params.values())[:3] for params in found] == [combination[:3] for combination in expected]
    assert [params["rate"] for params in found[:3]] == pytest.approx(rates)
    assert len(found) == 54


def test_points_are_given_by_name_as_a_number_or_a_list():
    found = all_of(grid(TUTORIAL, points={"rate": [0.02, 0.01], "units": 2, "layers": [3]}))
    assert len(found) == 1 * 2 * 2 * 2
    assert {params["units"] for params in found} == {5, 15}
    assert [params["rate"] for params in found[:2]] == [0.02, 0.01]
    assert {params["layers"] for params in found} == {3}


def test_a_conditional_parameter_varies_only_where_it_is_active():
    space = SearchSpace(
        momentum=Float(0.0, 0.9, when={"optimizer": "sgd"}),
        optimizer=Choice(["adam", "sgd"]),
        nesterov=Choice([False, True], when={"optimizer": "sgd", "layers": [2, 3]}),
        layers=Int(1, 3),
    )
    found = all_of(grid(space, points=2))
    assert len(found) == len({space.key(params) for params in found})
    by_hand = [
        {"optimizer": optimizer, "layers": layers, **momentum, **nesterov}
        for optimizer, layers in itertools.product(["adam", "sgd"], [1, 3])
        for momentum in ([{"momentum": 0.0}, {"momentum": 0.9}] if optimizer == "sgd" else [{}])
        for nesterov in ([{"nesterov": False}, {"nesterov": True}] if (optimizer, layers) == ("sgd", 3) else [{}])
    ]
    assert {space.key(params) for params in found} == {space.key(params) for params in by_hand}


def test_a_large_grid_costs_nothing_before_it_is_asked_for():
    space = SearchSpace(**{f"x{n}": Float(0.0, 1.0) for n in range(9)})
    began = time.process_time()
    searcher = grid(space, points=10)
    first = searcher.ask(3)
    assert time.process_time() - began < 1
    assert [proposal.params["x8"] for proposal in first] == pytest.approx([0, 1 / 9, 2 / 9])


def test_what_is_known_is_left_out():
    space = SearchSpace(a=Choice([1, 2]), b=Choice([1, 2]))
    searcher = grid(space)
    searcher.history.expect({"a": 1, "b": 2})
    assert all_of(searcher) == [{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 2, "b": 2}]
    assert searcher.ends


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ({"speed": 3}, "'speed' is no parameter"),
        ({"rate": []}, "'rate' needs at least one value"),
        ({"rate": [0.5]}, "'rate' must be between"),
        ({"layers": [1.5]}, "'layers' must be a whole number"),
        (0, "whole number above 0"),
        ("3", "whole number above 0"),
    ],
)
def test_bad_points_are_refused_with_a_sentence(points, words):
    with pytest.raises(ConfigError, match=words):
        grid(TUTORIAL, points=points)
