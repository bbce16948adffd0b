import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_spark import Choice, Float, Int, SearchSpace

genes = st.floats(0, 1)
PARAMETERS = [
    Float(-3.0, 7.5),
    Float(1e-4, 1e-1, log=True),
    Float(0.1, 1.0, step=0.1),
    Float(0.5, 64.0, log=True, step=0.5),
    Float(-1.0, 1.0, prior="normal", mean=0.2, sd=0.5),
    Float(prior="normal", mean=10.0, sd=2.0),
    Float(1e-5, 1.0, prior="lognormal", mean=-4.0, sd=1.0),
    Float(prior="lognormal", mean=0.0, sd=1.0),
    Float(0.0, 1.0, prior="normal", mean=0.1, sd=0.05),
    Float(0.0, 1.0, prior="normal", mean=0.9, sd=0.05, step=0.1),
    Float(1e-4, 1e3, prior="lognormal", mean=-3.0, sd=1.0),
    Float(0, 1 / 3, step=1 / 15),
    Float(0.0, 10.0, prior="normal", mean=5.0, sd=2.0, step=0.5),
    Int(1, 3),
    Int(-7, 100),
    Int(1, 1024, log=True),
    Int(16, 512, step=16),
    Int(0, 10**12),
    Choice(["sgd", "adam", None, True, 1, 1.5, [64, 32]]),
    Choice([3], ordered=True),
]


@pytest.mark.parametrize("parameter", PARAMETERS, ids=repr)
@given(gene=genes)
def test_every_gene_decodes_into_the_space_and_back(parameter, gene):
    parameter.check()
    value = parameter.decode(gene)
    assert parameter.coerce(value) == value
    again = parameter.decode(parameter.encode(value))
    if isinstance(value, float):
        assert math.isclose(again, value, rel_tol=1e-9, abs_tol=1e-9)
    else:
        assert again == value
        assert type(again) is type(value)


@pytest.mark.parametrize("parameter", [p for p in PARAMETERS if not isinstance(p, Choice)], ids=repr)
@given(pair=st.tuples(genes, genes))
def test_decoding_keeps_the_order_of_numbers(parameter, pair):
    low, high = sorted(pair)
    assert parameter.decode(low) <= parameter.decode(high)


@pytest.mark.parametrize("parameter", [Float(1e-4, 1e-1, log=True), Float(-3.0, 7.5), Int(5, 15)], ids=repr)
def test_the_ends_of_the_gene_are_the_bounds(parameter):
    assert (parameter.decode(0.0), parameter.decode(1.0)) == (parameter.low, parameter.high)


@pytest.mark.parametrize("parameter", [Int(1, 4), Int(2, 8, step=2), Choice(["abcd", *list("xyz")])], ids=repr)
def test_levels_are_drawn_evenly(parameter):
    rng = random.Random(0)
    counts = Counter(parameter.decode(rng.random()) for _ in range(8000))
    assert len(counts) == parameter.levels
    assert all(abs(count - 8000 / parameter.levels) < 250 for count in counts.values())


def test_a_prior_draws_around_its_mean():
    rng = random.Random(0)
    normal = Float(-10, 30, prior="normal", mean=4.0, sd=2.0)
    values = sorted(normal.decode(rng.random()) for _ in range(4000))
    assert abs(values[2000] - 4.0) < 0.2
    assert abs((values[3365] - values[635]) / 2 - 2.0) < 0.2  # the middle 68 % span two standard deviations
    lognormal = Float(prior="lognormal", mean=1.0, sd=0.5)
    values = sorted(lognormal.decode(rng.random()) for _ in range(4000))
    assert abs(math.log(values[2000]) - 1.0) < 0.05


