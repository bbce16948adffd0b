"""Optuna's and scikit-optimize's plots of a search as pictures, drawn by matplotlib without a screen."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hpo_spark.errors import MissingExtra
from hpo_spark.exchange.skopt import to_skopt
from hpo_spark.report import plots
from hpo_spark.report.plots import N_GRID, N_LINES, N_POINTS, NothingToShow, paired, require, target_of
from hpo_spark.report.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PICTURES", "convergence", "evaluations", "objective", "to_png"]

_DPI = 110
_INCHES = (9.0, 5.5)
# The forest is asked at so many points of each parameter, for so many draws of the others.
_N_ASKED, _N_DRAWS = 16, 60


def convergence(view: View) -> Figure:
    """The lowest loss so far, by scikit-optimize's ``plot_convergence``."""
    result = _result(view, N_POINTS)
    with _drawing() as pyplot:
        figure: Figure = pyplot.figure(figsize=_INCHES)
        _skopt_plots().plot_convergence(result, ax=figure.add_subplot())
    return figure


def evaluations(view: View) -> Figure:
    """What was tried, in each of the most important parameters and each pair, by ``plot_evaluations``."""
    result, names = _result(view, N_POINTS), _dimensions(view)
    if len(names) < 2:  # where it raises an AttributeError
        raise NothingToShow("scikit-optimize's plot_evaluations needs two parameters that vary, and there is one.")
    with _drawing():
        axes = _skopt_plots().plot_evaluations(result, plot_dims=names)
        return _figure_of(axes)


def objective(view: View) -> Figure:
    """How a forest of trees sees the loss over each parameter and each pair, by ``plot_objective``."""
    require(view, 2)
    result = _result(view, N_POINTS)
    with _drawing():
        axes = _skopt_plots().plot_objective(result, plot_dims=_dimensions(view), n_points=_N_ASKED, n_samples=_N_DRAWS)
        return _figure_of(axes)


def history(view: View) -> Figure:
    """The first objective's value of each trial."""
    require(view, 1)
    return _optuna(
        "plot_optimization_history", view.whole_study, target=target_of(view, 0), target_name=view.objectives[0]
    )


def parallel(view: View) -> Figure:
    """Each trial as a line through its parameters, in the colour of its first value."""
    require(view, 1)
    study = view.study(view.sample(N_LINES))
    return _optuna("plot_parallel_coordinate", study, target=target_of(view, 0), target_name=view.objectives[0])


def slices(view: View) -> Figure:
    """The first objective's value over each parameter."""
    require(view, 1)
    study = view.study(view.sample(N_POINTS))
    return _optuna("plot_slice", study, target=target_of(view, 0), target_name=view.objectives[0])


def contour(view: View) -> Figure:
    """The first objective's value over each pair of the most important parameters."""
    names, target = plots.pairs(view, 0), target_of(view, 0)
    study = view.study(view.sample(N_GRID))
    return _optuna("plot_contour", study, params=names, target=target, target_name=view.objectives[0])


def importances(view: View) -> Figure:
    """How much each parameter decides whether a trial is among the best tenth in the first objective."""
    require(view, 2)
    study, target = view.study(view.draw(N_POINTS)), plots.loss_of(view, 0)
    name = view.objectives[0]
    return _optuna("plot_param_importances", study, evaluator=plots.evaluator(), target=target, target_name=name)


def curves(view: View) -> Figure:
    """What trials reported on their way."""
    return _optuna("plot_intermediate_values", plots.study_of_curves(view))


def pareto(view: View) -> Figure:
    """The values of two or three objectives against each other."""
    return _optuna("plot_pareto_front", plots.study_of_front(view), target_names=view.objectives)


def hypervolume(view: View) -> Figure:
    """How much of the space of values the front dominates, as the search went on."""
    study = plots.study_of_volumes(view)
    return _optuna("plot_hypervolume_history", study, reference_point=plots.reference_of(view))


PICTURES: dict[str, Callable[[View], Any]] = {
    "history": history,
    "parallel": parallel,
    "slices": slices,
    "contour": contour,
    "importances": importances,
    "curves": curves,
    "pareto": pareto,
    "hypervolume": hypervolume,
    "convergence": convergence,
    "evaluations": evaluations,
    "objective": objective,
}


def to_png(figure: Figure) -> bytes:
    """A picture as the content of a PNG file; the figure is closed."""
    buffer = io.BytesIO()
    with _drawing() as pyplot:
        figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight")
        pyplot.close(figure)
    return buffer.getvalue()


def _result(view: View, n: int) -> Any:
    """What scikit-optimize's minimisers return."""
    if len(view.directions) > 1:
        raise NothingToShow(f"scikit-optimize knows one objective, and this study has {len(view.directions)}.")
    require(view, 1)
    with plots.quietly():
        return to_skopt(view.labelled(view.sample(n)), view.labelled_space, view.directions)


def _dimensions(view: View) -> list[str]:
    """The parameters that are shown: at most so many as can be read, and one at least."""
    return paired(view, 0) or [view.labels[view.active[0]]]


def _optuna(name: str, study: Any, **options: Any) -> Figure:
    with _drawing():
        try:
            import optuna.visualization.matplotlib as drawn
        except ImportError as error:
            raise MissingExtra("A picture", "optuna", "report") from error
        return _figure_of(getattr(drawn, name)(study, **options))


def _figure_of(axes: Any) -> Figure:
    """The figure of axes, or of an array of them."""
    import numpy as np

    figure: Figure = np.ravel(axes)[0].figure
    width, height = figure.get_size_inches()
    figure.set_size_inches(max(width, _INCHES[0]), max(height, _INCHES[1]))
    return figure


@contextmanager
def _drawing() -> Iterator[Any]:
    """Matplotlib, whose settings are the user's again afterwards: Optuna changes them for good."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingExtra("A picture", "matplotlib", "report") from error
    with plots.quietly(), pyplot.rc_context():
        yield pyplot


def _skopt_plots() -> Any:
    try:
        import skopt.plots
    except ImportError as error:
        raise MissingExtra("A picture", "scikit-optimize", "report") from error
    return skopt.plots
