"""The plots of a result, for a notebook: each is drawn when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hpo_spark.errors import ConfigError
from hpo_spark.space import SearchSpace
from hpo_spark.trial import Trial

if TYPE_CHECKING:
    import matplotlib.figure
    import plotly.graph_objects

    from hpo_spark.report.view import View

__all__ = ["Plots"]


class Plots:
    """Plots of a search's trials: the interactive ones are Optuna's, the pictures scikit-optimize's.

    All raise `MissingExtra` where the extra ``report`` is not installed, and `NothingToShow`, a `ValueError`, where the
    trials are too few; it says why.
    """

    name: str
    directions: tuple[str, ...]
    trials: list[Trial]
    slots: int
    reference_point: tuple[float, ...] | None
    space: SearchSpace | None
    objective_names: tuple[str, ...]

    def plot_history(self, objective: int = 0) -> plotly.graph_objects.Figure:
        """The value of each trial by its number, and the best so far."""
        return self._interactive("history", objective)

    def plot_parallel(self) -> plotly.graph_objects.Figure:
        """Each trial as a line through its parameters and values."""
        return self._interactive("parallel")

    def plot_slices(self, objective: int = 0) -> plotly.graph_objects.Figure:
        """The value over each parameter."""
        return self._interactive("slices", objective)

    def plot_contour(self, objective: int = 0) -> plotly.graph_objects.Figure:
        """The value over each pair of the most important parameters."""
        return self._interactive("contour", objective)

    def plot_importances(self, objective: int = 0) -> plotly.graph_objects.Figure:
        """How much each parameter decides whether a trial is among the best tenth."""
        return self._interactive("importances", objective)

    def plot_curves(self) -> plotly.graph_objects.Figure:
        """What trials reported on their way."""
        return self._interactive("curves")

    def plot_pareto(self) -> plotly.graph_objects.Figure:
        """The values of two or three objectives against each other."""
        return self._interactive("pareto")

    def plot_hypervolume(self) -> plotly.graph_objects.Figure:
        """How much of the space of values the front dominates, as the search went on."""
        return self._interactive("hypervolume")

    def plot_timeline(self) -> plotly.graph_objects.Figure:
        """The slots over time: what ran where, how it ended, and how many trials ran at once."""
        from hpo_spark.report.timeline import timeline

        return timeline(self.trials, self.slots)

    def plot_convergence(self) -> matplotlib.figure.Figure:
        """The lowest loss so far, by scikit-optimize."""
        return self._picture("convergence")

    def plot_evaluations(self) -> matplotlib.figure.Figure:
        """What was tried, in each of the most important parameters and each pair, by scikit-optimize."""
        return self._picture("evaluations")

    def plot_objective(self) -> matplotlib.figure.Figure:
        """How a forest of trees sees the loss over each parameter and each pair, by scikit-optimize."""
        return self._picture("objective")

    @property
    def _known_space(self) -> SearchSpace:
        if self.space is None:
            raise ConfigError("This result does not know its search space; make it with Result(..., space=space).")
        return self.space

    def _interactive(self, name: str, *args: int) -> Any:
        from hpo_spark.report import plots
        from hpo_spark.report.labels import for_plotly

        return getattr(plots, name)(self._view(for_plotly), *args)

    def _picture(self, name: str) -> matplotlib.figure.Figure:
        from hpo_spark.report import pictures
        from hpo_spark.report.labels import for_matplotlib

        figure: matplotlib.figure.Figure = getattr(pictures, name)(self._view(for_matplotlib))
        return figure

    def _view(self, escape: Callable[[str], str]) -> View:
        from hpo_spark.report.view import View

        names, point = self.objective_names, self.reference_point
        return View(self.trials, self._known_space, self.directions, names, point, escape)
