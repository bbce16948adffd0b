"""Several trials as one task, where an objective trains them together for less than each alone.

An objective offers that by ``fuse_key(params)``, a hashable that trials must share, or None for a trial that goes
alone; and by ``evaluate_many(params_list, contexts)``, which returns for each what the objective would have, or an
exception where that member failed. It may offer ``fuse_bytes(params)``, what a member needs in memory, and
``why_alone(params)``, why a key is None. `CannotFuse` says that members must be trained alone after all: returned, that
member; raised, all of them and those of their key that come later.

Members are trials like any other: each has its own future, which tells how it ended. What ends a group says nothing of
most of its members, so these are to run again alone (`RunAlone`):

    a member is cancelled     its task ends, and the others run alone
    the worker dies           each member has lost an attempt
    the time is up            each runs alone, with a limit of its own
    it cannot be fused        all run alone, and trials of that key always from then on
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from itertools import pairwise
from typing import Any

from hpo_spark.errors import (
    CannotFuse,
    ExecutorLost,
    HpoSparkError,
    MemoryExceeded,
    TaskCancelled,
    TaskTimeout,
)
from hpo_spark.executors.base import cancel_task, memory_of, submit_within
from hpo_spark.fuse import Fuse
from hpo_spark.objectives.evaluate import Evaluated, Evaluation
from hpo_spark.objectives.together import Together
from hpo_spark.space import Params
from hpo_spark.trial import Trial

__all__ = ["Group", "Groups", "Member", "RunAlone", "with_company", "without_torn"]

logger = logging.getLogger(__name__)

Known = Callable[[], Sequence[Sequence[float]]]

# Trials that a searcher which learns proposes at once: before it has learnt anything; and later, also as a share of
# those that have ended.
_FIRST_GROUP, _LATER_GROUP = 5, 4
_SHARE_OF_ENDED = 0.25
# Of a task's memory limit, what the members of a group may need: the libraries and the data need the rest.
_SHARE_OF_LIMIT = 0.5
# Groups of one key that fail in a row, each for a reason of its own, before no more are tried.
_MAX_IN_VAIN = 2
# A group may take so many times as long for each member as groups took before.
_SLACK = 4.0


class RunAlone(HpoSparkError, RuntimeError):
    """The group of a trial has ended without it, through no fault of the trial."""


class Groups:
    """Forms groups of trials and hands them to an executor.

    Args:
        executor: Where they run.
        evaluation: What runs for each trial.
        fuse: The options; None to leave each trial alone.
        wave: In deterministic mode, the trials that are asked for at once; else None.
        example: A configuration like those that will come.
    """

    def __init__(
        self, executor: Executor, evaluation: Evaluation, fuse: Fuse | None, wave: int | None, example: Params
    ) -> None:
        objective: Any = evaluation.objective
        offered = callable(getattr(objective, "fuse_key", None)) and callable(getattr(objective, "evaluate_many", None))
        self.fuse = fuse if offered else None
        self._executor = executor
        self._objective = objective
        self._together = Together(evaluation)
        self._wave = wave
        # Why trials of a key are not trained together.
        self._refused: dict[Hashable, str] = {}
        self._said: set[str] = set()
        # Groups of a key in a row that could not be trained.
        self._n_in_vain: Counter[Hashable] = Counter()
        # How long a member takes, by the key of its group.
        self._member_s: dict[Hashable, float] = {}
        self._lock = threading.Lock()
        # Whether there was company for any of the trials that came last: without it, none is asked for.
        self._finds_company = self.fuse is not None and self._key(Trial(0, example, 0)) is not None

    def size(self, learns: bool, n_ended: int) -> int:
        """How many trials to ask for at once for each free slot.

        Args:
            learns: Whether what the searcher proposes depends on how trials ended: then few at a time teach it more.
            n_ended: Trials that have ended.
        """
        if self.fuse is None or not (self._finds_company or self._wave is not None):
            return 1
        if self._wave is not None:
            return self._wave
        if not learns:
            return self.fuse.max_group
        size = max(_LATER_GROUP, int(_SHARE_OF_ENDED * n_ended)) if n_ended else _FIRST_GROUP
        return min(self.fuse.max_group, size)

    def form(self, trials: Sequence[Trial], n_free: int) -> list[list[Trial]]:
        """Put trials that can be trained together into groups, and the others each into one of its own.

        Args:
            trials: Those that are about to be submitted.
            n_free: Slots that would else be empty: so many groups are made where the trials suffice.
        """
        if self.fuse is None:
            return [[trial] for trial in trials]
        by_key: dict[Hashable, list[Trial]] = defaultdict(list)
        keys = {trial.number: self._key(trial) for trial in trials}
        if trials:
            self._finds_company = any(key is not None for key in keys.values())
        for trial in trials:
            key = keys[trial.number]
            by_key[("alone", trial.number) if key is None else key].append(trial)
        formed = [group for members in by_key.values() for group in self._split(members, len(trials), n_free)]
        return sorted(formed, key=lambda group: group[0].number)

    def _key(self, trial: Trial) -> Hashable | None:
        # A checkpoint is taken up alone; and which repeats are submitted at once may depend on what has run before.
        if trial.parent is not None or (trial.repeat is not None and self._wave is not None):
            return None
        params = {**self._together.evaluation.fixed, **trial.params}
        try:
            own: Hashable = self._objective.fuse_key(params)
            hash(own)
        except Exception as error:  # the trial itself will tell what is wrong with its params
            self._say(f"{type(error).__name__}: {error}", trial)
            return None
        if own is None:
            why_alone = getattr(self._objective, "why_alone", None)
            self._say(str(why_alone(params)) if callable(why_alone) else "the objective has it so", trial)
            return None
        key = own, trial.fidelity, trial.repeat
        return None if key in self._refused else key

    def _say(self, reason: str, trial: Trial) -> None:
        """Tell once why trials are alone."""
        if reason not in self._said:
            self._said.add(reason)
            logger.info("trials such as trial %d are trained each alone: %s", trial.number, reason)

    def _split(self, members: list[Trial], n_all: int, n_free: int) -> list[list[Trial]]:
        """Equal parts of the trials of one key: one for each of its share of the free slots, or more for their size."""
        assert self.fuse is not None
        n_slots = 1 if self._wave is not None else max(1, round(n_free * len(members) / n_all))
        n_parts = max(-(-len(members) // self.fuse.max_group), self._n_by_memory(members), min(n_slots, len(members)))
        bounds = [index * len(members) // n_parts for index in range(n_parts + 1)]
        return [members[start:end] for start, end in pairwise(bounds) if start < end]

    def _n_by_memory(self, members: list[Trial]) -> int:
        """How many parts they make for their memory."""
        assert self.fuse is not None
        fuse_bytes = getattr(self._objective, "fuse_bytes", None)
        if not callable(fuse_bytes):
            return 1
        # In deterministic mode groups are the same wherever they run.
        limit_mb = memory_of(self._executor) if self._wave is None else None
        room_mb = self.fuse.memory_mb if limit_mb is None else min(self.fuse.memory_mb, _SHARE_OF_LIMIT * limit_mb)
        try:
            each = max(fuse_bytes({**self._together.evaluation.fixed, **trial.params}) for trial in members)
        except Exception as error:
            self._say(f"fuse_bytes failed: {type(error).__name__}: {error}", members[0])
            return len(members)
        return -(-len(members) // max(1, int(room_mb * 1e6 / max(1, each))))

    def submit(self, trials: Sequence[Trial], known: Known) -> list[Future[Evaluated]]:
        """Have the trials of one group evaluated together.

        Args:
            trials: The group, two or more.
            known: Gives the values of the trials that none beats, then and now; from any thread.
        """
        future = submit_within(self._executor, self._times_as_long(trials), self._together, trials, known())
        group = Group(self._executor, future, trials, self._learn)
        return [*group.members]

    def _times_as_long(self, trials: Sequence[Trial]) -> float:
        """How many times as long as one trial a group may take: at most as long as its members one after the other."""
        limit_s: float | None = getattr(self._executor, "task_timeout_s", None)
        member_s = self._member_s.get(self._key(trials[0]))
        if limit_s is None or member_s is None:
            return len(trials)
        return min(len(trials), 1 + _SLACK * len(trials) * member_s / limit_s)

    def _learn(self, trials: Sequence[Trial], ended: Sequence[Evaluated] | BaseException) -> None:
        """How long a member takes, and which trials are no company for one another; in some thread."""
        key = self._key(trials[0])
        with self._lock:
            if isinstance(ended, TaskTimeout):
                self._member_s.pop(key, None)
            elif isinstance(ended, CannotFuse):
                self._n_in_vain[key] += 1
                is_hopeless = ended.for_key or self._n_in_vain[key] >= _MAX_IN_VAIN
                if self._wave is None and is_hopeless:  # in deterministic mode: when a group ends depends on the clock
                    self._refused[key] = str(ended)
                self._say(str(ended), trials[0])
            elif not isinstance(ended, BaseException):
                seconds = sum(evaluated.trial.seconds or 0.0 for evaluated in ended) / len(ended)
                self._n_in_vain.pop(key, None)
                self._member_s[key] = max(seconds, self._member_s.get(key, 0.0))


class Group:
    """A task that trains several trials.

    Args:
        executor: Where it runs.
        future: Of the task, which returns what became of each.
        trials: Those that it trains.
        learn: Told how it ended.

    Attributes:
        future: The task's.
        members: The futures of its trials, in their order.
    """

    def __init__(
        self,
        executor: Executor,
        future: Future[list[Evaluated | CannotFuse]],
        trials: Sequence[Trial],
        learn: Callable[[Sequence[Trial], Any], None],
    ) -> None:
        self.future = future
        self._executor = executor
        self._trials = list(trials)
        self._learn = learn
        self._lock = threading.Lock()
        self.members = [Member(self) for _ in trials]
        future.add_done_callback(self._end)

    def cancel(self) -> None:
        """End the task, whether it runs or not."""
        cancel_task(self._executor, self.future)

    def _end(self, future: Future[list[Evaluated | CannotFuse]]) -> None:
        """The task has ended, in some thread: tell each member."""
        error = CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._learn(self._trials, error)
            if not isinstance(error, CannotFuse | CancelledError | TaskCancelled):
                logger.warning(
                    "the group of trial %d and %d others has ended without them, and each runs again alone: %s",
                    self._trials[0].number, len(self._trials) - 1, error,
                )  # fmt: skip
            for member in self.members:
                member.fail(error)
            return
        results = future.result()
        whole = [result for result in results if not isinstance(result, CannotFuse)]
        if whole:
            self._learn(self._trials, whole)
        for member, result in zip(self.members, results, strict=True):
            if isinstance(result, CannotFuse):  # which says nothing of others
                member.fail(result)
            else:
                member.set_result(result)


class Member(Future[Evaluated]):
    """The future of one trial of a group.

    Args:
        group: The group.

    Attributes:
        group: The group.
    """

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.set_running_or_notify_cancel()
        self.group = group
        self._is_cancelled = False

    def cancel(self) -> bool:
        """End this trial, and its group with it; the other members then raise `RunAlone`.

        Returns:
            False where it has ended.
        """
        if self.done():
            return False
        self._is_cancelled = True
        self.group.cancel()
        return True

    def drop(self) -> None:
        """Take note that the whole group is cancelled, and this trial is not to run alone."""
        self._is_cancelled = True

    def fail(self, error: BaseException) -> None:
        """The group has ended without a result for this trial."""
        if self._is_cancelled and isinstance(error, CancelledError | TaskCancelled):
            self.set_exception(TaskCancelled("was cancelled."))
        elif isinstance(error, CancelledError | TaskCancelled):
            self.set_exception(RunAlone("another trial of its group was cancelled"))
        elif isinstance(error, TaskTimeout | MemoryExceeded | ExecutorLost | CannotFuse):
            self.set_exception(RunAlone(f"its group {error}"))
        elif isinstance(error, BrokenExecutor | HpoSparkError):
            self.set_exception(error)
        else:
            self.set_exception(RunAlone(f"its group failed: {type(error).__name__}: {error}"))


def with_company(trials: Sequence[Trial], ended: Sequence[Trial]) -> list[list[Trial]]:
    """The groups in which trials were asked for, with those of their members that have ended since.

    The last digits of what a member comes to depend on its company.

    Args:
        trials: Those that run again.
        ended: Those that have ended.
    """
    groups: dict[Hashable, list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[("alone", trial.number) if trial.group is None else tuple(trial.group)].append(trial)
    for trial in ended:
        if trial.group is not None and tuple(trial.group) in groups:
            groups[tuple(trial.group)].append(trial.as_asked())
    return [sorted(group, key=lambda trial: trial.number) for group in groups.values()]


def without_torn(unfinished: Sequence[Trial], ended: Sequence[Trial]) -> list[Trial]:
    """The unfinished trials without those of a group of which a part only was recorded: nothing has begun it.

    They will be asked for again, and are the same in deterministic mode. What was asked for after them, in the same
    breath, goes with them.

    Args:
        unfinished: By number, with the groups in which they were asked for.
        ended: Those that have ended.
    """
    n_known = Counter(tuple(trial.group) for trial in (*unfinished, *ended) if trial.group is not None)
    begun = {tuple(trial.group) for trial in ended if trial.group is not None}
    torn = {group for group, n in n_known.items() if n < group[1] and group not in begun}
    cut = min((trial.number for trial in unfinished if trial.group and tuple(trial.group) in torn), default=None)
    last_ended = max((trial.number for trial in ended), default=-1)
    if cut is None or cut < last_ended:  # a member was cancelled or has run alone
        return [*unfinished]
    return [trial for trial in unfinished if trial.number < cut]
