"""Where an acquisition is largest: it is computed for many candidates, and climbed from the best of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from hpo_spark.searchers.acquisition import Acquisition
from hpo_spark.searchers.features import Features
from hpo_spark.searchers.genome import Genes

__all__ = ["Forecast", "Outlook", "joined"]

Numbers = npt.NDArray[np.float64]

# Steps of a climb.
_MAX_STEPS = 20


@dataclass(frozen=True)
class Forecast:
    """What the models say of some configurations.

    Attributes:
        genes: The configurations, settled.
        mean, std: Of the loss.
        pace: Logarithm of the mean of 1 / seconds, up to a constant; 0 where seconds do not count.
    """

    genes: Genes
    mean: Numbers
    std: Numbers
    pace: Numbers

    def values(self, acquisition: Acquisition) -> Numbers:
        """The acquisition at each."""
        return acquisition(self.mean, self.std)[0] + self.pace

    def best(self, acquisition: Acquisition, n: int) -> Genes:
        """The genes of the ``n`` with the largest acquisition."""
        best: Genes = self.genes[np.argsort(-self.values(acquisition), kind="stable")[:n]]
        return best


def joined(*forecasts: Forecast) -> Forecast:
    """Several forecasts as one."""
    return Forecast(
        *(np.concatenate([getattr(one, name) for one in forecasts]) for name in ("genes", "mean", "std", "pace"))
    )


@dataclass(frozen=True)
class Outlook:
    """Models of the loss and of the seconds.

    Attributes:
        features: What the models' columns are.
        losses: A `surrogates.Surrogate` of the loss.
        seconds: One of the seconds' logarithm, divided by ``seconds_scale``; None where they do not count.
    """

    features: Features
    losses: Any
    seconds: Any = None
    seconds_scale: float = 1.0

    def at(self, genes: Genes) -> Forecast:
        """What the models say of configurations, whose genes are settled."""
        columns = self.features.columns(genes)
        mean, std = self.losses.predict(columns)
        if self.seconds is None:
            return Forecast(genes, mean, std, np.zeros(len(genes)))
        # Of a log-normal number of seconds t, E[1 / t] = exp(-mean + variance / 2).
        log_mean, log_std = (self.seconds_scale * one for one in self.seconds.predict(columns))
        return Forecast(genes, mean, std, 0.5 * log_std**2 - log_mean)

    def climb(self, acquisition: Acquisition, starts: Genes) -> Forecast:
        """What the models say where the acquisition is largest near each start, with all that is not continuous fixed.

        The models must have slopes. All climb together: the sum of their acquisitions has the gradients of each.
        """
        smooth = self.features.smooth
        columns_of_smooth = np.searchsorted(self.features.gene_of, smooth)
        genes = starts.copy()

        def loss_and_slope(flat: Numbers) -> tuple[float, Numbers]:
            genes[:, smooth] = flat.reshape(len(starts), -1)
            columns = self.features.columns(genes)
            mean, std = self.losses.predict(columns)
            value, by_mean, by_std = acquisition(mean, std)
            mean_slope, std_slope = self.losses.slopes(columns)
            slope = by_mean[:, None] * mean_slope + by_std[:, None] * std_slope
            if self.seconds is not None:
                log_mean, log_std = (self.seconds_scale * one for one in self.seconds.predict(columns))
                mean_slope, std_slope = (self.seconds_scale * one for one in self.seconds.slopes(columns))
                value, slope = value + 0.5 * log_std**2 - log_mean, slope + log_std[:, None] * std_slope - mean_slope
            return -float(value.sum()), -slope[:, columns_of_smooth].ravel()

        bounds = [(0.0, 1.0)] * (len(starts) * len(smooth))
        start = starts[:, smooth].ravel()
        options = {"maxiter": _MAX_STEPS}
        found = minimize(loss_and_slope, start, method="L-BFGS-B", jac=True, bounds=bounds, options=options)
        genes[:, smooth] = found.x.reshape(len(starts), -1)
        return self.at(self.features.settle(genes))
