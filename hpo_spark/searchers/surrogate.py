"""A Gaussian process over genes: how much a configuration is expected to improve on the best.

It sees ranks, so that neither the scale of the losses nor an outlier matters: the score of a trial is the logarithm of
the share of trials that are as good or better, which tells the best apart and has the many bad ones much alike. How
smooth the scores are and how noisy is chosen by likelihood from a few settings, one factorisation each: nothing
iterates, and an ask stays cheap.

References:
    Rasmussen and Williams (2006), "Gaussian processes for machine learning", MIT Press: algorithm 2.1, eq. 4.17, 5.8.
    Jones, Schonlau and Welch (1998), "Efficient global optimization of expensive black-box functions", Journal of
    Global Optimization 13, 455-492: eq. 15.
    Ginsbourger, Le Riche and Carraro (2010), "Kriging is well-suited to parallelize optimization", Springer: pending
    trials, as the Kriging believer has them.
    Hvarfner, Hellsten and Nardi (2024), "Vanilla Bayesian optimization performs great in high dimensions", ICML:
    length scales that grow with the root of the number of genes.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack
from scipy.special import ndtr

from hpo_spark.searchers.genome import Genes, Genome

__all__ = ["expected_improvement", "rank_scores"]

# Length scales, times the root of the number of genes, and shares of noise, of which the likeliest are taken. No less
# noise: a rank is never exact.
_LENGTHS = (0.1, 0.2, 0.4, 0.8)
_NOISES = (0.02, 0.2)


def rank_scores(places: npt.NDArray[np.intp], losses: Genes, n_trials: int) -> Genes:
    """What the process is fitted to, smaller being better.

    Args:
        places: Places of some trials among all, 0 for the best.
        losses: Their losses; equal ones share the mean of their scores.
        n_trials: How many there are in all.
    """
    scores = np.log((places + 1) / n_trials)
    _, group = np.unique(losses, return_inverse=True)
    return np.asarray((np.bincount(group, scores) / np.bincount(group))[group])


def expected_improvement(genome: Genome, genes: Genes, scores: Genes, pending: Genes, at: Genes) -> Genes:
    """How much a configuration is expected to improve on the best of the trials, noise apart.

    Args:
        genome: What the genes are.
        genes: Those of the trials, shape (trials, genes), NaN for inactive genes.
        scores: Shape (trials,), smaller being better.
        pending: Genes of trials that run, taken to score what is expected of them: there is less to learn near them.
        at: Shape (places, genes), NaN for inactive genes.

    Returns:
        Shape (places,), in standard deviations of the scores; 0 everywhere if they do not differ.
    """
    if np.ptp(scores) == 0:
        return np.zeros(len(at))
    scores = (scores - scores.mean()) / scores.std()
    there, here = _coordinates(genome, genes), _coordinates(genome, at)
    scale, noise, (root, white, variance) = _likeliest(_distance(there, there), scores, math.sqrt(len(genome)))
    if len(pending):
        running = _coordinates(genome, pending)
        reach = _solved(root, _matern(_distance(there, running) / scale))
        there, scores = np.concatenate([there, running]), np.concatenate([scores, white @ reach])
        root, white, _ = _fitted(_matern(_distance(there, there) / scale), noise, scores)
    reach = _solved(root, _matern(_distance(there, here) / scale))
    mean = white @ reach
    spread = np.sqrt(variance * np.maximum(1 - np.einsum("ij,ij->j", reach, reach), 1e-9))
    # The process at the trials themselves: their scores without what it takes for noise in them.
    smoothed = scores - noise * _solved(root, white, transposed=True)
    gain = (smoothed.min() - mean) / spread
    density = np.exp(-0.5 * gain * gain) / math.sqrt(2 * math.pi)
    return np.asarray(spread * (gain * ndtr(gain) + density))


def _likeliest(between: Genes, scores: Genes, unit: float) -> tuple[float, float, tuple[Genes, Genes, float]]:
    """The length scale and noise under which the scores are likeliest, the signal's variance free, and that fit."""
    fits = []
    for length in _LENGTHS:
        signal = _matern(between / (unit * length))
        for noise in _NOISES:
            root, white, variance = _fitted(signal, noise, scores)
            evidence = -0.5 * len(scores) * math.log(variance) - float(np.log(np.diag(root)).sum())
            fits.append((evidence, unit * length, noise, (root, white, variance)))
    _, scale, noise, fit = max(fits, key=lambda fit: fit[0])
    return scale, noise, fit


def _fitted(signal: Genes, noise: float, scores: Genes) -> tuple[Genes, Genes, float]:
    """The Cholesky factor of the covariance, the scores that it whitens, and the variance of the signal."""
    covariance = signal.copy()
    covariance.flat[:: len(scores) + 1] += noise
    root = np.asarray(np.linalg.cholesky(covariance), dtype=float)
    white = _solved(root, scores)
    return root, white, max(float(white @ white) / len(scores), 1e-9)


def _solved(root: Genes, sides: Genes, transposed: bool = False) -> Genes:
    """What a lower triangle, or its transpose, takes to these right-hand sides.

    By LAPACK, since scipy's `solve_triangular` checks for longer than it solves. LAPACK has columns first: what lies in
    memory is the triangle's transpose there.
    """
    solved, _ = lapack.dtrtrs(root.T, sides, lower=0, trans=int(not transposed))
    return np.asarray(solved)


def _coordinates(genome: Genome, genes: Genes) -> Genes:
    """Genes as points: two levels without an order lie at a distance of 1, and an inactive gene lies amid all."""
    inner = np.where(np.isnan(genes), 0.5, genes)
    columns = []
    for index, levels in enumerate(genome.levels):
        if levels is not None and genome.is_unordered[index]:
            columns.append((np.abs(genes[:, index, None] - levels) < 0.5 / len(levels)) * math.sqrt(0.5))
        else:
            columns.append(inner[:, index, None])
    return np.concatenate(columns, axis=1)


def _distance(first: Genes, second: Genes) -> Genes:
    """Between each point of the first set and each of the second."""
    squares = np.sum(first**2, axis=1)[:, None] + np.sum(second**2, axis=1) - 2 * first @ second.T
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


def _matern(distance: Genes) -> Genes:
    """The Matern kernel of smoothness 5/2."""
    scaled = math.sqrt(5) * distance
    kernel: Genes = (1 + scaled + scaled * scaled / 3) * np.exp(-scaled)
    return kernel
