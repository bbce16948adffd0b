"""Which models are too large to gain by training among others. All of it runs in one trial process."""

import gains
import pytest


def test_models_whose_size_tells_nothing_are_tried_first(pool):
    members = [{"hidden_layers": 2, "hidden_units": units} for units in (190, 200)]
    reason = pool.submit(gains.too_little_gain, members).result(timeout=280)
    assert "times as fast among 2 as alone" in reason


BUILT_IN = None
KINDS = {BUILT_IN: ({"hidden_layers": 2}, "hidden_units"), gains.dense: ({"rate": 0.01}, "units")}


@pytest.mark.parametrize("build_model", KINDS)
def test_models_too_large_to_gain_are_told_by_their_size(pool, build_model):
    others, width = KINDS[build_model]
    reason, n_calls = pool.submit(gains.n_steps_taken, build_model, [{**others, width: 400}] * 2).result(timeout=280)
    assert "keeps the processor busy by itself" in reason and n_calls == 0
    assert pool.submit(gains.n_steps_taken, build_model, [{**others, width: 30}] * 2).result(timeout=280) == (None, 1)


@pytest.mark.parametrize("build_model", KINDS)
def test_a_batch_is_no_larger_than_the_data(pool, build_model):
    others, width = KINDS[build_model]
    members = [{**others, width: 100}] * 2
    found = pool.submit(gains.n_steps_taken, build_model, members, batch_size=5000).result(timeout=280)
    assert found == (None, 1)


def test_a_weight_counts_for_each_place_that_it_is_used_at(pool):
    found = pool.submit(gains.products).result(timeout=280)
    assert found == [10 * 168, 1608, 10 * 72 + 32, 10 * 168 + 10 * 27, 10 * 2 * 72]
    assert pool.submit(gains.loads).result(timeout=280) == [670, 1340]
