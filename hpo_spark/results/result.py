"""What a study found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpo_spark.errors import EvaluationError
from hpo_spark.exchange.frame import to_frame
from hpo_spark.exchange.optuna import to_optuna
from hpo_spark.exchange.skopt import to_skopt
from hpo_spark.losses import as_losses
from hpo_spark.models import KeptModels
from hpo_spark.results.front import front_of, hypervolume
from hpo_spark.results.measures import counts_of, slot_use
from hpo_spark.results.plotting import Plots
from hpo_spark.space import SearchSpace
from hpo_spark.stopping import count_epochs
from hpo_spark.trial import Trial

if TYPE_CHECKING:
    import optuna
    import pandas

    from hpo_spark.confirm import Confirmed

__all__ = ["Result", "best_first", "rank"]


@dataclass(frozen=True)
class Result(Plots):
    """The outcome of a study.

    Attributes:
        name: The study's name.
        directions: ``"minimize"`` or ``"maximize"``, one an objective.
        trials: All that ended, by number.
        state: ``"finished"``, ``"interrupted"``, or ``"failed"`` where no trial succeeded.
        seconds: Wall time of the search.
        slots: Trials that could run at once, at the end.
        reason: The rule that ended the search, in words.
        test: Metrics of the best trial's model on the test part; empty where there is none.
        test_error: Why the test part was not evaluated; None where it was, or there is none.
        models: The trained models that were kept.
        model_error: Why the best trial's model is missing; None where it is there, or no trial keeps one.
        refit: Of a configuration that was trained again and whose model is the best model: number of its ``trial``,
            ``value``, ``metrics`` and ``reason``; None where the best model is the best trial's own.
        versions: Of Python and the libraries that matter.
        reference_point: What a hypervolume is measured from: one value an objective, in its own unit; None for the
            worst of each among the completed trials.
        space: What was searched; None where it is not known.
        confirmed: The configurations that were trained again with other seeds, the winner first; empty where none was,
            or not all were.
        slot_seconds: The slots' time, where a search that was cut short went on with another number of them: of each
            part its slots times its seconds, together; None for ``slots`` times ``seconds``.
        objective_names: What each objective is called in plots; empty for ``value``, or ``value 0``, ``value 1``, ...
    """

    name: str
    directions: tuple[str, ...]
    trials: list[Trial]
    state: str
    seconds: float
    slots: int
    reason: str
    test: dict[str, float] = field(default_factory=dict)
    test_error: str | None = None
    models: KeptModels = field(default_factory=KeptModels, repr=False)
    model_error: str | None = None
    refit: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    reference_point: tuple[float, ...] | None = None
    space: SearchSpace | None = field(default=None, repr=False)
    confirmed: Sequence[Confirmed] = ()
    slot_seconds: float | None = None
    objective_names: tuple[str, ...] = ()

    @property
    def best_trial(self) -> Trial:
        """The trial of the best value; of several objectives the best in the first, and of equal ones the earliest.

        Where trials have fidelities, it is the best of those at the highest that any has reached. Where configurations
        were trained again, it is the winner's repeat of median value.

        Raises:
            EvaluationError: If no trial succeeded; tells the first cause.
        """
        if (best := self._best) is None:
            raise EvaluationError(self.first_cause() or f"The study has no trial: {self.reason}.")
        return best

    @property
    def best_trials(self) -> list[Trial]:
        """The trials that no other beats: the Pareto front, or for one objective those of the best value."""
        if self.confirmed:
            return [self.best_trial]
        completed = best_first(self.trials, self.directions)
        completed = [trial for trial in completed if trial.fidelity == completed[0].fidelity]
        losses = [as_losses(trial.values or [], self.directions) for trial in completed]
        return [completed[place] for place in front_of(losses)]

    @property
    def best_model(self) -> bytes | None:
        """The best trial's trained model; None where there is none.

        It is the content of a ``.keras`` file, of a ``.weights.h5`` file where Keras cannot save it as a whole, or of a
        ``.joblib`` file of scikit-learn, read when it is asked for.
        """
        best = self._best
        return self.models.read_file(self.models.best) or (None if best is None else self.models.read(best.number))

    def model_of(self, trial: Trial) -> bytes | None:
        """The model of a trial, such as one of `best_trials`; None where it was not kept."""
        return self.models.read(trial.number)

    @property
    def hypervolume(self) -> float | None:
        """How much of the space of values the Pareto front dominates, up to the reference point.

        It is in the product of the objectives' units; larger is better. None for one objective, or where no trial
        succeeded. Compare two studies by the same reference point only.
        """
        completed = [as_losses(trial.values or [], self.directions) for trial in self.trials if trial.values]
        if len(self.directions) == 1 or not completed:
            return None
        if self.reference_point is None:
            reference = tuple(map(max, zip(*completed, strict=True)))
        else:
            reference = as_losses(self.reference_point, self.directions)
        completed.sort()
        return hypervolume([completed[place] for place in front_of(completed)], reference)

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials in each state that occurs."""
        return counts_of(self.trials)

    @property
    def epochs(self) -> int:
        """Epochs trained, over all trials."""
        return count_epochs(self.trials)

    @property
    def slot_use(self) -> float:
        """Share of the slots' time in which they ran trials, in [0, 1]."""
        room = self.slots * self.seconds if self.slot_seconds is None else self.slot_seconds
        return slot_use(self.trials, room) or 0.0

    def first_cause(self) -> str | None:
        """Why the first trial without a value has none; None where all have one."""
        for trial in self.trials:
            if trial.state.is_failure:
                others = sum(other.reason == trial.reason for other in self.trials)
                n_failed = sum(other.state.is_failure for other in self.trials)
                return (
                    f"{n_failed} of {len(self.trials)} trials failed, {others} of them alike. "
                    f"Trial {trial.number}, {trial.params}, {trial.state}: {trial.error}\n"
                    "Run this configuration with SerialExecutor to debug it."
                )
        if not self.trials or self.counts.get("COMPLETED"):
            return None
        ends = " or ".join(state.lower() for state in self.counts)
        return f"All {len(self.trials)} trials were {ends}."

    def to_frame(self) -> pandas.DataFrame:
        """The trials as a pandas data frame, as `hpo_spark.exchange.frame.to_frame` makes it."""
        return to_frame(self.trials)

    def to_optuna(
        self, name: str | None = None, storage: str | optuna.storages.BaseStorage | None = None
    ) -> optuna.Study:
        """The trials as a study of Optuna, as `hpo_spark.exchange.optuna.to_optuna` makes it.

        Args:
            name: The study's there; None for its own. The storage must not have it yet.
            storage: URL such as ``sqlite:///studies.db``, or an object of Optuna's; None to keep it in memory.
        """
        return to_optuna(self.trials, self._known_space, self.directions, name or self.name, storage)

    def to_skopt(self) -> Any:
        """The trials as an `OptimizeResult` of scikit-optimize, as `hpo_spark.exchange.skopt.to_skopt` makes it."""
        return to_skopt(self.trials, self._known_space, self.directions)

    @property
    def _best(self) -> Trial | None:
        if self.confirmed:
            return self.confirmed[0].trial
        ranked = best_first(self.trials, self.directions)
        return ranked[0] if ranked else None

    def to_dict(self) -> dict[str, Any]:
        """The content of ``result.json``."""
        best = self._best
        return {
            "study": self.name,
            "state": self.state,
            "reason": self.reason,
            "directions": list(self.directions),
            "best_trial": None if best is None else self._summary(best),
            "best_trials": [self._summary(trial) for trial in self.best_trials],
            "confirmed": [one.to_dict() for one in self.confirmed],
            "hypervolume": self.hypervolume,
            "counts": self.counts,
            "trials": len(self.trials),
            "epochs": self.epochs,
            "seconds": self.seconds,
            "slots": self.slots,
            "slot_use": self.slot_use,
            "test": self.test,
            "test_error": self.test_error,
            "model_error": self.model_error,
            "refit": None if self.refit is None else {k: v for k, v in self.refit.items() if k not in ("best", "test")},
            "first_cause": self.first_cause() if best is None else None,
            "versions": self.versions,
        }

    def _summary(self, trial: Trial) -> dict[str, Any]:
        return {
            "number": trial.number,
            "params": trial.params,
            "value": trial.value,
            "values": trial.values,
            "metrics": trial.metrics,
            "seed": trial.seed,
            "model": self.models.names.get(trial.number),
        }


def rank(trial: Trial, directions: Sequence[str]) -> tuple[Any, ...]:
    """A key that sorts completed trials from best to worst: by fidelity, objective after objective, then by number."""
    fidelity = math.inf if trial.fidelity is None else trial.fidelity
    return (-fidelity, *as_losses(trial.values or [], directions), trial.number)


def best_first(trials: Sequence[Trial], directions: Sequence[str]) -> list[Trial]:
    """The search's completed trials, best first, those of the highest fidelity before all others; without repeats."""
    completed = [trial for trial in trials if trial.values and trial.repeat is None]
    return sorted(completed, key=lambda trial: rank(trial, directions))
