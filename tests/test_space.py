import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_spark import Choice, Float, Int, SearchSpace


def make_space():
    return SearchSpace(
        momentum=Float(0.0, 0.99, when={"optimizer": "sgd"}),
        optimizer=Choice(["sgd", "adam"]),
        nesterov=Choice([True, False], when={"optimizer": ["sgd"], "layers": [2, 3]}),
        layers=Int(1, 3),
        damping=Float(0.0, 1.0, when={"nesterov": True}),
        rate=Float(1e-4, 1e-1, log=True),
    )


genes = st.lists(st.floats(0, 1), min_size=6, max_size=6)


@given(genes=genes)
def test_decoded_genes_are_valid_and_survive_encoding(genes):
    space = make_space()
    params = space.decode(genes)
    assert space.validate(params) == params
    again = space.decode(space.encode(params))
    assert list(again) == list(params) == [name for name in space if name in params]
    assert all(again[name] == pytest.approx(value) for name, value in params.items())
    assert all(0 <= gene <= 1 for gene in space.encode(params))


@given(genes=genes)
def test_a_conditional_parameter_is_there_exactly_when_its_parents_say_so(genes):
    params = make_space().decode(genes)
    assert ("momentum" in params) == (params["optimizer"] == "sgd")
    assert ("nesterov" in params) == (params["optimizer"] == "sgd" and params["layers"] > 1)
    assert ("damping" in params) == (params.get("nesterov") is True)


@given(genes=genes)
def test_a_study_file_form_gives_the_same_space(genes):
    space = make_space()
    again = SearchSpace.from_dict(space.to_dict())
    assert again == space
    assert again.decode(genes) == space.decode(genes)


def test_samples_follow_the_seed_and_are_plain():
    space = make_space()
    assert space.sample(7) == space.sample(random.Random(7))
    params = space.sample(np.random.default_rng(0))
    assert all(type(value) in (int, float, str, bool) for value in params.values())


def test_any_name_will_do():
    space = SearchSpace(**{"self": Int(1, 3), "learning rate": Float(0, 1), "rng": Choice([1, 2])})
    assert space.names == ["self", "learning rate", "rng"]
    assert set(space.sample(0)) == {"self", "learning rate", "rng"}


def test_numpy_values_become_plain():
    space = SearchSpace(units=Int(1, 9), rate=Float(0, 1), kind=Choice(["a", "b"]))
    params = space.validate({"units": np.int64(3), "rate": np.float32(0.5), "kind": np.str_("a")})
    assert params == {"units": 3, "rate": 0.5, "kind": "a"}
    assert [type(value) for value in params.values()] == [int, float, str]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"a": Int(1, 2, when={"b": 1})}, ["'a'", "names no parameter", "{'b': 1}"]),
        ({"a": Int(1, 2, when={"a": 1})}, ["'a'", "circle"]),
        (
            {"a": Int(1, 2, when={"b": 1}), "b": Int(1, 2, when={"c": 1}), "c": Int(1, 2, when={"a": 1})},
            ["circle", "{'b': 1}", "{'c': 1}", "{'a': 1}"],
        ),
        ({"a": Int(1, 2, when={"b": 3}), "b": Int(1, 2)}, ["'a'", "'b'", "3"]),
        ({"a": Int(1, 2, when={"b": []}), "b": Int(1, 2)}, ["'a'", "no value"]),
        ({"a": Int(1, 2, when={"b": 0.5}), "b": Float(0, 1)}, ["'a'", "continuous"]),
        ({"a": Int(1, 2, when="b"), "b": Int(1, 2)}, ["'a'", "when='b'"]),
        ({"a": [1, 2]}, ["'a'", "[1, 2]"]),
        ({}, ["at least one"]),
    ],
)
def test_bad_conditions_are_refused(parameters, words):
    with pytest.raises(ValueError, match=".") as raised:
        SearchSpace(**parameters)
    assert all(word in str(raised.value) for word in words)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"optimizer": "adam", "layers": 1}, ["'rate'", "missing"]),
        ({"optimizer": "adam", "layers": 1, "rate": 0.01, "momentum": 0.5}, ["'momentum'", "optimizer"]),
        ({"optimizer": "adam", "layers": 4, "rate": 0.01}, ["'layers'", "4"]),
        ({"optimizer": "adam", "layers": 1.5, "rate": 0.01}, ["'layers'", "1.5"]),
        ({"optimizer": "adam", "layers": 1, "rate": float("nan")}, ["'rate'", "nan"]),
        ({"optimizer": "adam", "layers": 1, "rate": 0.01, "units": 3}, ["'units'", "Unknown"]),
        ({"optimizer": "lbfgs", "layers": 1, "rate": 0.01}, ["'optimizer'", "lbfgs"]),
    ],
)
def test_configurations_outside_the_space_are_refused(params, words):
    with pytest.raises(ValueError, match=".") as raised:
        make_space().validate(params)
    assert all(word in str(raised.value) for word in words)


@pytest.mark.parametrize("genes", [[0.5], [0.5] * 5 + [1.1], [0.5] * 5 + [float("nan")]])
def test_bad_genes_are_refused(genes):
    with pytest.raises(ValueError, match="gene"):
        make_space().decode(genes)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"float": [1, 2, 3]}, "low, high"),
        ({"float": 1}, "low, high"),
        ({"int": [1, 2], "float": [1, 2]}, "exactly one"),
        ({"log": True}, "exactly one"),
        ({"int": [1, 5], "lgo": True}, "'lgo'"),
        ([1, 2], "mapping"),
    ],
)
def test_bad_forms_are_refused(spec, words):
    with pytest.raises(ValueError, match=words) as raised:
        SearchSpace.from_dict({"units": spec})
    assert "'units'" in str(raised.value)


def test_cardinality_counts_levels():
    assert SearchSpace(a=Int(1, 3), b=Choice([1, 2])).cardinality == 6
    assert make_space().cardinality is None
