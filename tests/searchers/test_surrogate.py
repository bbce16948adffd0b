"""The Gaussian process that screens children, and the genes that it sees."""

import numpy as np
import pytest

from hpo_spark import Choice, Float, Int, SearchSpace
from hpo_spark.searchers.genome import Genome
from hpo_spark.searchers.surrogate import expected_improvement, rank_scores

NONE = np.empty((0, 2))


def test_equal_losses_share_their_score():
    scores = rank_scores(np.array([0, 1, 2, 9]), np.array([0.1, 0.5, 0.5, 7.0]), 10)
    assert scores == pytest.approx(np.log([0.1, np.sqrt(0.2 * 0.3), np.sqrt(0.2 * 0.3), 1.0]))


def improvement(space, losses_at, points, at, pending=NONE):
    order = np.argsort(losses_at(points), kind="stable")
    scores = rank_scores(np.arange(len(points)), losses_at(points)[order], len(points))
    return expected_improvement(Genome(space), points[order], scores, pending, at)


def test_improvement_is_expected_where_the_loss_is_low_and_not_next_to_a_running_trial():
    space = SearchSpace(a=Float(0, 1), b=Float(0, 1))
    points = np.random.default_rng(0).random((40, 2))
    at = np.array([[0.7, 0.3], [0.1, 0.9], [0.0, 0.0]])

    def losses_at(genes):
        return ((genes - at[0]) ** 2).sum(axis=1)

    free = improvement(space, losses_at, points, at)
    assert free.argmax() == 0
    assert free[0] > 10 * free[1:].max()
    running = improvement(space, losses_at, points, at, pending=at[:1])
    assert 0 < running[0] < free[0]


def test_levels_without_an_order_are_told_apart():
    space = SearchSpace(a=Choice(list("abcd")), b=Int(1, 8))
    genome = Genome(space)
    every = np.array([genome.encode({"a": a, "b": b}) for a in "abcd" for b in range(1, 9)])
    points, at = every[::2], every[1::2]
    wanted = genome.encode({"a": "c", "b": 8})

    def losses_at(genes):
        return (genes[:, 0] != wanted[0]) + np.abs(genes[:, 1] - wanted[1])

    assert at[improvement(space, losses_at, points, at).argmax()].tolist() == wanted.tolist()


def test_nothing_is_expected_where_all_trials_are_alike():
    space = SearchSpace(a=Float(0, 1), b=Float(0, 1))
    points = np.random.default_rng(0).random((5, 2))
    assert improvement(space, lambda genes: np.zeros(len(genes)), points, points).tolist() == [0.0] * 5


def test_neighbours_differ_in_one_gene():
    space = SearchSpace(a=Choice(list("abc")), b=Int(1, 4), c=Float(0, 1))
    genome = Genome(space)
    genes = genome.encode({"a": "b", "b": 1, "c": 0.25}).tolist()
    neighbours = [space.decode(row) for row in genome.neighbours(genes, sigma=0.2)]
    own = space.decode(genes)
    assert all(sum(own[name] != one[name] for name in own) == 1 for one in neighbours)
    assert {one["a"] for one in neighbours} == set("abc")
    assert {one["b"] for one in neighbours} == {1, 2, 3, 4}


def test_repair_puts_genes_into_the_space():
    space = SearchSpace(a=Choice(["on", "off"]), b=Float(0, 1, when={"a": "on"}), c=Int(1, 2))
    repaired = Genome(space).repair(np.array([[-3.0, 1.5, 0.4], [0.9, 0.5, np.nan]]))
    assert repaired[0].tolist() == [0.25, 1.0, space["c"].encode(1)]
    assert np.isnan(repaired[1]).tolist() == [False, True, False]
