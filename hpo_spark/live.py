"""Follows what trials report while they run, and renews their thresholds: files in the run folder, and no socket."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
import threading
from collections.abc import Callable
from typing import Any

from hpo_spark.place import Place
from hpo_spark.plain import dump_json, restore_float
from hpo_spark.redaction import redact
from hpo_spark.reporting import FOLDER, THRESHOLDS
from hpo_spark.storage import Storage

__all__ = ["Live", "reported_so_far"]

logger = logging.getLogger(__name__)

_NAME = re.compile(r"trial-(\d+)-attempt-(\d+)\.jsonl")
_PROBE = re.compile(r"probe-[0-9a-f]+")
# The driver looks so often in the time in which it looks for requests: fresh thresholds save training.
_LOOKS = 5
# Seconds that the thread gets to end in: it may be waiting for a folder that has gone.
_GRACE_S = 5.0


class Live:
    """Follows what trials report, in a thread of its own; on the driver.

    Args:
        storage: The folder, as workers see it.
        on_report: Told a trial's number and all that it has reported, in that thread.
        thresholds: Tells what trials must reach now; None for nothing. Called in that thread.
        renews: Whether running trials get fresher thresholds.
    """

    def __init__(
        self,
        storage: Storage,
        on_report: Callable[[int, list[list[float]]], None],
        thresholds: Callable[[], dict[str, Any] | None],
        renews: bool,
    ) -> None:
        self._storage = storage
        self._on_report = on_report
        self._thresholds = thresholds
        self._renews = renews
        self.place = Place(storage, f"{FOLDER}/probe-{secrets.token_hex(8)}")
        self._ended: set[int] = set()
        # How many lines of each file are known.
        self._known: dict[str, int] = {}
        self._written: dict[str, Any] | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._follow, name="hpo-spark-live", daemon=True)

    def open(self) -> None:
        """Remove what an earlier part of the search has left, let workers write, and begin to follow."""
        self._sweep()
        self._storage.write(self.place.probe, b"hpo_spark\n", durable=False)
        self._thread.start()

    def curve_of(self, number: int) -> list[list[float]]:
        """What a trial that has left no result had reported; of several attempts the last."""
        files = [(int(match[2]), file) for file in self._files() if (match := _match(file)) and int(match[1]) == number]
        return _read(self._storage, max(files)[1]) if files else []

    def end(self, number: int, has_reported: bool) -> None:
        """A trial has ended: what it has reported is in its record now."""
        with self._lock:
            self._ended.add(number)
        for file in self._files() if has_reported else []:
            if (match := _match(file)) and int(match[1]) == number:
                self._remove(file)
        self._wake.set()

    def close(self, sweeps: bool) -> None:
        """Follow no longer, and unless the folder is somebody else's now, let workers write nothing more."""
        self._is_over = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_GRACE_S)
        if sweeps:
            self._sweep()

    def _follow(self) -> None:
        while not self._is_over:
            with contextlib.suppress(OSError):  # the folder is not to be read for a moment
                self._look()
            self._wake.wait(self._storage.look_every_s / _LOOKS)
            self._wake.clear()

    def _look(self) -> None:
        for file in self._storage.names(FOLDER):
            if (match := _match(file)) is None:
                continue
            curve, number = _read(self._storage, file), int(match[1])
            with self._lock:  # so that no later report takes the place of an ended trial's record
                if number in self._ended or len(curve) <= self._known.get(file, 0):
                    continue
                self._known[file] = len(curve)
                self._on_report(number, curve)
        if self._renews and (now := self._thresholds()) is not None and now != self._written:
            self._storage.write(THRESHOLDS, dump_json(now).encode(), durable=False)
            self._written = now

    def _files(self) -> list[str]:
        try:
            return self._storage.names(FOLDER)
        except OSError:
            return []

    def _sweep(self) -> None:
        for file in self._files():
            if _match(file) or _PROBE.fullmatch(file) or f"{FOLDER}/{file}" == THRESHOLDS:
                self._remove(file)

    def _remove(self, file: str) -> None:
        try:
            self._storage.remove(f"{FOLDER}/{file}")
        except OSError as error:
            logger.warning("%s/%s/%s cannot be removed: %s", self._storage, FOLDER, file, redact(str(error)))


def reported_so_far(storage: Storage) -> dict[int, list[list[float]]]:
    """What running trials have reported, by their numbers; of several attempts the last. From anywhere."""
    try:
        files = sorted(
            (int(match[1]), int(match[2]), file) for file in storage.names(FOLDER) if (match := _match(file))
        )
    except OSError:
        return {}
    return {number: _read(storage, file) for number, _, file in files}


def _read(storage: Storage, file: str) -> list[list[float]]:
    """What a file says, without a line that was not written whole."""
    try:
        *whole, _ = storage.read(f"{FOLDER}/{file}").decode().split("\n")
        return [[step, restore_float(value)] for step, value in map(json.loads, whole)]
    except (OSError, ValueError):
        return []


def _match(file: str) -> re.Match[str] | None:
    return _NAME.fullmatch(file)
