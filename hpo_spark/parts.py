"""Trials as tasks: each is one task of the executor, or one for each of its parts, such as the folds of one.

Parts are tasks like any other, so that those of one trial run side by side where slots are free, and those of the next
fill what they leave. Room is counted in tasks: a trial of five parts is followed by another only when some slot would
else be empty. What comes out is the same either way; where there is one slot, or a part takes hardly more time than its
way to a worker, the trial is one task.

An objective offers parts by ``n_parts``, ``evaluate_part(params, context, part)``, which returns plain data, and
``combine(outcomes)``, which returns what the objective does; and by ``train_model(params, context)``, which returns the
model's bytes, where that is trained apart from them.

    submit a task for each part; where no trial leads yet, one more that trains the model to keep
    when a part fails: cancel the others, and the trial has failed as the part has
    when all have ended: combine them; if the trial leads, submit the task that trains the model, and wait for it
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from dataclasses import replace
from typing import Any

from hpo_spark.errors import TaskCancelled, TaskNotPicklable, TaskTimeout
from hpo_spark.executors.base import cancel_task, drop_tasks, slots_of
from hpo_spark.executors.outcome import Report, report_of, reported
from hpo_spark.groups import Member
from hpo_spark.objectives.evaluate import MODEL_PART, Evaluated, Evaluation
from hpo_spark.trial import Trial, TrialState

__all__ = ["PartedTrial", "TrialTasks"]

logger = logging.getLogger(__name__)

# Seconds that a part must take, on average, to be worth a task: its way to a Spark worker and back takes 0.015.
_MIN_PART_S = 0.02
# How much of that average the latest trial is.
_SHARE_OF_LATEST = 0.3

Known = Callable[[], Sequence[Sequence[float]]]


class TrialTasks:
    """Hands trials to an executor.

    Args:
        executor: Where they run.
        evaluation: What runs for each.
        on_part: Called in some thread when a part of a trial has ended.
    """

    def __init__(self, executor: Executor, evaluation: Evaluation, on_part: Callable[[], None]) -> None:
        self.executor = executor
        self.evaluation = evaluation
        self.on_part = on_part
        self._part_s: float | None = None

    @property
    def n_parts(self) -> int:
        """How many tasks a trial will be that is submitted now; one more may train its model."""
        n_parts = self.evaluation.n_parts
        is_short = self._part_s is not None and self._part_s < _MIN_PART_S
        return 1 if is_short or slots_of(self.executor) == 1 else n_parts

    def submit(self, trial: Trial, known: Known, checkpoint: str | None = None) -> Future[Evaluated]:
        """Have a trial evaluated.

        Args:
            trial: The trial.
            known: Gives the values of the trials that none beats, then and now; from any thread.
            checkpoint: The file of the run folder that it goes on from, which a trial in parts does not; None to begin
                from the start.
        """
        future: Future[Evaluated]
        if (n_parts := self.n_parts) > 1:
            future = PartedTrial(self, trial, n_parts, known)
        else:
            future = self.executor.submit(self.evaluation, trial, known(), checkpoint)
        if self.evaluation.n_parts > 1:
            future.add_done_callback(self._learn)
        return future

    def count(self, futures: Iterable[Future[Any] | None]) -> int:
        """How many tasks of these trials have not ended; a group of trials is one."""
        futures = list(futures)
        groups = {future.group for future in futures if isinstance(future, Member)}
        alone = [future for future in futures if not isinstance(future, Member)]
        return len(groups) + sum(future.n_open if isinstance(future, PartedTrial) else 1 for future in alone)

    def drop(self, futures: Sequence[Future[Any]]) -> None:
        """Cancel those trials that do not run yet."""
        members = [future for future in futures if isinstance(future, Member)]
        for member in members:
            member.drop()
        tasks = [future for future in futures if not isinstance(future, PartedTrial | Member)]
        drop_tasks(self.executor, [*tasks, *{member.group: member.group.future for member in members}.values()])
        for future in futures:
            if isinstance(future, PartedTrial) and not future.has_begun:
                future.cancel()

    def _learn(self, future: Future[Evaluated]) -> None:
        """How long a part takes: a trial's seconds are those of all its tasks together."""
        if future.cancelled() or future.exception() is not None or (seconds := future.result().trial.seconds) is None:
            return
        part_s = seconds / self.evaluation.n_parts
        earlier_s = part_s if self._part_s is None else self._part_s
        self._part_s = _SHARE_OF_LATEST * part_s + (1 - _SHARE_OF_LATEST) * earlier_s


