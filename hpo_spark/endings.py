"""What is recorded of a trial: what an error makes of it that its task ended with, and its texts without secrets."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, CancelledError
from dataclasses import replace

from hpo_spark import output
from hpo_spark.errors import ExecutorLost, TaskCancelled, TaskTimeout, WorkerCrashed
from hpo_spark.executors.outcome import report_of
from hpo_spark.objectives.evaluate import Evaluated
from hpo_spark.redaction import redact, redact_all
from hpo_spark.trial import INTERRUPTED, Trial, TrialState

__all__ = ["redacted", "without_result"]


def without_result(trial: Trial, error: BaseException, is_cancelled: bool, is_ending: bool) -> Evaluated:
    """The trial of a task that came back without one.

    Args:
        trial: As far as it is known.
        error: What its task ended with.
        is_cancelled: Whether somebody has cancelled this trial.
        is_ending: Whether the search is being cut short.
    """
    report = report_of(error)
    if report is not None:
        trial = replace(
            trial,
            host=report.host,
            started=report.started,
            seconds=report.seconds / (trial.group[1] if trial.group else 1),
            spans=[list(span) for span in report.spans],
            attempt=trial.attempt + report.n_lost,
        )
    if isinstance(error, ExecutorLost):
        trial = replace(trial, attempt=trial.attempt + error.n_attempts - 1)
    # A signal may have gone to the workers too, or have taken their cluster away.
    is_swept_away = is_ending and isinstance(error, WorkerCrashed | ExecutorLost | BrokenExecutor)
    if is_cancelled or is_swept_away or isinstance(error, CancelledError | TaskCancelled):
        text = "Cancelled." if is_cancelled else INTERRUPTED
        return Evaluated(replace(trial, state=TrialState.CANCELLED, error=text))
    state = TrialState.FAILED
    if isinstance(error, TaskTimeout):
        state = TrialState.TIMED_OUT
    elif isinstance(error, WorkerCrashed | ExecutorLost):
        state = TrialState.CRASHED
    text = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    if error.__cause__ is not None and state is TrialState.FAILED:
        text += f"\n{error.__cause__}"
    printed = report.output if report else ""
    if (tail := output.end_of(printed)) and tail not in text:
        text += f"\n\nThe end of its output:\n{tail}\n"
    return Evaluated(replace(trial, state=state, error=text), None, printed)


def redacted(evaluated: Evaluated) -> Evaluated:
    """What came back without the secrets that its texts may hold, such as the password in a URL that an error names."""
    trial, problem = evaluated.trial, evaluated.model_problem
    error = None if trial.error is None else redact(trial.error)
    return replace(
        evaluated,
        trial=replace(trial, error=error, metrics=redact_all(trial.metrics)),
        output=redact(evaluated.output),
        model_problem=None if problem is None else redact(problem),
    )
