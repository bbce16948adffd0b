"""What a group reads of its data: nothing is lost but what is always zero."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_spark.data import Part
from hpo_spark.fused import inputs
from hpo_spark.fused.inputs import Inputs, trimmed
from hpo_spark.objectives.program import tensor_of


def part_of(x, divisor=None):
    return Part(x, np.zeros(len(x)), None, divisor)


@given(
    n=st.integers(1, 200),
    share=st.floats(0, 1),
    shape=st.sampled_from([(1,), (2, 2)]),
    kind=st.sampled_from([("uint8", 255.0), ("float32", None), ("int64", None)]),
    seed=st.integers(0, 99),
)
def test_a_trimmed_part_holds_all_that_is_not_always_zero(n, share, shape, kind, seed):
    rng, (dtype, divisor) = np.random.default_rng(seed), kind
    x = rng.integers(0, 3, (8, n, *shape)).astype(dtype)
    x[:, rng.random(n) < share] = 0
    part, rows = part_of(x, divisor), x.reshape(8, -1)
    own = trimmed(part)
    n_used = np.count_nonzero(rows.any(axis=0))
    if own is None:
        assert n_used + 32 > 0.96 * rows.shape[1]
        return
    copy = own.of(part)
    assert own.is_trimmed and own.n_read == n_used and copy.x.shape == (8, own.n_columns) and copy.y is part.y
    assert np.array_equal(copy.x[:, : own.n_read], rows[:, own.places]) and copy.x.dtype == rows.dtype
    assert np.all(copy.inputs()[:, own.n_read] == 1) and not copy.x[:, own.n_read + 1 :].any()
    kernel, bias = rng.normal(size=rows.shape[1]), rng.normal()
    columns = np.concatenate([kernel[own.places], [bias], np.zeros(own.n_columns - own.n_read - 1), kernel[own.unread]])
    assert np.array_equal(columns[own.columns_of_all], [*kernel, bias])


def test_all_inputs_are_read_where_none_is_always_zero():
    everything = Inputs(5)
    assert not everything.is_trimmed and (everything.n_read, everything.n_columns) == (5, 6)
    assert len(everything.unread) == 0 and everything.columns_of_all.tolist() == [0, 1, 2, 3, 4, 5]


def test_what_is_no_number_is_read():
    x = np.zeros((4, 100))
    x[2, 70] = np.nan
    part = part_of(x)
    own = trimmed(part)
    copy = own.of(part)
    assert own.places.tolist() == [70] and np.isnan(copy.x[2, 0])


@pytest.mark.parametrize(
    ("dtype", "divisor"), [("uint8", 256.0), ("uint8", 0.5), ("float32", 0.1), ("float16", 65535.0), ("int32", 3e9)]
)
def test_numbers_that_cannot_hold_a_one_are_not_trimmed(dtype, divisor):
    assert trimmed(part_of(np.zeros((4, 100), dtype), divisor)) is None


def test_the_same_inputs_may_be_divided_by_several_numbers():
    x = np.zeros((4, 100), "uint8")
    parts = [part_of(x, divisor) for divisor in (255.0, None, 2.0)]
    for part in parts:
        own = trimmed(part)
        assert np.all(own.of(part).inputs()[:, own.n_read] == 1)


def test_data_too_large_to_copy_are_not_trimmed(monkeypatch):
    part = part_of(np.zeros((4, 100), "uint8"))
    monkeypatch.setattr(inputs, "_MOST_BYTES", 399)
    assert trimmed(part) is None


def test_a_copy_is_made_once_and_lives_as_long_as_its_data():
    part = part_of(np.zeros((4, 100), "float32"))
    own = trimmed(part)
    assert own is trimmed(part_of(part.x))
    tensor_of(own.rows)  # which holds the memory too
    gone = weakref.ref(own.rows)
    del part, own
    gc.collect()
    assert gone() is None