class PartedTrial(Future[Evaluated]):
    """The future of one trial, joined from those of its parts.

    Args:
        tasks: Who submits it.
        trial: The trial.
        n_parts: Its parts, 2 or more.
        known: Gives the values of the trials that none beats.
    """

    def __init__(self, tasks: TrialTasks, trial: Trial, n_parts: int, known: Known) -> None:
        super().__init__()
        self.set_running_or_notify_cancel()
        self._tasks = tasks
        self._trial = trial
        self._n_parts = n_parts
        self._known = known
        self._lock = threading.RLock()
        self._futures: dict[int, Future[Evaluated]] = {}
        self._open: set[int] = set()
        self._ended: dict[int, Evaluated] = {}
        self._cause: BaseException | Evaluated | None = None
        self._combined: Evaluated | None = None
        self._model: Evaluated | None = None
        # The first trials lead, if they succeed: the model need not wait for the folds.
        leads_for_sure = tasks.evaluation.trains_models and not known()
        for part in [*range(n_parts), MODEL_PART] if leads_for_sure else range(n_parts):
            self._submit(part)
        for part, future in list(self._futures.items()):
            self._watch(part, future)

    @property
    def n_open(self) -> int:
        """Tasks that have not ended."""
        return len(self._open)

    @property
    def has_begun(self) -> bool:
        """Whether any of its tasks has been taken up."""
        return any(future.running() or future.done() for future in list(self._futures.values()))

    def cancel(self) -> bool:
        """End all of its tasks; those that run too where the executor can do that.

        Returns:
            False where it has ended.
        """
        with self._lock:
            if self.done():
                return False
            self._cause = self._cause or TaskCancelled("was cancelled.")
        self._stop()
        return True

    def _submit(self, part: int, trial: Trial | None = None) -> None:
        self._open.add(part)
        evaluation, executor = self._tasks.evaluation, self._tasks.executor
        try:
            self._futures[part] = executor.submit(evaluation, trial or self._trial, (), None, part)
        except BaseException:  # it has been shut down
            self._open.discard(part)
            self._stop()
            raise

    def _watch(self, part: int, future: Future[Evaluated]) -> None:
        future.add_done_callback(lambda done: self._end(part, done))

    def _stop(self) -> None:
        for future in list(self._futures.values()):
            cancel_task(self._tasks.executor, future)

    def _end(self, part: int, future: Future[Evaluated]) -> None:
        """A part has ended, in some thread."""
        with self._lock:
            had_cause = self._cause is not None
            self._take(part, future)
            self._open.discard(part)
            must_stop = self._cause is not None and not had_cause
            model = self._advance() if not self._open or self._open == {MODEL_PART} else None
            is_over = not self._open and not self.done()
        if must_stop:
            self._stop()
        if model is not None:
            self._watch(MODEL_PART, model)
        elif is_over:
            self._conclude()
        self._tasks.on_part()

    def _take(self, part: int, future: Future[Evaluated]) -> None:
        """Note how a part has ended; the first that failed is the cause of the trial's end."""
        error = CancelledError() if future.cancelled() else future.exception()
        if part == MODEL_PART and not isinstance(error, TaskNotPicklable | BrokenExecutor):
            self._model = _model_of(self._trial, error, future)
            return
        if error is not None:
            self._cause = self._cause or error
            return
        evaluated = self._ended[part] = future.result()
        limit_s = getattr(self._tasks.executor, "task_timeout_s", None)
        if evaluated.trial.state is not TrialState.COMPLETED:
            self._cause = self._cause or evaluated
        elif limit_s is not None and self._seconds > limit_s:  # of all parts together, as of a trial in one task
            self._cause = self._cause or TaskTimeout(limit_s)

    @property
    def _seconds(self) -> float:
        return sum(evaluated.trial.seconds or 0.0 for evaluated in self._ended.values())

    def _advance(self) -> Future[Evaluated] | None:
        """Once all parts have ended: combine them, and begin to train the model if that is wanted and has not begun."""
        if self._cause is not None or self._combined is not None or len(self._ended) < self._n_parts:
            return None
        evaluation = self._tasks.evaluation
        parts = [self._ended[part] for part in range(self._n_parts)]
        self._combined = combined = evaluation.combine(self._trial, parts)
        trial = combined.trial
        leads = bool(trial.values) and evaluation.keeps(self._known(), trial.values or [])
        if MODEL_PART in self._futures or not evaluation.trains_models or not leads:
            return None
        try:
            self._submit(MODEL_PART, replace(self._trial, attempt=trial.attempt))
        except RuntimeError:  # the executor has been shut down meanwhile
            return None
        return self._futures[MODEL_PART]

    def _conclude(self) -> None:
        """All tasks have ended: say how the trial has."""
        ended = self._cause or self._combined
        assert ended is not None
        if isinstance(ended, BaseException):
            self.set_exception(self._reported(ended))
            return
        tasks = self._tasks_that_ran
        trial = replace(
            ended.trial,
            started=min((started for _, started, _ in tasks), default=None),
            seconds=sum(seconds for _, _, seconds in tasks),
            spans=[list(task) for task in tasks],
        )
        if self._model is None:
            self.set_result(replace(ended, trial=trial))
            return
        if self._model.model_name is not None:  # the file has its attempt in its name
            trial = replace(trial, attempt=self._model.trial.attempt)
        sent = self._model.sent
        self.set_result(
            replace(ended, trial=trial, model=sent.content, model_name=sent.name, model_problem=sent.problem)
        )

    @property
    def _tasks_that_ran(self) -> list[tuple[str, float, float]]:
        """Host, start and seconds of each task that came back."""
        trials = [one.trial for one in (*self._ended.values(), *([self._model] if self._model else []))]
        return [task for trial in trials for task in trial.tasks]

    def _reported(self, error: BaseException) -> BaseException:
        """The error, with what is known of all tasks that ran."""
        own = report_of(error)
        tasks = self._tasks_that_ran + ([(own.host, own.started, own.seconds)] if own else [])
        if not tasks or isinstance(error, TaskNotPicklable | BrokenExecutor):
            return error
        started, seconds = min(started for _, started, _ in tasks), sum(seconds for _, _, seconds in tasks)
        known = own or Report(tasks[0][0], started, seconds)
        return reported(error, replace(known, started=started, seconds=seconds, spans=tuple(tasks)))


def _model_of(trial: Trial, error: BaseException | None, future: Future[Evaluated]) -> Evaluated:
    """What became of the task that trained a trial's model: if it failed, the trial has its value all the same."""
    evaluated = Evaluated(trial) if error is not None else future.result()
    reason = f"{type(error).__name__}: {error}" if error is not None else evaluated.trial.reason
    if reason is None:
        return evaluated
    logger.debug("trial %d: its model could not be trained: %s", trial.number, reason)
    return replace(evaluated, model_problem=f"it could not be trained: {reason}")
