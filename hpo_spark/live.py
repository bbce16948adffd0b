"""Follows what trials report while they run, and renews their thresholds: files in the run folder, and no socket."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import threading
from collections.abc import Callable
from typing import Any

from hpo_spark.place import Place
from hpo_spark.plain import dump_json, restore_float
from hpo_spark.reporting import FOLDER, THRESHOLDS
from hpo_spark.shelf import Shelf
from hpo_spark.storage import Storage

__all__ = ["Live", "reported_so_far"]

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
        renews: Whether running trials get fresher thresholds. If not, nobody need know before its end what a trial
            reports, and no file is read.
    """

    def __init__(
        self,
        storage: Storage,
        on_report: Callable[[int, list[list[float]]], None],
        thresholds: Callable[[], dict[str, Any] | None],
        renews: bool,
    ) -> None:
        self._storage = storage
        self._shelf = Shelf(storage, FOLDER)
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
        """Remove what an earlier part of the search has left, let workers write, and begin to follow if need be."""
        self._sweep()
        self._storage.write(self.place.probe, b"hpo_spark\n", durable=False)
        if self._renews:
            self._thread.start()

    def curve_of(self, number: int) -> list[list[float]]:
        """What a trial that has left no result had reported; of several attempts the last."""
        files = self._files_of(number)
        return _read(self._storage, max(files)[1]) if files else []

    def forget(self, number: int) -> None:
        """What a trial has reported so far counts no more."""
        with self._lock:
            for _, file in self._files_of(number):
                self._known.pop(file, None)
                self._shelf.remove(f"{FOLDER}/{file}")

    def end(self, number: int, has_reported: bool) -> None:
        """A trial has ended: what it has reported is in its record now."""
        with self._lock:
            self._ended.add(number)
        for _, file in self._files_of(number) if has_reported else []:
            self._shelf.remove(f"{FOLDER}/{file}")
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
        if (now := self._thresholds()) is not None and now != self._written:
            self._storage.write(THRESHOLDS, dump_json(now).encode(), durable=False)
            self._written = now

    def _files_of(self, number: int) -> list[tuple[int, str]]:
        """What a trial has written, with the attempt in which it did."""
        found = ((file, _match(file)) for file in self._shelf.files())
        return [(int(match[2]), file) for file, match in found if match and int(match[1]) == number]

    def _sweep(self) -> None:
        self._shelf.sweep(lambda file: _match(file) or _PROBE.fullmatch(file) or f"{FOLDER}/{file}" == THRESHOLDS)


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
