"""The loop of a study: ask, submit, and tell as each trial ends.

    while there is room in flight: take a proposal; serve it from the record, or submit it as a trial
    when a future wakes us: record its trial, tell the searcher and the callbacks, look at the stop rules

Nothing polls: futures put themselves into one queue, and so does whoever stops the search.

In deterministic mode the number of trials in flight is fixed, and results are dealt with in the order of the trials'
numbers, each before the next ask: what the searcher knows at ask number i then depends on nothing but i.

A search that was cut short is taken up from its record: what has ended counts as if it had ended here, what had not
runs again. In deterministic mode the searcher is first told just what it knew at its last ask, and of the rest in turn.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from dataclasses import dataclass, replace
from typing import Any

from hpo_spark.confirm import Confirm, Confirmed, confirmed, missing, origin_of
from hpo_spark.endings import redacted, without_result
from hpo_spark.errors import StorageError, TaskNotPicklable, WorkerCrashed
from hpo_spark.executors.base import cancel_task, slots_of, watch_size, window_of
from hpo_spark.executors.outcome import report_of
from hpo_spark.executors.serial import SerialExecutor
from hpo_spark.fuse import Fuse
from hpo_spark.groups import Groups, RunAlone, with_company, without_torn
from hpo_spark.midway import Midway
from hpo_spark.objectives.evaluate import Evaluated, Evaluation
from hpo_spark.parts import TrialTasks
from hpo_spark.results.leaders import Leaders
from hpo_spark.searchers.ahead import Ahead
from hpo_spark.searchers.base import Proposal, Searcher
from hpo_spark.seeds import derive_seed
from hpo_spark.space import Params, SearchSpace
from hpo_spark.stopping import Limits, LimitWatch
from hpo_spark.trial import Trial, TrialState

__all__ = ["Listener", "Runner"]

logger = logging.getLogger(__name__)

# A crash may be the machine's fault, so a trial gets a second process; the same crash twice is the trial's own.
_MAX_CRASHES = 2
# Proposals in a row that are all known already before the searcher counts as finished.
_MAX_REPEATS = 10_000
# Where a trial comes from that no searcher asked for.
_ENQUEUED = {"by": "user"}
# Where one comes from whose values are known.
_KNOWN = {"by": "x0"}
# Seconds that cancelled trials get to end.
_GRACE_S = 10.0


@dataclass
class Listener:
    """Whom the loop tells: each is a function, called in the thread of the loop.

    Attributes:
        on_ask: A trial is about to be submitted, and how many trials had been dealt with when it was asked for.
        on_result: A trial ended, and nobody knows yet: the time to record it. Its texts are free of secrets.
        on_end: It is dealt with, and whether it is the best so far.
        on_idle: The loop is about to wait.
    """

    on_ask: Callable[[Trial, int], None]
    on_result: Callable[[Evaluated], None]
    on_end: Callable[[Evaluated, bool], None]
    on_idle: Callable[[], None]


class Runner:
    """One search over one executor.

    Args:
        space: What may be tried.
        directions: One an objective.
        seed: The study's seed.
        searcher: What to try next.
        executor: Where trials run.
        evaluation: What runs for each.
        limits: When to stop.
        listener: Whom to tell.
        enqueued: Configurations to try before the searcher's; others may add to it.
        midway: What concerns trials while they run.
        lookahead: Trials in flight in deterministic mode; None for as many as the executor likes, in any order.
        confirm: What to train again at the end; None for nothing.
        fuse: How trials are trained together, where the objective can do that; None for each alone.

    Attributes:
        trials: Those that have ended, in that order.
        repeats: Those of them that repeat a configuration.
        leaders: The best of the others, and for several objectives their front.
        confirmed: The configurations that were trained again, the winner first; empty until all of that has ended.
        reason: Why no trial is submitted any more, in words; None while the search goes on.
        interrupted: Whether Ctrl-C ended it.
        slots: Trials that could run at once when it began.
    """

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[str],
        seed: int,
        searcher: Searcher,
        executor: Executor,
        evaluation: Evaluation,
        limits: Limits,
        listener: Listener,
        enqueued: deque[dict[str, Any]],
        midway: Midway,
        lookahead: int | None = None,
        confirm: Confirm | None = None,
        fuse: Fuse | None = None,
    ) -> None:
        self.trials: list[Trial] = []
        self.repeats: list[Trial] = []
        self.confirmed: list[Confirmed] = []
        self.leaders = Leaders(directions)
        self.reason: str | None = None
        self.interrupted = False
        self._space = space
        self._directions = directions
        self._seed = seed
        self._searcher: Searcher | Ahead = searcher
        self._proposer = searcher
        self._executor = executor
        self._tasks = TrialTasks(executor, evaluation, self.wake)
        wave = None if lookahead is None else max(1, lookahead // 2)
        self._groups = Groups(executor, evaluation, fuse, wave, space.decode([0.5] * len(space)))
        self._limits = limits
        self._listener = listener
        self._enqueued = enqueued
        self._midway = midway
        self._lookahead = lookahead
        self._confirm = confirm
        # In deterministic mode: what has ended while a trial of a lower number runs.
        self._early: dict[int, Evaluated] = {}
        self._events: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._in_flight: dict[int, tuple[Trial, Future[Any] | None]] = {}
        self._cancelled: set[int] = set()
        self._crashes: Counter[int] = Counter()
        self._lock = threading.RLock()
        self._record: dict[str, Trial] = {}
        self._pending: dict[str, int] = {}
        self._waiting: dict[int, list[Proposal]] = defaultdict(list)
        self._is_halted = self._has_reached_limit = self._is_repeating = False
        self._looping = self._signalled = self._in_objective = self._is_ending = False
        self._next_number = self._n_submitted = 0
        self._seeds: dict[int, int] = {}
        # What was asked for and does not fit into what is left of the epochs, while others may leave some of theirs.
        self._held: Proposal | None = None
        # What a searcher that takes its time has proposed and that waits for company, and until when.
        self._proposed: list[Proposal] = []
        self._company_by: float | None = None
        # What is about to be submitted.
        self._taken: list[Trial] = []
        self._n_repeats = 0
        self._watch = LimitWatch(limits, directions[0] == "maximize", searcher.full_fidelity)
        self._unfinished_before: list[Trial] = []
        self._seconds_before = self._slot_seconds_before = 0.0
        self.slots = slots_of(executor)
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """For how long the search has run, its earlier parts included."""
        return self._seconds_before + time.monotonic() - self._started

    def slot_seconds(self, seconds: float) -> float:
        """The slots' time: of each part of the search its slots times how long it ran, together.

        Args:
            seconds: For how long the search has run.
        """
        slots = max(self.slots, slots_of(self._executor))
        return self._slot_seconds_before + slots * (seconds - self._seconds_before)

    @property
    def best(self) -> Trial | None:
        """The best trial so far, or the winner's repeat of median value; None while there is none."""
        return self.confirmed[0].trial if self.confirmed else self.leaders.best

    @property
    def n_running(self) -> int:
        """Trials in flight."""
        return len(self._in_flight)

    @property
    def n_left(self) -> int | None:
        """Trials that run or are still to come, repeats too; None where nobody knows. Limits may end it sooner."""
        to_come = [0] if self.reason is not None else []
        if (searched := self._max_searched) is not None:
            to_come.append(searched - self._n_submitted)
        if (proposals := self._proposer.n_left) is not None:
            to_come.append(proposals + len(self._enqueued))
        if not to_come:
            return None
        repeats = 0
        if self._confirm is not None and not self._is_halted:
            running = sum(trial.repeat is not None for trial, _ in list(self._in_flight.values()))
            repeats = self._confirm.n_repeats - len(self.repeats) - running
        return max(0, min(to_come)) + max(0, repeats) + self._n_open

    @property
    def _max_searched(self) -> int | None:
        """Most trials that the searcher proposes; None for no limit."""
        limit = self._limits.max_trials
        return limit if limit is None or self._confirm is None else limit - self._confirm.n_reserved

    @property
    def n_tasks(self) -> int:
        """Tasks in flight: a trial may be several."""
        with self._lock:
            return self._tasks.count([future for _, future in self._in_flight.values()])

    @property
    def _n_open(self) -> int:
        """Trials that were submitted and of which the searcher does not know how they ended."""
        return len(self._in_flight) + len(self._early) + len(self._taken)

    def run(self) -> None:
        """Search until a limit is reached, the searcher has finished, or someone stops it."""
        watch_size(self._executor, self.wake)
        searcher = self._searcher
        if isinstance(searcher, Searcher) and self._may_ask_ahead(searcher):
            self._searcher = Ahead(searcher, slots_of(self._executor) // 2, self.wake)
        try:
            self._looping = True
            self._check_limits()
            self._submit_again()
            self._fill()
            self._deal_with_early()
            while self._in_flight or self.reason is None:
                self._wait()
                self._fill()
            self._deal_with_rest()
            self._repeat_best()
        except KeyboardInterrupt:
            self.interrupted = True
            self.reason = "interrupted"
            self._end_all()
        except BaseException:
            self._end_all()
            raise
        finally:
            self._looping = False
            if isinstance(self._searcher, Ahead):
                self._searcher.close()

    def record(self, params: Params, values: Sequence[float]) -> None:
        """Take a configuration whose values are known as a trial that has ended; before `run`.

        Nobody asks for it, so that there is nothing to run again where the search is cut short here.
        """
        number, seed = self._next_number, derive_seed(self._seed, self._next_number)
        trial = Trial(number, params, seed, self._searcher.full_fidelity, origin=_KNOWN)
        if (key := self._key(trial)) in self._record or key in self._pending:
            return
        self._next_number += 1
        evaluated = Evaluated(replace(trial, state=TrialState.COMPLETED, values=list(values)))
        self._listener.on_result(evaluated)
        self._conclude(evaluated)

    def take_up(
        self,
        ended: Sequence[Trial],
        unfinished: Sequence[Trial],
        taught: Sequence[Trial],
        n_dealt_with: int,
        seconds: float,
        slot_seconds: float,
    ) -> None:
        """Go on with a search that was cut short; before `run`.

        Args:
            ended: Its trials that have ended, in that order.
            unfinished: Those that will run again, by number.
            taught: Trials of an earlier search that its searcher was told of.
            n_dealt_with: How many trials had been dealt with when it last asked for one.
            seconds: For how long it has run.
            slot_seconds: The slots' time meanwhile.
        """
        self._seconds_before, self._slot_seconds_before = seconds, slot_seconds
        if self._lookahead is not None:
            unfinished = without_torn(unfinished, ended)
        self._next_number = 1 + max((trial.number for trial in (*ended, *unfinished)), default=-1)
        self._n_submitted = sum(_counts(trial) for trial in (*ended, *unfinished))
        self._unfinished_before = list(unfinished)
        self._seeds = {trial.number: trial.seed for trial in (*ended, *unfinished)}
        dealt_with = list(ended)
        if self._lookahead is not None:
            by_number = {trial.number: trial for trial in ended}
            while n_dealt_with in by_number and by_number[n_dealt_with].origin == _KNOWN:
                n_dealt_with += 1  # they are dealt with at once, before the first ask
            dealt_with = [by_number.pop(number) for number in range(n_dealt_with)]
            self._early = {number: Evaluated(trial) for number, trial in sorted(by_number.items())}
        for trial in dealt_with:
            self.trials.append(trial)
            if trial.repeat is not None:
                self.repeats.append(trial)
                continue
            self.leaders.add(trial)
            if trial.state is not TrialState.CANCELLED:
                self._record[self._key(trial)] = trial
            self._watch.add(trial)
            self._check_limits()
        if self._confirm is not None:
            self.confirmed = confirmed(self.trials, self._directions, self._confirm)
        asked = [evaluated.trial.as_asked() for evaluated in self._early.values()]
        pending = [trial for trial in (*unfinished, *asked) if trial.repeat is None]
        for trial in pending:
            self._pending[self._key(trial)] = trial.number
        assert isinstance(self._searcher, Searcher)
        known = [trial for trial in dealt_with if trial.repeat is None]
        self._searcher.restore([*taught, *known, *pending])

    def interrupt(self) -> bool:
        """End the search from a signal handler, once what the loop is at is done.

        Returns:
            False where the handler must raise: the objective runs in this thread, the loop does not run, or it was
            asked before.
        """
        if not self._looping or self._signalled or self._in_objective:
            return False
        self._signalled = True
        self._events.put(None)
        return True

    @property
    def _stopped(self) -> bool:
        """Whether nothing more is begun: a limit ends the search, and whoever stops it the repeats too."""
        return self._is_halted or (self._has_reached_limit and not self._is_repeating)

    def stop(self) -> None:
        """Submit no more; trials that run go on to their end, those that wait for a slot are cancelled."""
        self._is_halted = True
        self._begin_no_more("stopped by the user")

    def _begin_no_more(self, reason: str) -> None:
        with self._lock:
            self.reason = self.reason or reason
            self._tasks.drop([future for _, future in self._in_flight.values() if future is not None])
        self._events.put(None)

    def cancel(self, number: int) -> bool:
        """End one trial; False where it is not in flight."""
        with self._lock:
            if number not in self._in_flight:
                return False
            self._cancelled.add(number)
            future = self._in_flight[number][1]
        if future is not None:
            cancel_task(self._executor, future)
        return True

    def wake(self) -> None:
        """Have the loop look for new work."""
        self._events.put(None)

    def _fill(self) -> None:
        """Submit trials until enough are in flight."""
        self._ask()
        self._submit_taken()

    def _ask(self) -> None:
        """Ask for as many trials as there is room for."""
        while self.reason is None:
            room = self._room
            if (searched := self._max_searched) is not None:
                if self._n_submitted >= searched:
                    self.reason = f"max_trials={self._limits.max_trials} is reached"
                room = min(room, searched - self._n_submitted)
            if room <= 0:
                return
            proposals = self._next_proposals(room)
            if not proposals:
                if not self._n_open and not (isinstance(self._searcher, Ahead) and self._searcher.may_propose):
                    self.reason = "the searcher has finished"
                return
            for proposal in proposals:
                if self.reason is None and not self._has_epochs_for(proposal):
                    self._held = proposal
                    return
                if self.reason is None:
                    self._take(proposal)
                if self._groups.fuse is None:
                    self._submit_taken()
            if self._n_repeats >= _MAX_REPEATS and not self._n_open:
                self.reason = "the searcher proposes only what is known already"
            if self._lookahead is not None:
                self._submit_taken()

    @property
    def _room(self) -> int:
        """How many trials to ask for now."""
        size = self._groups.size(self._searcher.learns, len(self.trials))
        if self._lookahead is not None:
            room = self._lookahead - self._n_open
            wave = room if self._groups.fuse is None else size - self._next_number % size  # the same after a resume
            return wave if wave <= room else 0
        if size > 1:  # what waits at a slot for a group that runs for seconds would only know less
            return (slots_of(self._executor) - self.n_tasks) * size - len(self._taken)
        return math.ceil((window_of(self._executor) - self.n_tasks) / self._tasks.n_parts) - len(self._taken)

    def _next_proposals(self, n: int) -> list[Proposal]:
        if self._held is not None:
            held, self._held = self._held, None
            return [held]
        if self._enqueued:
            return [replace(self._searcher.adopt(self._enqueued.popleft()), origin=_ENQUEUED)]
        # One by one where epochs are counted: what does not fit must not take others with it.
        n = n if self._limits.max_epochs is None else 1
        if self._groups.fuse is None or not isinstance(self._searcher, Ahead):
            return self._searcher.ask(n)
        return self._with_company(self._searcher, self._groups.fuse.wait_s, n)

    def _with_company(self, searcher: Ahead, wait_s: float, n: int) -> list[Proposal]:
        """What a slow searcher has proposed, once that is as much as is wanted or the first has waited long enough."""
        self._proposed += searcher.ask(max(0, n - len(self._proposed)))
        if not self._proposed:
            return []
        now = time.monotonic()
        self._company_by = self._company_by or now + wait_s
        if len(self._proposed) < n and now < self._company_by and searcher.may_propose:
            return []
        proposed, self._proposed, self._company_by = self._proposed[:n], self._proposed[n:], None
        return proposed

    def _has_epochs_for(self, proposal: Proposal) -> bool:
        """Whether there are epochs left for a proposal; ends the search where there will be none."""
        running = (trial for trial, _ in self._in_flight.values())
        early = (evaluated.trial for evaluated in self._early.values())
        n_taken = sum(map(self._midway.epochs_of, (*running, *early, *self._taken)))
        if (left := self._watch.epochs_left) is None or self._midway.epochs_of(proposal) <= left - n_taken:
            return True
        if not self._n_open:
            self.reason = f"max_epochs={self._limits.max_epochs}: the next trial would need more than the {left} left"
        return False

    def _take(self, proposal: Proposal) -> None:
        """Serve a proposal from the record, have it wait for its twin that runs, or make it a trial to submit."""
        key = self._key(proposal)
        if (known := self._record.get(key)) is not None:
            self._n_repeats += 1
            self._serve(known, proposal)
        elif (twin := self._pending.get(key)) is not None:
            self._n_repeats += 1
            self._waiting[twin].append(proposal)
        else:
            self._n_repeats = 0
            number = self._next_number
            self._next_number += 1
            self._n_submitted += 1
            self._pending[key] = number
            self.confirmed = []
            trial = Trial(
                number=number,
                params=proposal.params,
                seed=self._seed_of(number, proposal.parent),
                fidelity=proposal.fidelity,
                parent=proposal.parent,
                origin=proposal.origin,
                token=proposal.token,
                thresholds=self._midway.thresholds(),
            )
            if proposal.origin == _ENQUEUED:
                self._searcher.expect(trial)
            self._taken.append(trial)

    def _seed_of(self, number: int, parent: int | None) -> int:
        """A trial's seed: its own, or its parent's, so that the two trainings are one."""
        own = derive_seed(self._seed, number)
        self._seeds[number] = own if parent is None else self._seeds.get(parent, own)
        return self._seeds[number]

    def _serve(self, known: Trial, proposal: Proposal) -> None:
        self._searcher.tell(replace(known, token=proposal.token, origin=proposal.origin))

    def _submit_taken(self) -> None:
        """Submit what was asked for; together what can be trained together."""
        trials, self._taken = self._taken, []
        groups = self._groups.form(trials, max(1, slots_of(self._executor) - self.n_tasks))
        if len(groups) == len(trials):
            for trial in trials:
                self._submit(trial)
            return
        marked = {
            trial.number: replace(trial, group=[group[0].number, len(group)] if len(group) > 1 else None)
            for group in groups
            for trial in group
        }
        for trial in trials:
            self._announce(marked[trial.number])
        for group in groups:
            self._hand_over([marked[trial.number] for trial in group])

    def _submit(self, trial: Trial) -> None:
        """Submit a trial alone."""
        self._announce(trial)
        self._hand_over([trial])

    def _announce(self, trial: Trial) -> None:
        """Tell that a trial is about to be submitted."""
        with self._lock:
            self._in_flight[trial.number] = trial, None
        self._listener.on_ask(trial, len(self.trials))

    def _hand_over(self, trials: Sequence[Trial]) -> None:
        """Hand announced trials to the executor as one task; those among them that have ended only keep company."""
        # Decided once: what is told of the refused may stop the search or cancel others, which `_follow` looks at.
        refused = {trial.number for trial in trials if trial.number in self._cancelled or self._stopped}
        for trial in (trial for trial in trials if trial.number in refused):
            with self._lock:
                announced = self._in_flight.pop(trial.number, None)
            if announced is not None:
                self._settle(self._unfinished(trial, CancelledError()))
        wanted = [trial for trial in trials if trial.number not in refused]
        if not wanted:
            return
        first = wanted[0]

        def known() -> Sequence[Sequence[float]]:
            # Of the repeats it shows at the end which one's model is wanted.
            return [] if first.repeat is not None else self.leaders.values_for(first)

        self._in_objective = isinstance(self._executor, SerialExecutor)
        if len(wanted) > 1:
            futures = self._groups.submit(wanted, known)
        else:
            futures = [self._tasks.submit(first, known, self._midway.checkpoint_of(first))]
        self._in_objective = False
        for trial, future in zip(wanted, futures, strict=True):
            self._follow(trial, future)

    def _follow(self, trial: Trial, future: Future[Evaluated]) -> None:
        """Have the loop woken when a trial has ended."""
        with self._lock:
            if trial.number not in self._in_flight:
                return
            self._in_flight[trial.number] = trial, future
            late = trial.number in self._cancelled
            if self._stopped:
                self._tasks.drop([future])
        future.add_done_callback(lambda _: self._events.put(trial.number))
        if late:
            cancel_task(self._executor, future)

    def _may_ask_ahead(self, searcher: Searcher) -> bool:
        in_this_thread = isinstance(self._executor, SerialExecutor)
        return searcher.is_slow and self._lookahead is None and not in_this_thread

    def _wait(self) -> None:
        """Sleep until something happens, and deal with it."""
        if self._events.empty():
            self._listener.on_idle()
        try:
            number = self._events.get(timeout=self._patience_s)
        except queue.Empty:
            self._check_limits()
            return
        if self._signalled:
            self._is_ending, self.reason = True, "interrupted"
            if number is not None:
                self._end(number)
            raise KeyboardInterrupt
        if number is not None:
            self._end(number)

    @property
    def _patience_s(self) -> float | None:
        """For how long nothing needs to be done unless something happens; None for ever."""
        if self.reason is not None:
            return None
        left = [] if self._limits.timeout_s is None else [self._limits.timeout_s - self.seconds]
        left += [] if self._company_by is None or self._room <= 0 else [self._company_by - time.monotonic()]
        return max(0.0, min(left)) if left else None

    def _end(self, number: int) -> None:
        """A future is done: find out what it means and tell everyone."""
        with self._lock:
            trial, future = self._in_flight.pop(number)
        assert future is not None
        error = CancelledError() if future.cancelled() else future.exception()
        if isinstance(error, TaskNotPicklable | BrokenExecutor):
            self._is_ending, self.reason = True, f"{type(error).__name__}: {error}"  # nothing is asked for any more
            self._settle(self._unfinished(trial, CancelledError()))
            raise error
        if error is None:
            self._settle(future.result())
        elif isinstance(error, RunAlone):
            if self._is_wanted(trial):
                logger.debug("trial %d runs again, alone: %s", number, error)
                self._midway.begin_again(trial)
                self._submit(replace(trial, group=None))
            else:
                self._settle(self._unfinished(trial, CancelledError()))
        elif self._may_retry(trial, error):
            # Of a group its end was told.
            level = logging.WARNING if trial.group is None else logging.DEBUG
            logger.log(level, "trial %d: %s; it runs again in a fresh process", number, error)
            report = report_of(error)
            n_lost = report.n_lost if report else 0
            self._submit(replace(trial, attempt=trial.attempt + n_lost + 1, group=None))
        else:
            self._settle(self._unfinished(trial, error))

    def _may_retry(self, trial: Trial, error: BaseException) -> bool:
        if not isinstance(error, WorkerCrashed):
            return False
        self._crashes[trial.number] += 1
        return self._crashes[trial.number] < _MAX_CRASHES and self._is_wanted(trial)

    def _is_wanted(self, trial: Trial) -> bool:
        return trial.number not in self._cancelled and not self._stopped and not self._is_ending

    def _unfinished(self, trial: Trial, error: BaseException) -> Evaluated:
        """The trial of a task that came back without one."""
        trial = replace(trial, curve=self._midway.curve_of(trial))
        return without_result(trial, error, trial.number in self._cancelled, self._is_ending)

    def _submit_again(self) -> None:
        """Run what an earlier part of the search did not finish; unless that has reached a limit since.

        In deterministic mode whatever was asked for is evaluated.
        """
        if self.reason is not None and self._lookahead is None:
            return
        # The repeats' turn comes when the search is over, where the order of the numbers does not matter.
        again = [
            replace(trial, attempt=trial.attempt + 1)
            for trial in self._unfinished_before
            if trial.repeat is None or self._lookahead is not None
        ]
        if self._stopped:
            return
        if self._lookahead is None:
            self._taken = [replace(trial, group=None) for trial in again]
            self._submit_taken()
            return
        for trial in again:
            self._announce(trial)
        for group in with_company(again, [*self.trials, *(evaluated.trial for evaluated in self._early.values())]):
            self._hand_over(group)

    def _repeat_best(self) -> None:
        """Train the best configurations again, with other seeds; unless somebody has stopped the search."""
        if self._confirm is None or self._is_halted:
            return
        self._is_repeating = True
        wanted = deque(missing(self.trials, self._directions, self._confirm))
        begun = {(trial.repeat_of, trial.repeat): trial for trial in self._unfinished_before}
        if wanted:
            logger.info("the best configurations are trained again with other seeds: %d trials", len(wanted))
        while (wanted and not self._stopped) or self._in_flight:
            while wanted and not self._stopped and self._room > 0:
                original, repeat = wanted.popleft()
                if (trial := begun.get((original.number, repeat))) is not None:
                    self._taken.append(replace(trial, attempt=trial.attempt + 1, group=None))
                    continue
                number = self._next_number
                self._next_number += 1
                seed = derive_seed(self._seed, number)
                origin = origin_of(original, repeat)
                self._taken.append(Trial(number, original.params, seed, original.fidelity, origin=origin))
            self._submit_taken()
            self._wait()
        self._deal_with_rest()
        self.confirmed = confirmed(self.trials, self._directions, self._confirm)

    def _settle(self, evaluated: Evaluated) -> None:
        """A trial has ended: record it and deal with it, in deterministic mode once its turn has come."""
        evaluated = redacted(evaluated)
        self._listener.on_result(evaluated)
        if self._lookahead is None:
            self._conclude(evaluated)
        else:
            self._early[evaluated.trial.number] = evaluated
            self._deal_with_early()

    def _deal_with_early(self) -> None:
        """Deal with what has ended and whose turn it is, and after each fill its place."""
        while (following := self._early.pop(len(self.trials), None)) is not None:
            self._conclude(following)
            self._fill()

    def _deal_with_rest(self) -> None:
        """Deal with what waited for a trial that did not end."""
        while self._early:
            self._conclude(self._early.pop(min(self._early)))

    def _conclude(self, evaluated: Evaluated) -> None:
        trial = evaluated.trial
        self.trials.append(trial)
        if trial.repeat is not None:  # the searcher has not asked for it, and no limit of the search counts it
            self.repeats.append(trial)
            self._listener.on_end(evaluated, False)
            return
        is_best = self.leaders.add(trial)
        self._listener.on_end(evaluated, is_best)
        key = self._key(trial)
        self._pending.pop(key, None)
        if trial.state is not TrialState.CANCELLED:
            self._record[key] = trial
        self._searcher.tell(trial)
        for proposal in self._waiting.pop(trial.number, []):
            self._serve(trial, proposal)
        self._watch.add(trial)
        self._check_limits()

    def _key(self, what: Trial | Proposal) -> str:
        return f"{self._space.key(what.params)}@{what.fidelity}"

    def _check_limits(self) -> None:
        if self.reason is None and (reason := self._watch.reached(self.seconds)) is not None:
            if self._lookahead is not None:
                self.reason = reason  # what was asked for is evaluated: which trials have begun depends on the clock
            else:
                self._has_reached_limit = True
                self._begin_no_more(reason)

    def _end_all(self) -> None:
        """Cancel what is in flight and record how it ended, within a grace time."""
        self.reason = self.reason or "aborted"
        self._is_halted = self._is_ending = True
        for trial, future in list(self._in_flight.values()):
            if future is not None:
                cancel_task(self._executor, future)
            else:  # it was just being submitted
                with self._lock:
                    del self._in_flight[trial.number]
                with contextlib.suppress(StorageError):
                    self._settle(self._unfinished(trial, CancelledError()))
        deadline = time.monotonic() + _GRACE_S
        while self._in_flight:
            try:
                ended = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                logger.warning("%d trial(s) did not end within %g s", len(self._in_flight), _GRACE_S)
                break
            if ended in self._in_flight:
                with contextlib.suppress(TaskNotPicklable, BrokenExecutor, StorageError):
                    self._end(ended)
        self._deal_with_rest()


def _counts(trial: Trial) -> bool:
    """Whether it is one of the trials that `max_trials` is about."""
    return trial.origin != _KNOWN and trial.repeat is None
