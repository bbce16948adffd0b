"""What a trial does with what it reports: pass it on to the driver, and stop where it is behind. On its worker.

    live/trial-7-attempt-1.jsonl    what a trial has reported, a line for each time
    live/thresholds.json            what all must reach now, which the driver renews

A worker that does not see the folder goes by the thresholds that came with its trial.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Sequence
from typing import Any

from hpo_spark.errors import TrialPruned
from hpo_spark.place import Place
from hpo_spark.plain import to_finite
from hpo_spark.redaction import redact
from hpo_spark.storage import Storage
from hpo_spark.storage.local import LocalStorage
from hpo_spark.thresholds import Thresholds
from hpo_spark.trial import Trial

__all__ = ["FOLDER", "THRESHOLDS", "Reporter"]

logger = logging.getLogger(__name__)

FOLDER = "live"
THRESHOLDS = f"{FOLDER}/thresholds.json"


class Reporter:
    """Passes on what one trial reports, and stops it by its thresholds; on its worker.

    Args:
        place: The run folder; None where there is none.
        trial: The trial, with the attempt that this is.
        renews: Whether thresholds that were renewed since hold instead of those that came with the trial.
    """

    def __init__(self, place: Place | None, trial: Trial, renews: bool) -> None:
        self._place = place
        self._name = f"{FOLDER}/trial-{trial.number}-attempt-{trial.attempt}.jsonl"
        self._thresholds = None if trial.thresholds is None else Thresholds.from_dict(trial.thresholds)
        self._renews = renews
        self._is_seen: bool | None = None
        self._lines: list[str] = []
        self._seen_at: Any = None
        self._wrote_at = self._looked_at = 0.0

    def __call__(self, curve: Sequence[Sequence[float]]) -> None:
        """Pass on the last report.

        Args:
            curve: All that was reported, the last one included.

        Raises:
            TrialPruned: If the trial is to stop.
        """
        if self._place is not None and self._is_seen is not False:
            try:
                self._pass_on(self._place, curve[-1])
            except Exception as error:  # the folder's trouble is not the trial's
                logger.warning("%s/%s cannot be used here: %s", self._place.storage, FOLDER, redact(str(error)))
                self._is_seen = False
        if self._thresholds is not None and (reason := self._thresholds.reason_to_stop(curve)) is not None:
            raise TrialPruned(reason)

    def _pass_on(self, place: Place, pair: Sequence[float]) -> None:
        if self._is_seen is None and not place.is_seen():
            self._is_seen = False
            return
        is_first, self._is_seen = self._is_seen is None, True
        line = json.dumps(to_finite(list(pair))) + "\n"
        storage, now = place.storage, time.monotonic()
        if isinstance(storage, LocalStorage):
            # A trial that begins again in the same attempt has left lines there.
            with (storage.path / self._name).open("w" if is_first else "a") as file:
                file.write(line)
        else:  # where nothing can be appended to a file it is written as a whole, now and then
            self._lines.append(line)
            if now >= self._wrote_at + storage.look_every_s:
                storage.write(self._name, "".join(self._lines).encode(), durable=False)
                self._wrote_at = now
        if self._renews:
            self._renew(storage, now)

    def _renew(self, storage: Storage, now: float) -> None:
        """Take the thresholds that hold now, if there are newer ones."""
        with contextlib.suppress(FileNotFoundError, ValueError):  # there is none, or a part of one
            if isinstance(storage, LocalStorage):
                found = (storage.path / THRESHOLDS).stat()
                seen_at = found.st_mtime_ns, found.st_ino
                if seen_at == self._seen_at:
                    return
                self._seen_at = seen_at
            elif now < self._looked_at + storage.look_every_s:
                return
            self._looked_at = now
            self._thresholds = Thresholds.from_dict(json.loads(storage.read(THRESHOLDS)))
