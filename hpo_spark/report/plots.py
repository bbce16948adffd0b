"""Optuna's interactive plots of a search, dressed alike.

A plot that cannot show what it should raises `NothingToShow`, whose text says why in a sentence.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hpo_spark.errors import MissingExtra
from hpo_spark.exchange.optuna import quiet
from hpo_spark.report.labels import short
from hpo_spark.report.view import View, evenly
from hpo_spark.results.result import best_first
from hpo_spark.trial import TrialState

if TYPE_CHECKING:
    import optuna
    from plotly.graph_objects import Figure

__all__ = [
    "N_CURVES",
    "N_GRID",
    "N_LINES",
    "N_PAIRED",
    "N_POINTS",
    "NothingToShow",
    "contour",
    "curves",
    "dressed",
    "evaluator",
    "graph_objects",
    "history",
    "hypervolume",
    "importances",
    "loss_of",
    "paired",
    "pairs",
    "parallel",
    "pareto",
    "quietly",
    "reference_of",
    "require",
    "require_several",
    "slices",
    "study_of_curves",
    "study_of_front",
    "study_of_volumes",
    "target_of",
]

# Trials that a plot can bear: a line a trial, a point in each of many panels, a row and a column of a grid each.
N_LINES, N_POINTS, N_GRID, N_CURVES = 300, 1000, 100, 100
# Its own time grows with their square, or faster.
_N_VOLUMES = 1000
# Powers that an axis of a small panel has room for.
_MAX_POWERS = 4
# Parameters whose pairs are shown: the contours of more are too small to read.
N_PAIRED = 4
_PANEL_PX, _SLICE_PX, _HEIGHT_PX = 260, 190, 420


class NothingToShow(ValueError):
    """There is nothing that a plot could show, and its text says why."""


def history(view: View, objective: int = 0) -> Figure:
    """The value of each trial by its number, and for one objective the best so far."""
    require(view, 1)
    study, label = view.whole_study, view.objectives[objective]
    figure = _optuna("plot_optimization_history", study, target=target_of(view, objective), target_name=label)
    figure.update_traces(line_shape="hv", selector={"mode": "lines"})
    return dressed(figure)


def parallel(view: View) -> Figure:
    """Each trial as a line through its parameters and values: the best third, and an even draw of the others."""
    require(view, 1)
    sample = view.sample(N_LINES)
    study = view.study(sample)
    several = len(view.directions) > 1
    if several:
        with quietly():
            study.set_metric_names(view.objectives)
    name = {} if several else {"target_name": view.objectives[0]}
    figure = _optuna("plot_parallel_coordinate", study, **name)
    # Optuna's axes: a rare parameter may be in none of the sample's trials.
    shown = {name for trial in sample for name in trial.params}
    labels = [*view.objectives, *sorted(view.labels[name] for name in shown)]
    if figure.layout.xaxis.ticktext is not None:
        figure.layout.xaxis.ticktext = labels  # which Optuna has cut, in the midst of an entity maybe
    figure.update_annotations(bgcolor="rgba(255,255,255,0.85)")  # the numbers beside the axes, which lines cross
    longest = max(len(short(name)) for name in shown)
    return dressed(figure, width=max(110, 8 * longest) * len(labels))


def slices(view: View, objective: int = 0) -> Figure:
    """The value over each parameter."""
    require(view, 1)
    study, label = view.study(view.sample(N_POINTS)), view.objectives[objective]
    figure = _optuna("plot_slice", study, target=target_of(view, objective), target_name=label)
    return dressed(figure, width=_SLICE_PX * len(view.active))


def contour(view: View, objective: int = 0) -> Figure:
    """The value over each pair of the most important parameters."""
    names = pairs(view, objective)
    study, label = view.study(view.sample(N_GRID)), view.objectives[objective]
    target = target_of(view, objective)
    figure = _optuna("plot_contour", study, params=names, target=target, target_name=label)
    side = _PANEL_PX * len(names) if len(names) > 2 else 0
    return dressed(figure, width=side, height=max(_HEIGHT_PX, round(side * 0.9)))


def importances(view: View, objective: int = 0) -> Figure:
    """How much each parameter decides whether a trial is among the best tenth, by PED-ANOVA.

    References:
        Watanabe, Bansal and Hutter (2023), "PED-ANOVA: efficiently quantifying hyperparameter importance in arbitrary
        subspaces", IJCAI.
    """
    require(view, 2)
    figure = _optuna(
        "plot_param_importances",
        view.study(view.draw(N_POINTS)),
        evaluator=evaluator(),
        target=loss_of(view, objective),
        target_name=view.objectives[objective],
    )
    return dressed(figure, height=max(260, 90 + 34 * len(view.active)))


def curves(view: View) -> Figure:
    """What trials reported on their way, those of lower fidelity and those that were stopped early too."""
    figure = _optuna("plot_intermediate_values", study_of_curves(view))
    figure.update_traces(line_width=1.2, marker_size=4, opacity=0.7)  # of a hundred of them each is to be seen
    return dressed(figure)


def pareto(view: View) -> Figure:
    """The values of two or three objectives against each other, and those that no other trial beats."""
    figure = _optuna("plot_pareto_front", study_of_front(view), target_names=view.objectives)
    return dressed(figure, height=520, width=520 if len(view.directions) > 2 else 0)


def hypervolume(view: View) -> Figure:
    """How much of the space of values the front dominates, as the search went on."""
    study = study_of_volumes(view)
    return dressed(_optuna("plot_hypervolume_history", study, reference_point=reference_of(view)))


def study_of_curves(view: View) -> optuna.Study:
    """The best of the trials that reported something, those that run, and an even draw of the others."""
    # As pruned ones those that run are drawn as far as they have come.
    running = [replace(trial, state=TrialState.PRUNED) for trial in view.running if trial.curve]
    told = [trial for trial in view.trials if trial.curve and trial.state in (TrialState.COMPLETED, TrialState.PRUNED)]
    told += running
    if not told:
        raise NothingToShow("No trial that runs, completed or was stopped early has reported a value on its way.")
    best = {trial.number for trial in (*best_first(told, view.directions)[: N_CURVES // 2], *running[: N_CURVES // 2])}
    others = [trial for trial in told if trial.number not in best]
    shown = best | {trial.number for trial in evenly(others, N_CURVES - len(best))}
    return view.study([trial for trial in told if trial.number in shown], curves=True)


def study_of_front(view: View) -> optuna.Study:
    """A sample that the whole front is in."""
    require_several(view)
    if len(view.directions) > 3:
        raise NothingToShow(
            f"Fronts of two and three objectives can be drawn, and there are {len(view.directions)}: see their "
            "parallel coordinates, and the table of the front."
        )
    chosen = {trial.number for trial in (*view.front, *view.sample(N_POINTS))}
    return view.study([trial for trial in view.comparable if trial.number in chosen])


def study_of_volumes(view: View) -> optuna.Study:
    """A sample that the whole front is in, and the last trial; what never led would add nothing."""
    require_several(view)
    told = view.comparable
    step = -(-len(told) // _N_VOLUMES)
    chosen = {trial.number for trial in (*view.front, *told[::step], told[-1])}
    return view.study([trial for trial in told if trial.number in chosen])


def reference_of(view: View) -> list[float]:
    """What the hypervolume is measured from."""
    if view.reference_point is not None:
        return list(view.reference_point)
    columns = zip(*(trial.values or [] for trial in view.comparable), strict=True)
    worst = zip(columns, view.directions, strict=True)
    return [max(column) if way == "minimize" else min(column) for column, way in worst]


def evaluator() -> Any:
    """What rates parameters: PED-ANOVA, which knows conditions, and is quick."""
    return _library().importance.PedAnovaImportanceEvaluator()


def target_of(view: View, objective: int) -> Callable[[Any], float] | None:
    """How Optuna finds the value of an objective in a trial of its own; None where there is only one."""
    return None if len(view.directions) == 1 else lambda frozen: frozen.values[objective]


def dressed(figure: Figure, *, height: int = _HEIGHT_PX, width: int = 0) -> Figure:
    """A figure that is as wide as its place, in one style, and without the title that its section has.

    Args:
        figure: The figure, which is changed.
        height: In pixels.
        width: Below which it becomes unreadable, in pixels.
    """
    figure.update_layout(
        title=None,
        template="plotly_white",
        autosize=True,
        width=None,
        height=height,
        margin={"l": 60, "r": 20, "t": 30, "b": 50},
        meta={"min_width": width},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        font={"family": "system-ui, sans-serif", "size": 12},
    )
    figure.update_yaxes(automargin=True)
    figure.update_xaxes(automargin=True)
    for letter in "xy":
        _thin_ticks(figure, letter)
    return figure


def _thin_ticks(figure: Figure, letter: str) -> None:
    """Have logarithmic axes of a decade or more show its powers alone: in a small panel the digits between overlap."""
    data: dict[str, list[float]] = {}
    for trace in figure.data:
        places = getattr(trace, letter, None)
        axis = (getattr(trace, f"{letter}axis", None) or letter).replace(letter, f"{letter}axis")
        data.setdefault(axis, []).extend(place for place in ([] if places is None else places) if _is_above_0(place))
    for name, places in data.items():
        axis = figure.layout[name]
        if axis.type == "log" and places and max(places) >= 10 * min(places):
            n_decades = math.log10(max(places) / min(places))
            axis.update(dtick=math.ceil(n_decades / _MAX_POWERS), exponentformat="power")


def _is_above_0(place: Any) -> bool:
    return isinstance(place, int | float) and place > 0


def graph_objects() -> Any:
    """Plotly's figures.

    Raises:
        MissingExtra: If Plotly is not installed.
    """
    try:
        import plotly.graph_objects
    except ImportError as error:
        raise MissingExtra("A plot", "plotly", "report") from error
    return plotly.graph_objects


@contextmanager
def quietly() -> Iterator[None]:
    """Keep warnings of the libraries that draw out of the user's log: that something is experimental, or to come."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _optuna(name: str, study: Any, **options: Any) -> Figure:
    plot = getattr(_library().visualization, name)
    with quietly():
        return plot(study, **options)


