"""How promising a configuration is by a model's mean and standard deviation there: larger is better.

Improvements are given as logarithms, which have the same maximum, and a slope also where the improvement itself is
too small for a float. All losses are to be minimised, and ``best`` is the least so far.

References:
    Jones, Schonlau and Welch (1998), "Efficient global optimization of expensive black-box functions", Journal of
    Global Optimization 13, 455-492: expected improvement.
    Kushner (1964), "A new method of locating the maximum point of an arbitrary multipeak curve in the presence of
    noise", Journal of Basic Engineering 86, 97-106: probability of improvement.
    Srinivas, Krause, Kakade and Seeger (2010), "Gaussian process optimization in the bandit setting", ICML: the bound.
    Ament, Daulton, Eriksson, Balandat and Bakshy (2023), "Unexpected improvements to expected improvement for Bayesian
    optimization", NeurIPS: the logarithm.
    Snoek, Larochelle and Adams (2012), "Practical Bayesian optimization of machine learning algorithms", NeurIPS:
    improvement a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import erfcx, log_ndtr

__all__ = [
    "Acquisition",
    "Slopes",
    "log_expected_improvement",
    "log_probability_of_improvement",
    "lower_confidence_bound",
]

Numbers = npt.NDArray[np.float64]
# A value at each place, and its derivatives by the mean and by the standard deviation.
Slopes = tuple[Numbers, Numbers, Numbers]

_LOG_ROOT_2_PI = 0.5 * math.log(2 * math.pi)
# Below this the improvement's logarithm is computed in a form that neither cancels nor underflows.
_FAR = -1.0
_VERY_FAR = -1e3


@dataclass(frozen=True)
class Acquisition:
    """One of them, with what it needs besides a mean and a standard deviation.

    Attributes:
        name: ``"EI"``, ``"EIps"``, ``"PI"`` or ``"LCB"``.
        best: The least loss so far.
        xi: The least improvement that counts.
        kappa: Standard deviations from the mean to the bound.
    """

    name: str
    best: float
    xi: float
    kappa: float

    @property
    def is_per_second(self) -> bool:
        """Whether seconds count."""
        return self.name == "EIps"

    def __call__(self, mean: Numbers, std: Numbers) -> Slopes:
        """Its value at each place, and its derivatives by mean and standard deviation, which must be above 0."""
        if self.name == "LCB":
            return lower_confidence_bound(mean, std, self.kappa)
        if self.name == "PI":
            return log_probability_of_improvement(mean, std, self.best, self.xi)
        return log_expected_improvement(mean, std, self.best, self.xi)


def log_expected_improvement(mean: Numbers, std: Numbers, best: float, xi: float) -> Slopes:
    """Logarithm of the mean improvement over ``best - xi``; ``std`` must be above 0."""
    z = (best - xi - mean) / std
    log_pdf = -0.5 * z**2 - _LOG_ROOT_2_PI
    log_cdf = log_ndtr(z)
    log_h = _log_h(z, log_pdf, log_cdf)
    # h(z) = pdf(z) + z cdf(z) has the derivative cdf(z), and the improvement is std h(z).
    return np.log(std) + log_h, -np.exp(log_cdf - log_h) / std, np.exp(log_pdf - log_h) / std


def log_probability_of_improvement(mean: Numbers, std: Numbers, best: float, xi: float) -> Slopes:
    """Logarithm of the probability to fall below ``best - xi``; ``std`` must be above 0."""
    z = (best - xi - mean) / std
    log_cdf = log_ndtr(z)
    slope = np.exp(-0.5 * z**2 - _LOG_ROOT_2_PI - log_cdf) / std
    return log_cdf, -slope, -slope * z


def lower_confidence_bound(mean: Numbers, std: Numbers, kappa: float) -> Slopes:
    """How low the loss may be: ``kappa`` standard deviations below the mean, with its sign turned."""
    return kappa * std - mean, -np.ones_like(mean), np.full_like(mean, kappa)


def _log_h(z: Numbers, log_pdf: Numbers, log_cdf: Numbers) -> Numbers:
    near, far = np.maximum(z, _FAR), np.clip(z, _VERY_FAR, _FAR)
    direct = np.log(np.exp(-0.5 * near**2 - _LOG_ROOT_2_PI) + near * np.exp(log_ndtr(near)))
    # cdf(z) / pdf(z) = sqrt(pi / 2) erfcx(-z / sqrt(2)), where erfcx scales what would underflow.
    ratio = math.sqrt(math.pi / 2) * erfcx(-far / math.sqrt(2))
    scaled = log_pdf + np.log1p(far * ratio)
    # h(z) / pdf(z) tends to 1 / z^2.
    beyond = log_pdf - 2 * np.log(np.maximum(-z, 1.0))
    found: Numbers = np.where(z > _FAR, direct, np.where(z > _VERY_FAR, scaled, beyond))
    return found
