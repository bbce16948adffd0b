"""The models of a study's best trials, and of the best one all that a user wants: itself, and its test metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from hpo_spark.final import identity_of, score_test_part, train_again
from hpo_spark.journal import StudyRecord
from hpo_spark.models import MAX_RETURNED_BYTES, Models
from hpo_spark.objectives.evaluate import Evaluated, Evaluation
from hpo_spark.redaction import redact, redact_all
from hpo_spark.results.folder import RunFolder
from hpo_spark.results.result import Result
from hpo_spark.runner import Runner
from hpo_spark.storage import Storage
from hpo_spark.trial import Trial

__all__ = ["Winner"]

logger = logging.getLogger(__name__)


class Winner:
    """Keeps the models of the trials that lead, and has ``best/`` show the best of them.

    Args:
        name: The study's.
        objective: What was asked for, as the user gave it.
        fixed: Constants that are passed to it with the params.
        seed: The study's.
        out: Run folder; None for none.
        keep_models: How many models are kept.

    Attributes:
        models: Those that are kept.
        folder: The run folder, once it is open.
    """

    def __init__(
        self, name: str, objective: Any, fixed: Mapping[str, Any], seed: int, out: Storage | None, keep_models: int
    ) -> None:
        self.models = Models(out)
        self.folder: RunFolder | None = None
        self._name = name
        self._objective = objective
        self._fixed = fixed
        self._seed = seed
        self._out = out
        self._keep_models = keep_models
        self._says_what_was_left = True
        # How the best model was trained anew, as the journal has it; None where the trial's own is the best model.
        self._refit: dict[str, Any] | None = None
        self._tested: dict[str, Any] | None = None

    def take_up(self, past: StudyRecord | None, runner: Runner) -> None:
        """Find the models of trials that have ended, and renew ``best/``: its driver may have died before it did so."""
        attempts = {} if past is None else {trial.number: trial.attempt for trial in past.ended}
        if past is not None:
            self._tested = past.tested
            if past.refit is not None and past.refit.get("best") == identity_of(runner.best):
                self._refit = past.refit
            if past.refit is not None and past.refit.get("by") == "study":  # it made up for a model that was missing
                attempts[past.refit["trial"]] = past.refit["attempt"]
        self.models.open(attempts)
        self.models.settle([trial.number for trial in runner.trials], self._keepers(runner))
        if runner.best is not None and self._refit is None:
            self._promote(runner.best)

    def end(self, trial: Trial, is_best: bool, runner: Runner) -> None:
        """Keep the model of a trial that has ended, or let go of it and of those that lead no more."""
        keepers = self._keepers(runner)
        if is_best:
            self._refit = None
            self._promote(trial)
        self.models.settle([trial.number], keepers)
        if trial.number in keepers and self.models.problem_of(trial.number):
            self._say_what_was_left(trial)

    def crown(self, runner: Runner) -> None:
        """Have ``best/`` show the winner of the repeats, and let go of the others' models.

        Where repeats are missing, it shows the search's best, whatever it showed when an earlier part of it had ended.
        """
        if not runner.repeats or runner.best is None:
            return
        if self._refit is not None and self._refit.get("best") != identity_of(runner.best):
            self._refit = None
        if self._refit is None:
            self._promote(runner.best)
        self.models.settle([trial.number for trial in runner.repeats], self._keepers(runner))

    def described(self, result: Result, best: Trial | None) -> Result:
        """The result with the models that were kept, and what is known of the best one."""
        if best is None:
            return replace(result, models=self.models.kept())
        name = self.models.name_of(best.number)
        if self._refit is not None and self.folder is not None:
            name = self.folder.best_model()
        test = {}
        if self._tested is not None and self._tested["best"] == identity_of(best):
            test = self._tested["test"]
        if self._refit is not None:
            test = self._refit.get("test") or test
        return replace(
            result, models=self.models.kept(name), refit=self._refit, test=test, model_error=self._why_none(best)
        )

    def trained(
        self,
        result: Result,
        executor: Executor,
        evaluation: Evaluation,
        best: Trial,
        record: Callable[[Mapping[str, Any]], None],
    ) -> Result:
        """The result with a model in the place of one that was never trained, since the best value was given.

        Or of one that was let go of, when an earlier end of the search had another winner.

        Args:
            result: As it is.
            executor: Where to train it.
            evaluation: What runs for a trial.
            best: The best trial.
            record: Told how it was trained.
        """
        trains_models = getattr(self._objective, "test", None) is not None and self._keep_models
        is_let_go = best.repeat is not None and self.models.problem_of(best.number) is None
        is_missing = _is_given(best) or is_let_go
        if not trains_models or not is_missing or self.models.has(best.number) or self._refit is not None:
            return result
        reason = f"the value of trial {best.number} was given, and no trial trained it"
        if is_let_go:
            reason = f"the model of trial {best.number} was not kept when the search had ended before"
        logger.info("study %s: %s: it is trained now", self._name, reason)
        try:
            evaluated: Evaluated = train_again(executor, evaluation, best)
        except KeyboardInterrupt:
            return replace(result, model_error=f"{reason}; training it now was interrupted")
        except Exception as error:
            why = redact(f"{reason}, and training it now failed: {type(error).__name__}: {error}")
            logger.warning("study %s: %s", self._name, why)
            return replace(result, model_error=why)
        trial = evaluated.trial
        self.models.receive(trial, evaluated.sent, is_wanted=True)
        if not self.models.has(trial.number):
            why = redact(trial.reason or self.models.problem_of(trial.number) or "it kept no model")
            logger.warning("study %s: %s, and training it now left no model: %s", self._name, reason, why)
            return replace(result, model_error=f"{reason}, and training it now left no model: {why}")
        self._refit = {
            "by": "study",
            "reason": reason,
            "trial": trial.number,
            "attempt": trial.attempt,
            "value": trial.value,
            "values": trial.values,
            "metrics": redact_all(trial.metrics),
            "full": False,
            "best": identity_of(best),
        }
        self._promote(best)
        record(self._refit)
        return self.described(result, best)

    def tested(self, result: Result, executor: Executor, objective: Any, best: Trial) -> Result:
        """The result with the best model's metrics on the test part: the one time that it is touched.

        Args:
            result: As it is.
            executor: Where to evaluate it.
            objective: As workers get it.
            best: The best trial.
        """
        test = getattr(objective, "test", None)
        if test is None or result.test:
            return result
        if result.models.best is None and not self.models.has(best.number):
            return replace(result, test_error=result.model_error or "no model is kept")
        params = {**self._fixed, **best.params}
        model = result.models.best or best.number
        try:
            scores = score_test_part(executor, test, result.models, model, self.models.place, params, self._seed)
        except KeyboardInterrupt:
            return replace(result, test_error="interrupted")
        except Exception as error:
            reason = redact(f"{type(error).__name__}: {error}")
            logger.warning("the test part was not evaluated: %s", reason)
            return replace(result, test_error=reason)
        if scores is None:
            return replace(result, test_error="the model's file has gone")
        return replace(result, test=scores)

    def _keepers(self, runner: Runner) -> list[int]:
        """Numbers of the ended trials whose models are kept: those of all repeats, until the winner is known."""
        chosen = [one.trial for one in runner.confirmed[:1]] or runner.repeats
        return [trial.number for trial in (*runner.leaders.trials[: self._keep_models], *chosen)]

    def _promote(self, trial: Trial) -> None:
        """Have ``best/`` show the best trial."""
        if self.folder is not None:
            self.folder.write_best(trial, self._fixed, self.models.name_of(trial.number))

    def _say_what_was_left(self, trial: Trial) -> None:
        """Say once that models do not reach the run folder, and what can be done."""
        if self._says_what_was_left:
            self._says_what_was_left = False
            logger.warning(
                "trial %d leads, and its model was left behind: %s. A model of more than %g MB is written by its "
                "worker: have --out lie on a file system that all workers share, or give a URL such as "
                "s3://bucket/folder; or train the best configuration again after the search: hpo-spark refit %s",
                trial.number, self.models.problem_of(trial.number), MAX_RETURNED_BYTES / 1e6, self._out,
            )  # fmt: skip

    def _why_none(self, best: Trial) -> str | None:
        """Why the best model is missing; None where it is there, or there is to be none."""
        if self._refit is not None or self.models.has(best.number) or not self._keep_models:
            return None
        remedy = "" if self._out is None else f"; train it again with: hpo-spark refit {self._out}"
        if (problem := self.models.problem_of(best.number)) is not None:
            return f"the model of trial {best.number} was left behind: {problem}{remedy}"
        if getattr(self._objective, "test", None) is None:
            return None
        if _is_given(best):
            return f"the value of trial {best.number} was given, and no trial trained it{remedy}"
        return f"trial {best.number} has left no model{remedy}"


def _is_given(trial: Trial) -> bool:
    """Whether a trial's value was given, and it never ran."""
    return trial.seconds is None and bool(trial.values)
