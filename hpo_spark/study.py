"""A study: one search over one space, from its first trial to its result."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from hpo_spark.confirm import Confirm, check_confirm
from hpo_spark.control import Mailbox, discard_requests
from hpo_spark.data.placement import placed
from hpo_spark.describing import describe_choice, describe_objective, objective_names
from hpo_spark.determinism import check_executor, check_lookahead, check_no_clock
from hpo_spark.errors import ConfigError, StorageError
from hpo_spark.exchange.source import Source
from hpo_spark.executors.base import prestart, slots_of
from hpo_spark.executors.serial import SerialExecutor
from hpo_spark.final import identity_of
from hpo_spark.fingerprint import fingerprint
from hpo_spark.fuse import check_fuse
from hpo_spark.journal import NAME as JOURNAL
from hpo_spark.journal import Journal, Lease, StudyRecord, has_journal, read_record
from hpo_spark.known import WarmStart, read_point, read_warm_start
from hpo_spark.midway import Midway
from hpo_spark.objectives.evaluate import Evaluated, Evaluation
from hpo_spark.pickling import large_captures
from hpo_spark.pruners import Pruner
from hpo_spark.redaction import redact, redact_all
from hpo_spark.results.folder import RunFolder
from hpo_spark.results.result import Result
from hpo_spark.resuming import Changes, changes
from hpo_spark.runner import Listener, Runner
from hpo_spark.searchers import Searcher, make_searcher
from hpo_spark.signals import interrupts_answered_by
from hpo_spark.space import SearchSpace
from hpo_spark.stopping import Limits
from hpo_spark.storage import Storage, open_storage
from hpo_spark.study_options import (
    check_directions,
    check_fixed,
    check_keep_models,
    check_pruner,
    check_recordable,
    check_reference_point,
    check_seed,
    resolve_fidelity,
)
from hpo_spark.tracking import Outcome, StudyFacts, Tracking, TrackingChoice, make_trackers
from hpo_spark.trial import Trial
from hpo_spark.versions import versions
from hpo_spark.winner import Winner

__all__ = ["Callback", "Study"]

logger = logging.getLogger(__name__)

_DEFAULT_TRIALS = 60
# So many trials with one and the same error are no accident.
DEFAULT_GIVE_UP_AFTER = 10
DEFAULT_KEEP_MODELS = 10
_NOTHING = WarmStart([], None)


class Callback:
    """What a study tells its callbacks; any object with some of these methods will do.

    They are called in the thread that runs the study, one after the other. One that raises is logged and the study goes
    on.
    """

    def on_study_start(self, study: Study) -> None:
        """The search begins."""

    def on_trial_start(self, study: Study, trial: Trial) -> None:
        """A trial is being submitted."""

    def on_trial_end(self, study: Study, trial: Trial) -> None:
        """A trial ended; it is in the journal already."""

    def on_study_written(self, study: Study, result: Result) -> None:
        """The result is written; what is added to the run folder now reaches the trackers too."""

    def on_study_end(self, study: Study, result: Result) -> None:
        """The search is over and its files are written."""


class Study:
    """Searches a space for the configuration that is best for an objective.

    Args:
        space: What may be tried.
        objective: ``objective(params)`` or ``objective(params, context)``, returning a float, a tuple of floats for
            several objectives, or a dict of metrics with the key ``value``. It runs on workers.
        searcher: A name, a mapping of ``name`` and options, or a `Searcher`; None for ``"evolution"``, and for
            ``"nsga2"`` where there are several objectives.
        direction: ``"minimize"`` or ``"maximize"``; a list for several objectives.
        seed: Whole number of 0 or more that every draw follows from; None for a random one, which is recorded.
        out: Folder for the journal and the results: a local path, or the URL of any file system that fsspec knows. It
            must not hold a study yet, unless this one resumes it. None to keep all in memory.
        callbacks: Objects with methods of `Callback`, or functions ``f(study, trial)`` called at the end of each trial.
        fixed: Constants that are passed to the objective with the params.
        x0: Configurations to try first. One whose value is known is ``{"params": configuration, "value": number}``,
            with ``"values"`` for several objectives: it is taken as a trial that has ended, and not evaluated.
        warm_start: An earlier search: its run folder or its trials, a CSV file, ``storage-url#study`` of Optuna,
            ``hyperopt:PATH`` of a pickle, an `optuna.Study`, or a `hyperopt.Trials`. The searcher learns from it; of
            the configurations the best is tried first, since nothing says that the values still hold.
        pruner: What stops trials early: ``median``, ``asha`` or ``patience``, a mapping of ``name`` and options, or a
            `Pruner`; None for nothing. It goes by what the objective reports (`Context.report`).
        fidelity: ``{"min": 1, "max": 30, "eta": 3}`` to try configurations with few epochs, and train the best of them
            further: the epochs of the first rung and of a full training, and how many compete for one place on
            the next rung. Searchers with fidelities of their own (``hyperband``, ``asha``, ``dehb``) take it as theirs;
            without it their full training is the objective's ``epochs``.
        deterministic: Whether the trials are the same whatever runs them and whatever ends first: the number in flight
            is fixed then, and the searcher is told of results in the order of the trials.
        lookahead: Trials in flight in deterministic mode, 1 or more; None for 8. With fewer slots some wait, with more
            some slots stay empty.
        name: For messages and files; None for the folder's name.
        reference_point: For several objectives, what the hypervolume is measured from: one value an objective, in its
            own unit, that a trial must beat to count; None for the worst of each among the completed trials.
        keep_models: For several objectives, how many models of the front are kept, the best in the first objective
            first; for one, the best trial's is kept. 0 for none.
        confirm: Once the search has ended, train the ``top_k`` best configurations again, each as many times as
            ``repeats``, with other seeds; the best mean wins, and the best trial is then the winner's repeat of median
            value. That comes on top of the limits, or out of ``max_trials`` with ``in_budget``; for one objective; a
            mapping of the three, or a `Confirm`.
        tracking: Whom to tell of the search: ``"tensorboard"``, ``"mlflow"``,
            ``{"mlflow": {"uri": ..., "experiment": ..., "register": ...}}``, or a list of these.
        fuse: Whether trials that can be trained together are, where the objective offers that (``"auto"``), or each
            trial is trained alone (``"off"``); or a mapping of the options ``max_group``, ``memory_mb`` and ``wait_s``
            of `Fuse`.
        report: Whether to write ``report.html`` into ``out`` at the end, where the extra ``report`` is installed. One
            that cannot be drawn is a warning.
        resume: Whether to go on with the study that ``out`` holds, if it holds one. Trials that have ended are not run
            again, those that had not are, and the search goes on as if it had never stopped. Limits may have changed;
            space, objective and seed may not.
        force: With ``resume``: whether a study whose space or objective has changed begins anew in the same folder,
            with the old trials as a warm start.

    Raises:
        ConfigError: (a `ValueError`) If an argument is wrong; says which and what was expected.
    """

    def __init__(
        self,
        space: SearchSpace,
        objective: Callable[..., Any],
        searcher: str | Mapping[str, Any] | Searcher | None = None,
        direction: str | Sequence[str] = "maximize",
        seed: int | None = None,
        out: str | Path | None = None,
        callbacks: Sequence[Any] = (),
        *,
        fixed: Mapping[str, Any] | None = None,
        x0: Sequence[Mapping[str, Any]] = (),
        warm_start: Source | None = None,
        pruner: str | Mapping[str, Any] | Pruner | None = None,
        fidelity: Mapping[str, int] | None = None,
        deterministic: bool = False,
        lookahead: int | None = None,
        name: str | None = None,
        reference_point: Sequence[float] | None = None,
        keep_models: int = DEFAULT_KEEP_MODELS,
        confirm: Confirm | Mapping[str, Any] | None = None,
        tracking: TrackingChoice = None,
        fuse: Any = "auto",
        report: bool = True,
        resume: bool = False,
        force: bool = False,
    ) -> None:
        if not isinstance(space, SearchSpace):
            raise ConfigError(f"space must be a SearchSpace, got {type(space).__name__}.")
        if not callable(objective):
            raise ConfigError(f"objective must be a function of the params, got {objective!r}.")
        self.space = space
        self.objective = objective
        self.directions = check_directions(direction)
        self.reference_point = check_reference_point(reference_point, self.directions)
        self.keep_models = check_keep_models(keep_models)
        self.confirm = check_confirm(confirm, self.directions)
        self.fuse = check_fuse(fuse)
        self.out = None if out is None else open_storage(out)
        if resume and self.out is None:
            raise ConfigError("resume needs out, the run folder of the study to go on with.")
        if self.out is not None:
            check_recordable(space)
        self._resumes = resume and self.out is not None and has_journal(self.out)
        self._forces = force
        if seed is None and self._resumes and self.out is not None:
            past = read_record(self.out)
            seed = past.seed if past.study else None
        self.seed = check_seed(seed)
        self.fixed = check_fixed(fixed)
        if clash := [key for key in self.fixed if key in space]:
            raise ConfigError(f"fixed: {clash[0]!r} is a parameter of the space too; keep one of the two.")
        self.fidelity = resolve_fidelity(fidelity, searcher, objective)
        self.searcher = make_searcher(searcher, space, self.directions, self.seed, self.fidelity)
        self.pruner = check_pruner(pruner, self.directions, objective)
        self._pruner_choice = pruner
        self.callbacks = [callbacks] if callable(callbacks) else list(callbacks)
        self.name = name or (self.out.name if self.out else "study")
        self._description: Mapping[str, Any] | None = None
        self._searcher_choice = searcher
        self._lookahead = check_lookahead(deterministic, lookahead, self.searcher)
        self._x0 = [read_point(entry, space, len(self.directions)) for entry in x0]
        self._earlier_run = warm_start
        # A study that goes on has learned from it already, and its source may be gone.
        self._warm_start = _NOTHING if self._resumes else self._read_warm_start()
        self._enqueued: deque[dict[str, Any]] = deque()
        self._enqueued_by_user: list[dict[str, Any]] = []
        self._limits = Limits()
        self._lease: Lease | None = None
        self._runner: Runner | None = None
        self._is_stopped = False
        self._lock = threading.Lock()
        self._is_open = False
        self._journal: Journal | None = None
        self._folder: RunFolder | None = None
        self._winner = Winner(self.name, objective, self.fixed, self.seed, self.out, self.keep_models)
        self._midway: Midway | None = None
        self._tracking = Tracking(make_trackers(tracking))
        self._draws = report
        self._id = secrets.token_hex(8)
        self._began = time.time()
        self._is_finished = self._has_lost_folder = False

    @property
    def trials(self) -> list[Trial]:
        """The trials that have ended, by number."""
        return sorted(self._runner.trials if self._runner else [], key=lambda trial: trial.number)

    @property
    def best_trial(self) -> Trial | None:
        """The best trial so far, or the winner's repeat of median value; None while there is none."""
        return self._runner.best if self._runner else None

    @property
    def n_running(self) -> int:
        """Trials in flight."""
        return self._runner.n_running if self._runner else 0

    @property
    def n_tasks(self) -> int:
        """Tasks in flight: a trial may be several, such as the folds of a cross-validation."""
        return self._runner.n_tasks if self._runner else 0

    @property
    def n_left(self) -> int | None:
        """Trials that run or are still to come, repeats too; None where nobody knows. Limits may end it sooner."""
        return self._runner.n_left if self._runner else None

    @property
    def seconds(self) -> float:
        """For how long it has searched, the earlier parts of a search that was resumed too."""
        return self._runner.seconds if self._runner else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Until ``timeout_s`` has passed; None where there is no such limit."""
        limit = self._limits.timeout_s
        return None if limit is None else max(0.0, limit - self.seconds)

    def enqueue(self, params: Mapping[str, Any]) -> None:
        """Have a configuration tried next; from any thread, also while the study runs.

        Raises:
            SpaceError: (a `ValueError`) If it lies outside the space.
        """
        if not isinstance(params, Mapping):
            raise ConfigError(f"A configuration must be a mapping of parameter names to values, got {params!r}.")
        valid = self.space.validate(params)
        with self._lock:
            if not self._is_open:
                self._enqueued_by_user.append(valid)
                return
            if self._journal is not None:
                self._journal.enqueue(valid)
            self._enqueued.append(valid)
        if self._runner is not None:
            self._runner.wake()

    def cancel(self, number: int) -> bool:
        """End a trial that is in flight; from any thread.

        Returns:
            False where no such trial is in flight.
        """
        return self._runner.cancel(number) if self._runner else False

    def stop(self) -> None:
        """End the study once the trials that run have ended; from any thread, also before it runs."""
        self._is_stopped = True
        if self._runner:
            self._runner.stop()

    def prepare(self) -> None:
        """Find out on the driver whether the objective's data can be had, and trackers work; `run` begins with this.

        Raises:
            DataError: If it cannot.
            MissingExtra: If a tracker's library is not installed.
        """
        self._tracking.check()
        prepare = getattr(getattr(self.objective, "data", None), "prepare", None)
        if callable(prepare):
            prepare()

    def run(
        self,
        executor: Executor,
        max_trials: int | None = None,
        *,
        max_epochs: int | None = None,
        timeout_s: float | None = None,
        target: float | None = None,
        patience: int | None = None,
        max_failures: int | None = None,
        give_up_after: int | None = DEFAULT_GIVE_UP_AFTER,
    ) -> Result:
        """Search until a limit is reached, whichever comes first.

        Args:
            executor: Where trials run: any `concurrent.futures.Executor`.
            max_trials: Trials to submit. Without any limit, and with a searcher that does not end by itself, 60.
            max_epochs: Epochs to train, over all trials.
            timeout_s: Seconds after which no trial is submitted any more.
            target: Value that is good enough.
            patience: Trials in a row without improvement.
            max_failures: Trials that end without a value.
            give_up_after: The first so many trials all failed with the same error.

        Returns:
            The result, also where no trial succeeded or Ctrl-C interrupted the search; its ``state`` tells.

        Raises:
            TaskNotPicklable: If the objective cannot be sent to a worker.
            DataError: If its data cannot be had.
            BrokenExecutor: If the executor can run nothing more, as when the Spark session was stopped. Results so far
                are written, and the search can be resumed.
            StorageError: If the run folder can be written no more. What was told is in the journal.
        """
        if not callable(getattr(executor, "submit", None)):
            raise ConfigError(f"executor must be a concurrent.futures.Executor, got {executor!r}.")
        limits = Limits(max_trials, max_epochs, timeout_s, target, patience, max_failures, give_up_after)
        if self._lookahead is not None:
            check_executor(executor)
            check_no_clock({"timeout_s": timeout_s})
        if not limits.any_given and not self.searcher.ends:
            limits = replace(limits, max_trials=_DEFAULT_TRIALS)
        if self.confirm is not None:
            self.confirm.check_budget(limits.max_trials)
        self._limits = limits
        with self._lock:
            if self._runner is not None:
                raise RuntimeError("A study runs once; make another one to search again.")
            self.prepare()
            self._tracking.check_folder(self.out)
        with placed(self.objective, executor, self.seed) as objective:
            return self._run(executor, limits, objective)

    def _run(self, executor: Executor, limits: Limits, objective: Callable[..., Any]) -> Result:
        """Search with the objective as workers get it."""
        with self._lock:
            self._midway = Midway(
                self.out,
                self.pruner,
                self.directions[0] == "maximize",
                self.searcher.full_fidelity,
                renews=self._lookahead is None,
            )
            evaluation = Evaluation(
                objective,
                self.seed,
                self.fixed,
                self.directions,
                deterministic=self._lookahead is not None,
                keeps_models=self.keep_models > 0,
                place=self._winner.models.place,
                midway=self._midway.place,
                full_fidelity=self.searcher.full_fidelity,
            )
            self._runner = runner = Runner(
                self.space,
                self.directions,
                self.seed,
                self.searcher,
                executor,
                evaluation,
                limits,
                Listener(self._on_ask, self._on_result, self._on_end, self._on_idle),
                self._enqueued,
                self._midway,
                self._lookahead,
                self.confirm,
                self.fuse,
            )
        with interrupts_answered_by(self._interrupt):
            result: Result | None = None
            try:
                if not isinstance(executor, SerialExecutor | ThreadPoolExecutor):
                    evaluation.check_pickling()
                    for what in large_captures(objective):
                        logger.warning(
                            "the objective brings %s along, which every worker process unpickles and keeps: give it as "
                            "the objective's data, which a host has once, or load it inside the function", what,
                        )  # fmt: skip
                prestart(executor)
                self._open(limits, runner)
                self._tell("on_study_start")
                if self._is_stopped:
                    runner.stop()
                result = self._search(executor, runner, evaluation)
                self._draw()
                self._tell("on_study_written", result)
            finally:
                self._end_tracking(result)
                self._close()
            self._tell("on_study_end", result)
        return result

    def _interrupt(self) -> bool:
        if self._journal is not None:
            self._journal.hurry()
        return self._runner is not None and self._runner.interrupt()

    def _search(self, executor: Executor, runner: Runner, evaluation: Evaluation) -> Result:
        try:
            with self._mailbox():
                runner.run()
        except Exception as error:
            self._has_lost_folder = isinstance(error, StorageError)
            runner.reason = f"{type(error).__name__}: {error}"
            with suppress(StorageError):  # the first one tells
                self._conclude(executor, runner, evaluation, broken=error)
            raise
        return self._conclude(executor, runner, evaluation)

    def set_description(self, description: Mapping[str, Any]) -> None:
        """Say what study file the study was made from, for the run folder."""
        self._description = description

    def describe(self, limits: Limits | None = None) -> dict[str, Any]:
        """The study in the form of a study file."""
        if self._description is not None:
            return dict(self._description)
        directions = self.directions
        budget = {name: value for name, value in vars(limits or Limits()).items() if value is not None}
        return {
            "study": {
                "name": self.name,
                "direction": directions[0] if len(directions) == 1 else list(directions),
                "seed": self.seed,
                **({} if self.reference_point is None else {"reference_point": [*self.reference_point]}),
                "keep_models": self.keep_models,
                **budget,
                "deterministic": self._lookahead is not None,
                "lookahead": self._lookahead,
            },
            "space": self.space.to_dict(),
            "fixed": self.fixed,
            "x0": [
                point.params if point.values is None else {"params": point.params, "values": point.values}
                for point in self._x0
            ],
            "warm_start": redact(str(self._earlier_run)) if isinstance(self._earlier_run, str | PathLike) else None,
            "searcher": self._described_searcher(),
            "pruner": describe_choice(self._pruner_choice),
            "fidelity": None if self.fidelity is None else {**self.fidelity},
            "confirm": None if self.confirm is None else vars(self.confirm),
            "fuse": "off" if self.fuse is None else vars(self.fuse),
            "objective": describe_objective(self.objective),
            "tracking": self._tracking.describe(),
        }

    def _described_searcher(self) -> Any:
        if self._searcher_choice is not None:
            return describe_choice(self._searcher_choice)
        return (getattr(self.searcher, "searcher", None) or self.searcher).name

    def _mailbox(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.out is None else Mailbox(self.out, self)

    def check_out(self) -> None:
        """Find out whether the run folder can be written, and whether it may be; `run` begins with this.

        Raises:
            ConfigError: If it cannot; if it holds a study and this one does not resume it; or if this one differs from
                that in what must not change.
        """
        if self.out is None:
            return
        try:
            self.out.check_writable()
        except OSError as error:
            raise ConfigError(f"The run folder {self.out} cannot be written: {error.strerror or error}.") from None
        if not has_journal(self.out):
            return
        if not self._resumes:
            raise ConfigError(
                f"The folder {self.out} holds a study already, and nothing of it is overwritten: go on with it "
                f"(--resume, or hpo-spark resume {self.out}), choose another folder, or remove this one first."
            )
        self._check_past(read_record(self.out), self.describe())

    def _check_past(self, past: StudyRecord, description: Mapping[str, Any]) -> Changes:
        """How this study differs from the one of a journal.

        Raises:
            ConfigError: If it differs in what must not change, and force is not given.
        """
        found = changes(past, redact_all(description), fingerprint(self.objective))
        if found.refused and not self._forces:
            raise ConfigError(
                f"{self.out} holds a study that differs in what must not change: {'; '.join(found.refused)}. Choose "
                "another folder; or have it begin anew here, with the old trials as a warm start (--force)."
            )
        return found

    def _open(self, limits: Limits, runner: Runner) -> None:
        """Begin the record on disk or go on with it, and have runner and searcher learn what is known already."""
        past: StudyRecord | None = None
        if self.out is not None:
            self.check_out()
            try:
                self._lease = Lease(self.out, self._lose_lease)
                self._lease.acquire(waits=self._resumes)
                discard_requests(self.out)
                past = self._open_journal(self.out, self.describe(limits), runner.slots)
            except StorageError:  # of the journal, which has said what is wrong
                raise
            except OSError as error:
                raise StorageError(
                    f"The run folder {self.out} cannot be written: {redact(str(error.strerror or error))}. The search "
                    "has not begun; mend the cause, and begin it again."
                ) from error
        taught = self._warm_start if past is None else self._taught_before(past)
        asked = () if past is None else (*past.ended, *past.unfinished)
        known = {self.space.key(trial.params) for trial in asked}
        wanted = [point.params for point in self._x0 if point.values is None]
        wanted += [] if taught.best is None else [taught.best]
        wanted += [] if past is None else past.enqueued
        with self._lock:
            for params in self._enqueued_by_user:
                if self._journal is not None:
                    self._journal.enqueue(params)
            wanted += self._enqueued_by_user
            self._enqueued.extend(params for params in wanted if self.space.key(params) not in known)
            self._is_open = True
        if past is not None and asked:
            runner.take_up(
                past.ended, past.unfinished, taught.trials, past.n_dealt_with, past.seconds, past.slot_seconds or 0.0
            )
            logger.info(
                "%s goes on: %d trials have ended, %d run again", self.out, len(past.ended), len(past.unfinished)
            )
        else:
            for trial in taught.trials:
                self.searcher.tell(trial)
        self._winner.take_up(past, runner)
        if self._midway is not None:
            attempts = {} if past is None else {trial.number: trial.attempt for trial in past.ended}
            self._midway.open(runner.trials, attempts)
        facts = StudyFacts(
            self._id, self.name, self.directions, self.space, redact_all(self.describe(limits)), self._began
        )
        self._tracking.open(facts, self.out, [] if past is None else past.ended)
        for point in self._x0:
            if point.values is not None:
                runner.record(point.params, point.values)

    def _read_warm_start(self) -> WarmStart:
        if self._earlier_run is None:
            return _NOTHING
        return read_warm_start(self._earlier_run, self.space, self.directions)

    def _taught_before(self, past: StudyRecord) -> WarmStart:
        """What the searcher was told at its start; of a study that has begun anew, what of the old one fits here."""
        try:
            return read_warm_start(past.known, self.space, self.directions) if past.known else _NOTHING
        except ConfigError as error:
            logger.warning("%s: the search begins without a warm start. %s", self.out, error)
            return _NOTHING

    def _open_journal(self, out: Storage, description: Mapping[str, Any], slots: int) -> StudyRecord | None:
        """Open the journal; what it says already, or None where the study is new."""
        past = read_record(out) if has_journal(out) else StudyRecord(JOURNAL)
        if past.torn:
            logger.warning(
                "%s ends in %d bytes that were not written as a whole; they are cut off", past.place, past.torn
            )
            out.cut_log(JOURNAL, past.size)
        found = self._check_past(past, description)
        goes_on = bool(past.study) and not found.refused
        if goes_on:
            for change in found.accepted:
                logger.info("%s goes on with a change: %s", out, change)
        elif past.study:
            what = "; ".join(found.refused)
            logger.warning("%s begins anew, and its %d trials are a warm start: %s", out, len(past.ended), what)
        source = redact_all(description.get("warm_start"))
        if self._resumes and not goes_on and (source is None or source != past.study.get("warm_start")):
            self._warm_start = self._read_warm_start()  # which the old study has not learned from
        if goes_on:
            self._id, self._began = past.id, past.began
        header = {
            "id": self._id,
            "seed": self.seed,
            "study": description,
            "fingerprint": fingerprint(self.objective),
            "versions": versions(),
            "slots": slots,
        }
        self._folder = self._winner.folder = RunFolder(out)
        self._journal = journal = Journal(out, past.check)
        self._folder.write_study(description)
        if goes_on:
            journal.resume(header)
        else:
            journal.begin(header, self._warm_start.trials)
            if past.study:
                self._folder.remove_best()
                self._tracking.forget(out, past.ended)
        if not goes_on and not past.study:
            return None
        return past if goes_on else read_record(out)

    def _lose_lease(self) -> None:
        """Somebody else runs the search now: write nothing more."""
        if self._journal is not None and self._runner is not None:
            self._journal.give_up("another driver has taken this folder over, since this one did not renew its lease")
            self._runner.wake()

    def _end_tracking(self, result: Result | None) -> None:
        """Have trackers write what is left; of a folder that is somebody else's now, nothing."""
        if not self._is_ours:
            self._tracking.abandon()
        elif self.out is not None:
            self._tracking.close(Outcome.of_folder(self.out, result.state if result else None))
        else:
            self._tracking.close(Outcome.of_result(result, self.describe()) if result else Outcome("failed"))

    def _close(self) -> None:
        if self._is_ours:
            self._winner.models.close()
        if self._midway is not None:
            self._midway.close(self._is_finished, self._is_ours and not self._has_lost_folder)
        if self._journal is not None:
            self._journal.close()
        if self._lease is not None:
            self._lease.release()

    def _on_ask(self, trial: Trial, n_dealt_with: int) -> None:
        if self._journal is not None:
            self._journal.ask(trial, n_dealt_with)
        self._tell("on_trial_start", trial)

    def _on_result(self, evaluated: Evaluated) -> None:
        if self._runner is not None and self._is_ours:
            # Before the record: a trial that has ended has its model, or never will.
            trial = evaluated.trial
            is_wanted = trial.repeat is not None or self._runner.leaders.accept(trial)
            self._winner.models.receive(trial, evaluated.sent, is_wanted)
        if self._midway is not None:
            self._midway.receive(evaluated.trial, evaluated.checkpoint)
        if self._journal is not None:
            self._journal.tell(evaluated.trial)

    def _on_idle(self) -> None:
        if self._journal is not None:
            self._journal_notes()
            self._journal.flush()

    def _journal_notes(self) -> None:
        while self._journal is not None and self.searcher.notes:
            self._journal.note(self.searcher.name, self.searcher.notes.popleft())

    def _on_end(self, evaluated: Evaluated, is_best: bool) -> None:
        trial = evaluated.trial
        if self._folder is not None and self._is_ours:
            self._folder.write_log(trial, evaluated.output)
        if self._runner is not None and self._is_ours:
            self._winner.end(trial, is_best, self._runner)
            self._tracking.add(trial)
        if self._midway is not None and self._is_ours:
            self._midway.end(trial, _drained(self.searcher.outdated))
        self._tell("on_trial_end", trial)

    @property
    def _is_ours(self) -> bool:
        """Whether nobody else has taken the run folder over."""
        return self._journal is None or not self._journal.is_taken_over

    def _conclude(
        self, executor: Executor, runner: Runner, evaluation: Evaluation, broken: Exception | None = None
    ) -> Result:
        """Write the result first without its test metrics, which a signal may prevent, and then with them."""
        if self._is_ours:
            self._winner.crown(runner)
        state = "finished" if runner.best else "failed"
        if broken is not None:
            # What breaks around the search is mended, and the search goes on; nothing of it has failed.
            state = "interrupted" if isinstance(broken, StorageError | BrokenExecutor) else "failed"
        elif runner.interrupted:
            state = "interrupted"
        self._is_finished = state == "finished"
        seconds = runner.seconds
        result = Result(
            name=self.name,
            directions=self.directions,
            trials=self.trials,
            state=state,
            seconds=seconds,
            slots=slots_of(executor),
            reason=redact(runner.reason or "finished"),
            versions=versions(),
            reference_point=self.reference_point,
            space=self.space,
            confirmed=runner.confirmed,
            slot_seconds=runner.slot_seconds(seconds),
            objective_names=objective_names(self.describe()),
        )
        result = self._winner.described(result, runner.best)
        self._write(result)
        if state == "finished" and runner.best is not None:
            result = self._winner.trained(result, executor, evaluation, runner.best, self._journal_refit)
            result = self._winner.tested(result, executor, evaluation.objective, runner.best)
            self._write(result)
        if self._journal is not None:
            self._journal_notes()
            best = identity_of(runner.best)
            times = {name: getattr(result, name) for name in ("slots", "seconds", "slot_seconds")}
            self._journal.end({"state": state, "reason": result.reason, **times, "test": result.test, "best": best})
        if result.reason.startswith(("max_failures", "give_up_after")):
            logger.warning("study %s: %s", self.name, result.first_cause())
        logger.info(
            "study %s: %s after %d trials in %.1f s: %s", self.name, state, len(result.trials), seconds, result.reason
        )
        return result

    def _journal_refit(self, refit: Mapping[str, Any]) -> None:
        if self._journal is not None:
            self._journal.refit(refit)

    def _write(self, result: Result) -> None:
        if self._folder is not None and self._is_ours:
            self._folder.write_result(result)

    def _draw(self) -> None:
        """Write the report, before the trackers are told that the search has ended."""
        if self._draws and self.out is not None and self._is_ours:
            from hpo_spark.report.write import leave_report

            leave_report(self.out)

    def _tell(self, event: str, *args: Any) -> None:
        for callback in self.callbacks:
            method = getattr(callback, event, None)
            if method is None and event == "on_trial_end" and callable(callback):
                method = callback
            if method is None:
                continue
            try:
                method(self, *args)
            except Exception:
                logger.exception("the callback %r failed in %s; the study goes on", callback, event)


def _drained(numbers: deque[int]) -> list[int]:
    """What a queue holds, which is then empty; another thread may add to it."""
    drained = []
    with suppress(IndexError):
        while True:
            drained.append(numbers.popleft())
    return drained