def test_a_step_gives_the_numbers_that_one_would_write():
    assert sorted({Float(0.1, 0.5, step=0.1).decode(i / 99) for i in range(100)}) == [0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        (Float(0.1, 0.001), ["low must be below high", "low=0.1", "high=0.001"]),
        (Float(1.0, 1.0), ["low=1.0", "high=1.0"]),
        (Int(3, 3), ["low=3", "high=3"]),
        (Float(0.0, 1.0, log=True), ["log=True", "low=0.0"]),
        (Int(-1, 5, log=True), ["log=True", "low=-1"]),
        (Float(0.0, math.inf), ["high=inf"]),
        (Float(math.nan, 1.0), ["low=nan"]),
        (Float("0", 1.0), ["low='0'"]),
        (Float(True, 2.0), ["low=True"]),
        (Int(1.5, 3), ["low=1.5"]),
        (Int(0, 2**60), ["2**50", f"high={2**60}"]),
        (Int(2**60, 2**60 + 10), ["2**50", f"low={2**60}"]),
        (Float(-1e308, 1e308), ["finite"]),
        (Choice([{0: 1.0}, {1: 1.0}]), ["the key 0"]),
        (Float(0.0, 1.0, step=0.0), ["step=0.0"]),
        (Float(0.0, 1.0, step=2.0), ["step=2.0"]),
        (Int(1, 9, step=-1), ["step=-1"]),
        (Float(0.0, 1.0, log="yes"), ["log='yes'"]),
        (Float(0.0), ["low=0.0", "high=None"]),
        (Float(0.0, 1.0, mean=0.5), ["mean=0.5"]),
        (Float(0.0, 1.0, prior="gamma", mean=0, sd=1), ["prior='gamma'"]),
        (Float(0.0, 1.0, prior="normal", mean=0.5), ["sd=None"]),
        (Float(0.0, 1.0, prior="normal", mean=0.5, sd=-1.0), ["sd=-1.0"]),
        (Float(0.1, 1.0, log=True, prior="normal", mean=0.5, sd=1.0), ["log=True"]),
        (Float(-1.0, 1.0, prior="lognormal", mean=0.5, sd=1.0), ["low=-1.0"]),
        (Float(0.0, 1.0, prior="normal", mean=1000.0, sd=1.0), ["mean=1000.0"]),
        (Choice([]), ["values=[]"]),
        (Choice("abc"), ["values='abc'"]),
        (Choice(["a", "b", "a"]), ["'a' twice"]),
        (Choice([object]), ["plain data"]),
        (Choice([1.0, math.nan]), ["finite"]),
        (Choice([1, 2], ordered="no"), ["ordered='no'"]),
    ],
    ids=repr,
)
def test_bad_definitions_name_parameter_and_values(parameter, words):
    with pytest.raises(ValueError, match="'rate'") as raised:
        SearchSpace(rate=parameter)
    assert all(word in str(raised.value) for word in words)


@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        (Float(0, 1, prior="normal", mean=0.1, sd=0.05), [0.0, 0.3, 0.55, 0.6, 0.9, 1.0]),
        (Float(0, 1, prior="normal", mean=0.1, sd=0.05, step=0.1), [0.0, 0.1, 0.6, 0.7, 0.8, 0.9, 1.0]),
        (Float(1e-4, 1e3, prior="lognormal", mean=-3, sd=1), [1e-4, 0.05, 100.0, 500.0, 1000.0]),
    ],
    ids=repr,
)
def test_no_value_is_out_of_reach_of_a_prior(parameter, values):
    assert [parameter.decode(parameter.encode(value)) for value in values] == pytest.approx(values, rel=1e-9)


def test_steps_are_told_apart_however_large_the_numbers():
    with pytest.raises(ValueError, match="steps"):
        Int(0, 10**10, step=8).coerce(9999999996)
    with pytest.raises(ValueError, match="steps"):
        Float(0, 5e-10, step=1e-10).coerce(1.4e-10)


def test_a_choice_keeps_its_values_to_itself():
    choice = Choice([[16], [32]])
    choice.decode(0.1).append(99)
    choice.coerce([16]).append(99)
    assert choice.decode(0.1) == [16]


def test_choices_tell_true_from_one_and_take_equal_numbers():
    choice = Choice([True, 1, 32])
    assert choice.coerce(True) is True
    assert type(choice.coerce(1)) is int
    assert choice.coerce(32.0) == 32
    with pytest.raises(ValueError, match="must be one of"):
        choice.coerce("1")
