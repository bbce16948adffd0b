"""What an objective may know of its trial and tell about it, besides the value that it returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from hpo_spark.checkpoints import Checkpoint
from hpo_spark.errors import TrialPruned
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
        fidelity: Epochs to train in all, with those of a checkpoint; None where the objective decides.
        last_step: The last step that the trial will report, at which it is not stopped any more, since all that it
            costs has been paid: its fidelity. An objective without one may say it; None for unknown.
        deterministic: Whether equal seeds must give equal values, even where that is slower.
        curve: What was reported so far, ``[step, value]`` pairs.
        pruned: Why the trial is stopped early; None while it is not.
        model: The serialised model that the objective kept; None for none.
        model_problem: Why there is none although the trial leads.
        kept_checkpoint: What the objective kept for a trial that goes on from this one; None for nothing.
        keeps_checkpoint: Whether a trial may go on from this one, so that `keep_checkpoint` is worth while.
    """

    def __init__(
        self,
        trial: Trial,
        study_seed: int,
        load_data: Callable[[int], Dataset] | None = None,
        keeps: Callable[[Sequence[float]], bool] = lambda values: False,
        deterministic: bool = False,
        on_report: Callable[[Sequence[Sequence[float]]], None] = lambda curve: None,
        load_checkpoint: Callable[[], Checkpoint | None] = lambda: None,
        keeps_checkpoint: bool = False,
    ) -> None:
        self.number = trial.number
        self.seed = trial.seed
        self.study_seed = study_seed
        self.shuffle_seed = study_seed if trial.repeat is None else derive_seed(study_seed, _REPEATS, trial.repeat)
        self.fidelity = trial.fidelity
        self.last_step = trial.fidelity
        self.deterministic = deterministic
        self.curve: list[list[float]] = []
        self.model: bytes | None = None
        self.model_problem: str | None = None
        self._load_data = load_data
        self._keeps = keeps
        self._on_report = on_report
        self._load_checkpoint = load_checkpoint
        self.pruned: str | None = None
        self.keeps_checkpoint = keeps_checkpoint
        self.kept_checkpoint: Checkpoint | None = None

    @cached_property
    def data(self) -> Dataset | None:
        """The objective's dataset, loaded when it is first asked for; None where the objective has none."""
        return self._load_data(self.study_seed) if self._load_data else None

    @cached_property
    def checkpoint(self) -> Checkpoint | None:
        """Where an earlier trial of this configuration ended, with ``step`` epochs trained and the ``content`` it kept.

        None where the trial begins from the start. An objective that looks at it goes on from there.
        """
        return self._load_checkpoint()

    @property
    def start(self) -> int:
        """Epochs that the trial goes on from: 0 unless the objective has looked for a checkpoint and there is one."""
        found = self.__dict__.get("checkpoint")
        return 0 if found is None else found.step

    def keep_checkpoint(self, step: int, content: bytes) -> None:
        """Keep what a trial needs that goes on from this one: weights, and the state of the optimizer.

        Args:
            step: Epochs that were trained in all.
            content: Whatever the objective can go on from.
        """
        if self.keeps_checkpoint:
            self.kept_checkpoint = Checkpoint(int(step), bytes(content))

    def report(self, step: int, value: float) -> None:
        """Record a value on the way, such as the validation accuracy after each epoch.

        Args:
            step: Counts from 0 or 1, growing; where the trial has a fidelity from 1, as the epochs that were trained.
            value: A number; not a number is recorded as such.

        Raises:
            TrialPruned: If the trial is to stop here; an objective need not catch it.
        """
        try:
            pair = [int(to_plain(step)), float(to_plain(value))]
        except (TypeError, ValueError):
            raise TypeError(f"report takes a whole step and a number, got step={step!r}, value={value!r}.") from None
        self.curve.append(pair)
        try:
            self._on_report(self.curve)
        except TrialPruned as pruned:
            if self.last_step is not None and pair[0] >= self.last_step:
                return
            self.pruned = str(pruned)
            raise

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
