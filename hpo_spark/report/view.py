"""A search as the plots take it: studies of Optuna whose names are labels, of as many trials as a plot can bear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hpo_spark.exchange.optuna import to_optuna
from hpo_spark.losses import as_losses
from hpo_spark.parameters import Choice
from hpo_spark.plain import canonical
from hpo_spark.report.labels import for_plotly, short, unique
from hpo_spark.results.front import front_of
from hpo_spark.results.result import best_first
from hpo_spark.results.tables import format_param
from hpo_spark.space import SearchSpace
from hpo_spark.trial import Trial, TrialState

if TYPE_CHECKING:
    import optuna

__all__ = ["View", "evenly", "is_comparable", "sampled"]


@dataclass(frozen=True)
class View:
    """A search, and how it is written in plots.

    Attributes:
        trials: Those that have ended, by number.
        space: What is searched.
        directions: One an objective.
        objective_names: What each objective is called; empty for ``value``, or ``value 0``, ``value 1``, ...
        reference_point: What a hypervolume is measured from; None for the worst of each objective.
        escape: Makes a text such that the plots show it as it is.
        running: Trials that run, with what they have reported so far.
    """

    trials: Sequence[Trial]
    space: SearchSpace
    directions: Sequence[str]
    objective_names: Sequence[str] = ()
    reference_point: Sequence[float] | None = None
    escape: Callable[[str], str] = field(default=for_plotly, repr=False)
    running: Sequence[Trial] = ()

    @cached_property
    def labels(self) -> dict[str, str]:
        """Each parameter's label by its name."""
        return unique({name: name for name in self.space}, self.escape)

    @cached_property
    def objectives(self) -> list[str]:
        """Each objective's label."""
        names = list(self.objective_names)
        if len(names) != len(self.directions):
            several = len(self.directions) > 1
            names = [f"value {place}" if several else "value" for place in range(len(self.directions))]
        labels = [self.escape(short(name)) for name in names]
        return [f"{label} ({place})" if label in labels[:place] else label for place, label in enumerate(labels)]

    @cached_property
    def comparable(self) -> list[Trial]:
        """The completed trials whose values can be compared: those of the highest fidelity, no repeats; by number."""
        ranked = best_first(self.trials, self.directions)
        top = max((trial.fidelity for trial in ranked if trial.fidelity is not None), default=None)
        return sorted((trial for trial in ranked if is_comparable(trial, top)), key=lambda trial: trial.number)

    @cached_property
    def front(self) -> list[Trial]:
        """The comparable trials that no other beats, best first."""
        ranked = sorted(
            ((as_losses(trial.values or [], self.directions), trial.number, trial) for trial in self.comparable),
            key=lambda entry: entry[:2],
        )
        return [ranked[place][2] for place in front_of([losses for losses, *_ in ranked])]

    @cached_property
    def active(self) -> list[str]:
        """Names of the parameters that some comparable trial has, in the order of the space."""
        used = {name for trial in self.comparable for name in trial.params}
        return [name for name in self.space if name in used]

    def sample(self, n: int) -> list[Trial]:
        """At most so many comparable trials: the best third, and an even draw of the others."""
        return sampled(self.comparable, self.directions, n)

    def draw(self, n: int) -> list[Trial]:
        """An even draw of at most so many comparable trials, for what would be bent by more of the best."""
        return evenly(self.comparable, n)

    def study(self, trials: Sequence[Trial], *, curves: bool = False) -> optuna.Study:
        """Trials as a study of Optuna in which everything is a label.

        Args:
            trials: Some of this search's.
            curves: Whether what they reported on their way is in it.
        """
        shown = self.labelled(trials, curves=curves)
        study = to_optuna(shown, self.labelled_space, self.directions, "study")
        for trial, frozen in zip(shown, study.get_trials(deepcopy=False), strict=True):
            frozen.number = trial.number  # Optuna counts places
            frozen.user_attrs = {}  # which it would show beside each point
        return study

    def labelled(self, trials: Sequence[Trial], *, curves: bool = False) -> list[Trial]:
        """Trials whose params are labels, in `labelled_space`, without what no plot shows."""
        plain = self._written[1]
        return [
            replace(
                trial,
                params={self.labels[name]: plain(name, value) for name, value in trial.params.items()},
                metrics={},
                curve=trial.curve if curves else [],
                host=None,
                error=None,
            )
            for trial in trials
        ]

    @property
    def labelled_space(self) -> SearchSpace:
        """The space in labels."""
        return self._written[0]

    @cached_property
    def whole_study(self) -> optuna.Study:
        """All trials, each at the place of its number; only the values of comparable ones are there."""
        comparable = {trial.number: trial for trial in self.comparable}
        last = max((trial.number for trial in self.trials), default=-1)
        # A number that is missing runs still. It needs some params to stand there.
        stand_in = Trial(0, self.space.decode([0.5] * len(self.space)), 0, state=TrialState.FAILED)
        places = {trial.number: trial for trial in self.trials}
        return self.study(
            [
                comparable.get(number)
                or replace(places.get(number, stand_in), number=number, state=TrialState.FAILED, values=None)
                for number in range(last + 1)
            ]
        )

    @cached_property
    def _written(self) -> tuple[SearchSpace, Callable[[str, Any], Any]]:
        """The space in labels, and what turns a parameter's value into its label."""
        categories: dict[str, dict[str, str]] = {}
        for name in self.space:
            parameter = self.space[name]
            if isinstance(parameter, Choice) and not _is_numeric(parameter):
                texts = {canonical(value): format_param(value) for value in parameter.all_values()}
                categories[name] = unique(texts, self.escape)

        def plain(name: str, value: Any) -> Any:
            return categories[name][canonical(value)] if name in categories else value

        specs: dict[str, Any] = {}
        for name, spec in self.space.to_dict().items():
            if name in categories:
                spec["choice"] = list(categories[name].values())
            if "when" in spec:
                spec["when"] = {
                    self.labels[parent]: [plain(parent, value) for value in values]
                    for parent, values in spec["when"].items()
                }
            specs[self.labels[name]] = spec
        return SearchSpace.from_dict(specs), plain


def is_comparable(trial: Trial, fidelity: int | None) -> bool:
    """Whether a trial completed at this fidelity or its own, in the search itself and not as another's repeat."""
    return bool(trial.values) and trial.fidelity in (fidelity, None) and trial.repeat is None


def sampled(trials: Sequence[Trial], directions: Sequence[str], n: int) -> list[Trial]:
    """At most so many trials, by number: the best third, and an even draw of the others."""
    if len(trials) <= n:
        return list(trials)
    best = {trial.number for trial in best_first(trials, directions)[: n // 3]}
    others = [trial for trial in trials if trial.number not in best]
    drawn = {trial.number for trial in evenly(others, n - len(best))}
    return [trial for trial in trials if trial.number in best or trial.number in drawn]


def evenly(trials: Sequence[Trial], n: int) -> list[Trial]:
    """At most so many trials, at equal distances."""
    if len(trials) <= n:
        return list(trials)
    return [trials[place * len(trials) // n] for place in range(n)]


def _is_numeric(choice: Choice) -> bool:
    """Whether the values are different numbers, which plots put in their order."""
    values = choice.all_values()
    are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return are_numbers and len(set(values)) == len(values)
