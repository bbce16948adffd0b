"""The thread that tells a tracker of a search: the search never waits for it, and what cannot be written is kept."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

from hpo_spark.storage import Storage
from hpo_spark.tracking.base import Outcome, StudyFacts, Tracker, cause_of
from hpo_spark.trial import Trial

__all__ = ["Follower"]

logger = logging.getLogger(__name__)

# Seconds between two tries while a tracker cannot write: from the first to the last, each twice the one before.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 1.0, 30.0
# Seconds without progress after which the end of a search waits no longer: a large model may be on its way.
_PATIENCE_S = 300.0


class Follower:
    """Has one tracker follow a search.

    Args:
        tracker: The tracker.
        facts: The search.
        folder: Its run folder; None where all is in memory.
        ended: Trials that have ended already, which may be written or not.
    """

    def __init__(self, tracker: Tracker, facts: StudyFacts, folder: Storage | None, ended: Sequence[Trial]) -> None:
        self._tracker = tracker
        self._facts = facts
        self._folder = folder
        self._pending = deque(ended)
        self._outcome: Outcome | None = None
        self._is_open = self._is_closed = self._is_abandoned = self._is_down = False
        self._pause_s = _FIRST_PAUSE_S
        self._progress = time.monotonic()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._follow, name=f"hpo-spark-{tracker.name}", daemon=True)
        self._thread.start()

    def add(self, trial: Trial) -> None:
        """A trial has ended."""
        with self._changed:
            self._pending.append(trial)
            if not self._is_down:
                self._changed.notify()

    def close(self, outcome: Outcome, max_s: float | None = None) -> None:
        """Write what is left, if that can be done now.

        Args:
            outcome: How the search ended.
            max_s: Seconds after which to wait no longer; None for as long as something is written.
        """
        with self._changed:
            self._outcome = outcome
            self._changed.notify()
        began = self._progress = time.monotonic()
        while self._thread.is_alive():
            self._thread.join(0.2)
            now = time.monotonic()
            if now - self._progress > _PATIENCE_S or (max_s is not None and now - began > max_s):
                break
        if not self._is_closed:
            self.abandon()
            self._say_what_is_left()

    def abandon(self) -> None:
        """Write nothing more."""
        with self._changed:
            self._is_abandoned = True
            self._changed.notify()

    def _follow(self) -> None:
        while not self._is_abandoned:
            with self._changed:
                if self._is_down:
                    self._changed.wait_for(lambda: self._outcome or self._is_abandoned, self._pause_s)
                elif self._is_open:
                    self._changed.wait_for(lambda: self._pending or self._outcome or self._is_abandoned)
                is_last = self._outcome is not None
            try:
                self._work()
            except Exception as error:  # whatever a server or its library raises
                self._fall(error)
                if is_last:
                    return
            if self._is_closed:
                return

    def _work(self) -> None:
        if not self._is_open:
            self._tracker.open(self._facts, self._folder, goes_on=True)
            self._is_open = True
            self._rise()
        while self._pending and not self._is_abandoned:
            self._tracker.take(self._pending[0])
            self._pending.popleft()
            self._rise()
        if self._outcome is not None and not self._pending and not self._is_abandoned:
            self._tracker.close(self._outcome)
            self._is_closed = True
            self._rise()

    def _rise(self) -> None:
        self._progress = time.monotonic()
        if self._is_down:
            logger.info("tracking: %s can be written to again", self._tracker.place)
        self._is_down = False
        self._pause_s = _FIRST_PAUSE_S

    def _fall(self, error: Exception) -> None:
        if self._is_down:
            self._pause_s = min(_LAST_PAUSE_S, 2 * self._pause_s)
        else:
            logger.warning(
                "tracking: %s cannot be written to: %s; trials go on, and it is tried again",
                self._tracker.place, cause_of(error),
            )  # fmt: skip
        self._is_down = True

    def _say_what_is_left(self) -> None:
        what = f"{len(self._pending)} trial(s) and the end of the search" if self._pending else "the end of the search"
        remedy = "" if self._folder is None else f"; write what is missing with: hpo-spark track {self._folder}"
        logger.warning("tracking: %s lacks %s%s", self._tracker.place, what, remedy)
