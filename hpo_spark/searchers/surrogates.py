"""Models of the loss, by scikit-optimize: what it is likely to be at a configuration that was not tried.

Each has ``predict(columns)``, the mean and the standard deviation. They are scikit-optimize's estimators, as
`skopt.utils.cook_estimator` makes them. What they know is said faster here than they say it themselves: theirs takes a
tenth of a second for a thousand configurations.

References:
    Rasmussen and Williams (2006), "Gaussian processes for machine learning", MIT Press.
    Hutter, Xu, Hoos and Leyton-Brown (2014), "Algorithm runtime prediction: methods and evaluation", Artificial
    Intelligence 206, 79-111, section 4.3.2: the variance of a forest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular
from skopt.utils import cook_estimator

from hpo_spark.searchers.likelihood import matern, matern_slope

__all__ = ["TREES", "Forest", "Process", "Quantiles", "Surrogate"]

Numbers = npt.NDArray[np.float64]

# Nothing is known better than this, where trees all agree; the improvement's logarithm needs a finite slope.
_MIN_STD = 1e-4


class Surrogate(Protocol):
    """A fitted model of the loss."""

    def predict(self, columns: Numbers) -> tuple[Numbers, Numbers]:
        """Mean and standard deviation, the latter above 0, at rows of shape (places, columns)."""


class Process:
    """A Gaussian process with a Matern 5/2 kernel, a length scale for each gene, and noise.

    Args:
        columns: Rows that were tried.
        losses: Their losses, of mean about 0 and variance about 1.
        theta: Logarithms of the amplitude, the length scale of each gene, and the noise; see `likelihood.fit_theta`.
        gene_of: The gene of each column.
    """

    def __init__(self, columns: Numbers, losses: Numbers, theta: Numbers, gene_of: npt.NDArray[np.int_]) -> None:
        self._amplitude, self._scales = float(np.exp(theta[0])), np.exp(theta[1:-1])[gene_of]
        model = cook_estimator("GP", space=[(0.0, 1.0)] * columns.shape[1])
        kernel = model.kernel.clone_with_theta(np.concatenate([theta[:1], theta[1:-1][gene_of]]))
        noise = float(np.exp(theta[-1]))
        model.set_params(kernel=kernel, noise=noise, optimizer=None, normalize_y=False, n_restarts_optimizer=0)
        model.fit(columns, losses)
        self.model = model
        self._places = columns / self._scales

    def predict(self, columns: Numbers) -> tuple[Numbers, Numbers]:
        """Mean and standard deviation, the latter above 0, at rows of shape (places, columns)."""
        covariance = self._amplitude * matern(columns / self._scales, self._places)
        reduced = solve_triangular(self.model.L_, covariance.T, lower=True, check_finite=False)
        variance = self._amplitude - np.einsum("ij,ij->j", reduced, reduced)
        return covariance @ self.model.alpha_, np.sqrt(np.maximum(variance, _MIN_STD**2))

    def slopes(self, columns: Numbers) -> tuple[Numbers, Numbers]:
        """How mean and standard deviation change with each column, of shape (places, columns) each."""
        places = columns / self._scales
        covariance = self._amplitude * matern(places, self._places)
        factors = self._amplitude * matern_slope(places, self._places)
        weights = covariance @ self.model.K_inv_
        variance = self._amplitude - np.einsum("ij,ij->i", weights, covariance)
        std = np.sqrt(np.maximum(variance, _MIN_STD**2))
        # d k(x, x_j) / d x = factor_j (x - x_j), in units of the scales.
        by_mean, by_variance = factors * self.model.alpha_, factors * weights
        mean_slope = by_mean.sum(axis=1)[:, None] * places - by_mean @ self._places
        variance_slope = -2 * (by_variance.sum(axis=1)[:, None] * places - by_variance @ self._places)
        return mean_slope / self._scales, variance_slope / (2 * std[:, None]) / self._scales


class Forest:
    """A forest of extremely randomised or of random trees.

    Args:
        kind: scikit-optimize's word: ``"ET"`` or ``"RF"``.
        columns, losses: As for `Process`.
        seed: Every draw follows from it.
    """

    def __init__(self, kind: str, columns: Numbers, losses: Numbers, seed: int) -> None:
        self.model = cook_estimator(kind, random_state=seed, n_jobs=1)
        self.model.fit(columns, losses)

    def predict(self, columns: Numbers) -> tuple[Numbers, Numbers]:
        """Mean and standard deviation, the latter above 0, at rows of shape (places, columns)."""
        single = np.ascontiguousarray(columns, dtype=np.float32)
        first, second = np.zeros(len(columns)), np.zeros(len(columns))
        trees: Sequence[Any] = [estimator.tree_ for estimator in self.model.estimators_]
        for tree in trees:
            leaves = tree.apply(single)
            means = tree.value[leaves, 0, 0]
            first += means
            second += tree.impurity[leaves] + means**2
        mean = first / len(trees)
        return mean, np.sqrt(np.maximum(second / len(trees) - mean**2, _MIN_STD**2))


class Quantiles:
    """Gradient-boosted trees for the 16 %, 50 % and 84 % quantiles.

    Args:
        columns, losses, seed: As for `Forest`.
    """

    def __init__(self, columns: Numbers, losses: Numbers, seed: int) -> None:
        self.model = cook_estimator("GBRT", random_state=seed)
        self.model.fit(columns, losses)

    def predict(self, columns: Numbers) -> tuple[Numbers, Numbers]:
        """Median and half the distance of the outer quantiles, the latter above 0, at rows (places, columns)."""
        # Asked for standard deviations, scikit-optimize 0.10.2 calls a function that numpy no longer has.
        low, middle, high = self.model.predict(columns, return_quantiles=True).T
        return middle, np.maximum((high - low) / 2, _MIN_STD)


TREES: dict[str, Callable[..., Surrogate]] = {
    "forest": partial(Forest, "ET"),
    "random_forest": partial(Forest, "RF"),
    "gbrt": Quantiles,
}
