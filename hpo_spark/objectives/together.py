"""What a worker runs for a group of trials that are trained together: one call, and an outcome for each."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpo_spark.errors import CannotFuse
from hpo_spark.objectives.context import Context
from hpo_spark.objectives.evaluate import Evaluated, Evaluation
from hpo_spark.role import n_lost_attempts
from hpo_spark.seeds import seeded_alone
from hpo_spark.trial import Trial

__all__ = ["Together"]


@dataclass(frozen=True)
class Together:
    """Evaluates groups of trials of one study, on a worker.

    Attributes:
        evaluation: What runs for each trial alone.
    """

    evaluation: Evaluation

    def __call__(self, trials: Sequence[Trial], known: Sequence[Sequence[float]] = ()) -> list[Evaluated | CannotFuse]:
        """Evaluate the trials of a group.

        Args:
            trials: All of them.
            known: The values of the trials that none beat when these were submitted.

        Returns:
            For each what became of it, or why it must be trained alone.

        Raises:
            CannotFuse: If that goes for all of them.
        """
        trials = [replace(trial, attempt=trial.attempt + n_lost_attempts()) for trial in trials]
        # Which repeat of a configuration is the one that counts is not known before all have ended.
        among_members = trials[0].repeat is None
        keeps = functools.partial(self._keeps if among_members else self.evaluation.keeps, [*known])
        contexts = [self.evaluation.context(trial, None, keeps) for trial in trials]
        params = [{**self.evaluation.fixed, **trial.params} for trial in trials]
        started, clock = time.time(), time.perf_counter()
        objective: Any = self.evaluation.objective
        try:
            with seeded_alone(trials[0].seed):
                outcomes = list(objective.evaluate_many(params, contexts))
        except SystemExit as error:  # it must not end the program where that is this process
            raise RuntimeError(f"evaluate_many exited with {error.code!r}") from error
        if len(outcomes) != len(trials):
            raise CannotFuse(f"evaluate_many returned {len(outcomes)} outcomes for {len(trials)} trials")
        shares = _shares(contexts, time.perf_counter() - clock)
        return [
            outcome
            if isinstance(outcome, CannotFuse)
            else self.evaluation.conclude(trial, context, outcome, started, share)
            for trial, context, outcome, share in zip(trials, contexts, outcomes, shares, strict=True)
        ]

    def _keeps(self, known: list[Sequence[float]], values: Sequence[float]) -> bool:
        """Whether a member of these values keeps its model: unless an earlier trial or member beats it."""
        keeps = self.evaluation.keeps(known, values)
        if keeps:
            known.append([*values])
        return keeps


def _shares(contexts: Sequence[Context], seconds: float) -> list[float]:
    """What each member has of the time of its group: by how often it has reported, since those that end early rest."""
    steps = [max(1, len(context.curve)) for context in contexts]
    return [seconds * n / sum(steps) for n in steps]
