"""The numbers of a trial, by name and step: what TensorBoard and MLflow draw."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_spark.describing import objective_names
from hpo_spark.results.columns import value_columns
from hpo_spark.tracking.base import StudyFacts
from hpo_spark.trial import Trial

__all__ = ["Point", "curve_name", "series_of"]


@dataclass(frozen=True)
class Point:
    """A number at a step.

    Attributes:
        step: As the objective reported it; of a final number the last one.
        value: The number, which need not be finite.
        at: Seconds since the epoch.
    """

    step: int
    value: float
    at: float


def series_of(trial: Trial, facts: StudyFacts) -> dict[str, list[Point]]:
    """The points of a trial: its values, metrics and seconds as one point each, and its curve.

    The values are ``value``, or ``value_0``, ``value_1`` for several objectives; metrics that are no numbers are left
    out.
    """
    started = facts.began if trial.started is None else trial.started
    ended = trial.ended or started
    last = int(trial.curve[-1][0]) if trial.curve else 0
    finals = {} if trial.seconds is None else {"seconds": trial.seconds}
    finals |= {name: float(value) for name, value in trial.metrics.items() if _is_number(value)}
    if trial.values:
        finals |= dict(zip(value_columns(len(facts.directions)), trial.values, strict=False))
    series = {name: [Point(last, value, ended)] for name, value in finals.items()}
    if trial.curve:
        name = curve_name(facts)
        while name in series:
            name += "_reported"
        share = (ended - started) / len(trial.curve)
        series[name] = [
            Point(int(step), float(value), started + share * (index + 1))
            for index, (step, value, *_) in enumerate(trial.curve)
        ]
    return series


def _is_number(value: object) -> bool:
    """Whether a value can be drawn; a whole number may be too large for that."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**1000)


def curve_name(facts: StudyFacts) -> str:
    """What the values are called that a trial reports on its way: ``epoch_val_accuracy``, as Keras names them."""
    is_keras = bool((facts.description.get("objective") or {}).get("metric"))
    names = objective_names(facts.description) if is_keras else ()
    return f"epoch_{names[0]}" if names else "reported"
