"""All that concerns trials before they end: what they report, what stops them early, and where they may go on from."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo_spark.checkpoints import Checkpoints
from hpo_spark.live import Live
from hpo_spark.place import Place, as_seen_by_workers
from hpo_spark.pruners import Pruner
from hpo_spark.pruners.base import Curve
from hpo_spark.searchers.base import Proposal
from hpo_spark.storage import Storage
from hpo_spark.storage.local import LocalStorage
from hpo_spark.trial import Trial

__all__ = ["Midway"]

logger = logging.getLogger(__name__)

# Where thresholds are renewed they are left as they are for so many times the time that they took: of thousands of
# curves that is some 0.1 s, which would else be spent ten times a second, and once more for each trial.
_REST = 20.0


class Midway:
    """The driver's side of running trials, for one search.

    Without a run folder there is one in the machine's temporary folder while the search lasts, if it is needed.

    Args:
        storage: The run folder; None where there is none.
        pruner: What stops trials early; None for nothing.
        maximize: Whether larger values are better.
        full_fidelity: Epochs of a full training, where trials have fidelities.
        renews: Whether running trials get fresher thresholds than those that came with them.
    """

    def __init__(
        self, storage: Storage | None, pruner: Pruner | None, maximize: bool, full_fidelity: int | None, renews: bool
    ) -> None:
        self._scratch: str | None = None
        if storage is None and (pruner is not None or full_fidelity is not None):
            self._scratch = tempfile.mkdtemp(prefix="hpo_spark-")
            storage = LocalStorage(Path(self._scratch))
        self._pruner = pruner
        self._maximize = maximize
        self._curves: dict[int, Curve] = {}
        self._made: tuple[int, dict[str, Any] | None] = 0, None
        self._renews = renews
        self._rests_until = 0.0
        self._n_changes = 0
        self._is_open = False
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._checkpoints: Checkpoints | None = None
        if storage is not None:
            seen = as_seen_by_workers(storage)
            self._live = Live(seen, self._learn, self.thresholds, renews and pruner is not None)
            self._checkpoints = Checkpoints(seen)

    @property
    def place(self) -> Place | None:
        """The folder that workers may report to; None where there is none."""
        return None if self._live is None else self._live.place

    def open(self, trials: Iterable[Trial], attempts: Mapping[int, int]) -> None:
        """Begin, or go on.

        Args:
            trials: Those that have been dealt with.
            attempts: The attempt in which each trial that has ended did so, by number.
        """
        self._is_open = True
        for trial in trials:
            self._learn(trial.number, trial.curve)
        if self._checkpoints is not None:
            self._checkpoints.open(attempts)
        if self._live is not None:
            try:
                self._live.open()
            except OSError as error:
                logger.warning("running trials cannot report: %s", error)

    def thresholds(self) -> dict[str, Any] | None:
        """What a trial that begins now must reach, as plain numbers; None for nothing."""
        if self._pruner is None:
            return None
        with self._lock:
            n_changes, curves = self._n_changes, list(self._curves.values())
            if self._made[0] == n_changes or (self._renews and time.monotonic() < self._rests_until):
                return self._made[1]
        began = time.thread_time()
        made = self._pruner.thresholds(curves, self._maximize)
        plain = None if made is None else made.to_dict()
        with self._lock:
            self._made = n_changes, plain
            self._rests_until = time.monotonic() + _REST * (time.thread_time() - began)
        return plain

    def checkpoint_of(self, trial: Trial) -> str | None:
        """The file that a trial goes on from; None where it begins from the start."""
        return None if self._checkpoints is None else self._checkpoints.name_of(trial.parent)

    def epochs_of(self, trial: Trial | Proposal) -> int:
        """Epochs that a trial of a fidelity will train, 1 or more; 0 where nobody knows."""
        if trial.fidelity is None:
            return 0
        done = 0 if self._checkpoints is None else self._checkpoints.step_of(trial.parent)
        return trial.fidelity - done if done < trial.fidelity else trial.fidelity  # as `Evaluation` goes on from it

    def begin_again(self, trial: Trial) -> None:
        """A trial runs again from its beginning, in the same attempt: what it has reported so far counts no more."""
        with self._lock:
            if self._curves.pop(trial.number, None) is not None:
                self._n_changes += 1
        if self._live is not None:
            self._live.forget(trial.number)

    def curve_of(self, trial: Trial) -> list[list[float]]:
        """What a trial had reported that has left no result of its own."""
        return [] if self._live is None else self._live.curve_of(trial.number)

    def receive(self, trial: Trial, checkpoint: str | None) -> None:
        """A trial has ended and nobody knows yet."""
        if self._checkpoints is not None:
            self._checkpoints.receive(trial, checkpoint)

    def end(self, trial: Trial, outdated: Sequence[int]) -> None:
        """A trial that has ended is dealt with.

        Args:
            trial: The trial.
            outdated: Numbers of trials whose checkpoints nothing will continue from any more.
        """
        if self._live is not None:
            self._live.end(trial.number, bool(trial.curve))
        self._learn(trial.number, trial.curve)
        if self._checkpoints is not None:
            climbed = [] if trial.parent is None or trial.is_unfinished else [trial.parent]
            self._checkpoints.drop([*climbed, *outdated])

    def close(self, is_finished: bool, is_ours: bool) -> None:
        """End; where it was never opened, the folder is somebody else's, and stays as it is.

        Args:
            is_finished: Whether the search is over, and was not only cut short.
            is_ours: Whether the folder is still this driver's, and there.
        """
        is_ours = is_ours and self._is_open
        if self._live is not None:
            self._live.close(sweeps=is_ours)
        if self._checkpoints is not None and is_ours:
            self._checkpoints.close(keeps=not is_finished)
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _learn(self, number: int, curve: Sequence[Sequence[float]]) -> None:
        """Know what a trial has reported so far."""
        if curve and self._pruner is not None:
            with self._lock:
                self._curves[number] = Curve([*curve], 1.0 if self._maximize else -1.0)
                self._n_changes += 1