def _library() -> Any:
    graph_objects()
    try:
        import optuna.visualization
    except ImportError as error:
        raise MissingExtra("A plot", "optuna", "report") from error
    return optuna


def loss_of(view: View, objective: int) -> Callable[[Any], float]:
    """A number of which less is better, whatever Optuna assumes."""
    sign = -1.0 if view.directions[objective] == "maximize" else 1.0
    return lambda frozen: sign * float(frozen.values[objective])


def paired(view: View, objective: int) -> list[str]:
    """Labels of the most important parameters that vary."""
    varied = [
        view.labels[name]
        for name in view.active
        if len({repr(trial.params[name]) for trial in view.comparable if name in trial.params}) > 1
    ]
    if len(varied) <= N_PAIRED:
        return varied
    with quietly():
        ranked = _library().importance.get_param_importances(
            view.study(view.draw(N_POINTS)),
            evaluator=evaluator(),
            target=loss_of(view, objective),
        )
    return [label for label in ranked if label in varied][:N_PAIRED]


def pairs(view: View, objective: int) -> list[str]:
    """Labels of the parameters whose pairs a contour shows.

    Raises:
        NothingToShow: If there is none.
    """
    require(view, 2)
    names = paired(view, objective)
    if len(names) < 2:
        raise NothingToShow(f"A contour needs two parameters that vary, and there is {len(names)}.")
    return names


def require(view: View, n: int) -> None:
    """Raise `NothingToShow` unless so many trials have a value that can be compared."""
    n_told = len(view.comparable)
    if n_told < n:
        of = f"of {len(view.trials)} trial(s) {n_told or 'none'} has one" if view.trials else "no trial has ended"
        raise NothingToShow(f"This needs {'a trial' if n == 1 else f'{n} trials'} with a value, and {of}.")


def require_several(view: View) -> None:
    """Raise `NothingToShow` unless there are several objectives, and a trial with values."""
    if len(view.directions) < 2:
        raise NothingToShow("A front needs several objectives, and this study has one.")
    require(view, 1)
