"""All trackers of a search, each with a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from hpo_spark.errors import ConfigError
from hpo_spark.storage import Storage
from hpo_spark.tracking.base import Outcome, StudyFacts, Tracker, cause_of
from hpo_spark.tracking.follower import Follower
from hpo_spark.trial import Trial

__all__ = ["Tracking"]

logger = logging.getLogger(__name__)

# Whoever interrupts a search does not wait for its trackers: what they lack can be written later.
_HURRIED_S = 5.0


class Tracking:
    """Has trackers follow a search.

    Args:
        trackers: The trackers; none is fine.
    """

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = list(trackers)
        self._followers: list[Follower] = []

    def check(self) -> None:
        """Find out before the search whether they can work; asks no server.

        Raises:
            MissingExtra: If a library is not installed.
            ConfigError: If one does not know what it must.
        """
        for tracker in self._trackers:
            tracker.check()

    def check_folder(self, folder: Storage | None) -> None:
        """Raise `ConfigError` if one writes to the run folder, and there is none."""
        for tracker in self._trackers:
            if tracker.needs_folder and folder is None:
                raise ConfigError(
                    f"tracking: {tracker.name} is written to the run folder, and there is none; give Study(out=...)."
                )

    def describe(self) -> list[Any]:
        """Their entries in a study file."""
        return [tracker.describe() for tracker in self._trackers]

    def forget(self, folder: Storage, trials: Sequence[Trial]) -> None:
        """Remove from the run folder what is there of another search, in whose place this one begins."""
        for tracker in self._trackers:
            try:
                tracker.forget(folder, list(trials))
            except OSError as error:
                logger.warning("tracking: %s: what is there of the old trials stays: %s", folder, cause_of(error))

    def open(self, facts: StudyFacts, folder: Storage | None, ended: Sequence[Trial]) -> None:
        """Begin to follow.

        Args:
            facts: The search.
            folder: Its run folder; None where all is in memory.
            ended: Trials that have ended already.
        """
        self._followers = [Follower(tracker, facts, folder, ended) for tracker in self._trackers]

    def add(self, trial: Trial) -> None:
        """Say that a trial has ended; returns at once. The end of a trial that will run again is none."""
        if not trial.is_unfinished:
            for follower in self._followers:
                follower.add(trial)

    def close(self, outcome: Outcome) -> None:
        """Have them write what is left, if that can be done now; Ctrl-C ends the waiting, and nothing else."""
        hurries = outcome.state == "interrupted"
        for follower in self._followers:
            try:
                follower.close(outcome, _HURRIED_S if hurries else None)
            except KeyboardInterrupt:
                hurries = True
                follower.close(outcome, 0.0)
        self._followers = []

    def abandon(self) -> None:
        """Have them write nothing more."""
        for follower in self._followers:
            follower.abandon()
        self._followers = []
