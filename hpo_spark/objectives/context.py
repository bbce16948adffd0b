"""What an objective may know of its trial and tell about it, besides the value that it returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from hpo_spark.plain import to_plain
from hpo_spark.seeds import derive_seed
from hpo_spark.trial import Trial

if TYPE_CHECKING:
    from hpo_spark.data import Dataset

__all__ = ["Context"]

# Keeps the shuffles of repeat n apart from the draws of trial n.
_REPEATS = 0x4EA7


class Context:
    """The second argument of an objective.

    Attributes:
        number: The trial's number.
        seed: The trial's seed: initialisation, dropout. ``random``, numpy and Keras are seeded with it already.
        study_seed: The study's seed: what is alike for all trials, such as the validation part.
        shuffle_seed: Seed of the order of batches and of folds: the study's, and another for each repeat of a
            configuration.
        fidelity: Epochs to train in all; None where the objective decides.
        deterministic: Whether equal seeds must give equal values, even where that is slower.
        curve: What was reported so far, ``[step, value]`` pairs.
        model: The serialised model that the objective kept; None for none.
        model_problem: Why there is none although the trial leads.
    """

    def __init__(
        self,
        trial: Trial,
        study_seed: int,
        load_data: Callable[[int], Dataset] | None = None,
        keeps: Callable[[Sequence[float]], bool] = lambda values: False,
        deterministic: bool = False,
    ) -> None:
        self.number = trial.number
        self.seed = trial.seed
        self.study_seed = study_seed
        self.shuffle_seed = study_seed if trial.repeat is None else derive_seed(study_seed, _REPEATS, trial.repeat)
        self.fidelity = trial.fidelity
        self.deterministic = deterministic
        self.curve: list[list[float]] = []
        self.model: bytes | None = None
        self.model_problem: str | None = None
        self._load_data = load_data
        self._keeps = keeps

    @cached_property
    def data(self) -> Dataset | None:
        """The objective's dataset, loaded when it is first asked for; None where the objective has none."""
        return self._load_data(self.study_seed) if self._load_data else None

    def report(self, step: int, value: float) -> None:
        """Record a value on the way, such as the validation accuracy after each epoch.

        Args:
            step: Counts from 0 or 1, growing.
            value: A number; not a number is recorded as such.
        """
        try:
            pair = [int(to_plain(step)), float(to_plain(value))]
        except (TypeError, ValueError):
            raise TypeError(f"report takes a whole step and a number, got step={step!r}, value={value!r}.") from None
        self.curve.append(pair)

    def keeps_model(self, value: float | Sequence[float]) -> bool:
        """Whether a model of this value may be the best so far, and is worth `keep_model`.

        Args:
            value: What the objective is about to return; for several objectives all values.
        """
        values = list(value) if isinstance(value, Sequence) else [value]
        return all(map(math.isfinite, values)) and self._keeps(values)

    def keep_model(self, model: bytes) -> None:
        """Keep a serialised model with this trial, if no better one is known; up to 4 MB it travels with the result."""
        self.model = model

    def lose_model(self, problem: str) -> None:
        """Say why a trial that leads keeps no model; it succeeds all the same."""
        self.model_problem = problem
