"""A Parzen window over genes: how dense a set of configurations is around another.

The density at x is the mean of product kernels around the points, and of one that is even over the space.

References:
    Bergstra, Bardenet, Bengio and Kegl (2011), "Algorithms for hyper-parameter optimization", NIPS 24.
    Aitchison and Aitken (1976), "Multivariate binary discrimination by the kernel method", Biometrika 63, 413-420.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr

from hpo_spark.searchers.genome import Genes, Genome

__all__ = ["MAX_GOOD", "log_density", "n_good"]

# A kernel's width around a single point, as a share of a gene's range; among more points it is narrower.
_BANDWIDTH = 0.2
_ROOT_2_PI = math.sqrt(2 * math.pi)
# The share of trials that count as good, and how many at most.
_GOOD_SHARE, MAX_GOOD = 0.15, 25


def n_good(n_trials: int) -> int:
    """How many trials count as good, where their density is compared with that of the others."""
    return min(MAX_GOOD, max(2, math.ceil(_GOOD_SHARE * n_trials)))


def log_density(genome: Genome, points: Genes, at: Genes) -> Genes:
    """The logarithm of the density of points.

    Args:
        genome: What the genes are.
        points: Shape (points, genes), NaN for inactive genes.
        at: Shape (places, genes), likewise.

    Returns:
        Shape (places,). Continuous genes have a density over [0, 1], discrete ones a probability.
    """
    n_points, n_genes = points.shape
    width = np.maximum(_BANDWIDTH * max(n_points, 1) ** (-1 / (4 + n_genes)), 0.5 * genome.resolution)
    kernels = np.ones((len(at), n_points))
    exponents = np.zeros((len(at), n_points))
    even = np.ones(len(at))
    is_out_here, is_out_there = np.isnan(at), np.isnan(points)
    for index, levels in enumerate(genome.levels):
        out_here, out_there = is_out_here[:, index], is_out_there[:, index]
        any_out = out_here.any() or out_there.any()
        if levels is None:
            distance = (at[:, index, None] - points[None, :, index]) / width[index]
            mass = ndtr((1 - points[:, index]) / width[index]) - ndtr(-points[:, index] / width[index])
            if any_out:
                unknown = np.isnan(distance)
                distance[unknown] = 0.0
                kernels *= np.where(unknown, 1.0, 1 / (mass * width[index] * _ROOT_2_PI))
            else:
                kernels *= 1 / (mass * width[index] * _ROOT_2_PI)
            exponents += distance * distance
            continue
        table = _table(genome, index, levels, width[index], n_points)
        here = levels.searchsorted(np.where(out_here, levels[0], at[:, index]) - 1e-9)
        there = levels.searchsorted(np.where(out_there, levels[0], points[:, index]) - 1e-9)
        factor = table[:, there][here]
        share = 1 / len(levels)
        if any_out:
            factor = np.where(out_there, share, factor)
            factor[out_here] = 1.0
            even[~out_here] *= share
        else:
            even *= share
        kernels *= factor
    kernels *= np.exp(-0.5 * exponents)
    return np.asarray(np.log((kernels.sum(axis=1) + even) / (n_points + 1)))


def _table(genome: Genome, index: int, levels: Genes, width: float, n_points: int) -> Genes:
    """The kernel between each two levels of a gene, [at, point]."""
    n_levels = len(levels)
    if genome.is_unordered[index]:
        other = min(0.5, 1 / (1 + n_points / (2 * n_levels))) / n_levels
        table = np.full((n_levels, n_levels), other)
        np.fill_diagonal(table, 1 - (n_levels - 1) * other)
        return table
    distance = (levels[:, None] - levels[None, :]) / width
    table = np.exp(-0.5 * distance * distance)
    return np.asarray(table / table.sum(axis=0))
