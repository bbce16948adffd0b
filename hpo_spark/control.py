"""Requests to a search that runs, as files in its run folder: ``hpo-spark stop`` writes them, the search takes them."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from typing import Protocol

from hpo_spark.errors import ConfigError
from hpo_spark.journal import read_record
from hpo_spark.storage import Storage, open_storage

__all__ = ["Mailbox", "discard_requests", "request_stop"]

_FOLDER = "control"
_STOP, _TRIAL = "stop", re.compile(r"cancel-(\d+)")
# Seconds until a search that runs must have taken a request.
_PATIENCE_S = 15.0


class Controlled(Protocol):
    """What requests are about: a `Study`."""

    def stop(self) -> None:
        """End it."""

    def cancel(self, number: int) -> bool:
        """End one of its trials."""


def request_stop(place: str | os.PathLike[str], trial: int | None = None) -> None:
    """Ask the search of a run folder to end, or to cancel one trial, and wait until it has heard.

    Args:
        place: The folder: a path or a URL.
        trial: Number of the trial; None for the search as a whole.

    Raises:
        ConfigError: If nobody runs a search there, or the trial is not running.
    """
    storage = open_storage(place)
    running = _running_trials(storage)
    if trial is not None and trial not in running:
        raise ConfigError(f"Trial {trial} of {storage} is not running; running are {sorted(running) or 'none'}.")
    letter = _STOP if trial is None else f"cancel-{trial}"
    storage.write(f"{_FOLDER}/{letter}", b"")
    deadline = time.monotonic() + _PATIENCE_S + 2 * storage.look_every_s
    try:
        while letter in storage.names(_FOLDER):
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"No search answers in {storage}: it was killed, or runs on another machine "
                    "that does not share this folder. Nothing was changed."
                )
            time.sleep(storage.look_every_s / 5)
    except BaseException:  # Ctrl-C too: it must not wait for the next search there
        storage.remove(f"{_FOLDER}/{letter}")
        raise


def discard_requests(storage: Storage) -> None:
    """Remove what was asked of an earlier search in a folder, and was never taken."""
    for letter in storage.names(_FOLDER):
        storage.remove(f"{_FOLDER}/{letter}")


class Mailbox:
    """Looks for requests, in a thread of its own, while a ``with`` block lasts.

    Args:
        storage: The run folder.
        study: Whom the requests are about.
    """

    def __init__(self, storage: Storage, study: Controlled) -> None:
        self._storage = storage
        self._study = study
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hpo-spark-control", daemon=True)

    def __enter__(self) -> Mailbox:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._storage.look_every_s):
            with contextlib.suppress(OSError):  # the folder is not to be read for a moment
                for letter in self._storage.names(_FOLDER):
                    self._answer(letter)
                    self._storage.remove(f"{_FOLDER}/{letter}")

    def _answer(self, name: str) -> None:
        if name == _STOP:
            self._study.stop()
        elif match := _TRIAL.fullmatch(name):
            self._study.cancel(int(match[1]))


def _running_trials(storage: Storage) -> set[int]:
    """Numbers of the trials that a search has asked for and that have not ended."""
    record = read_record(storage)
    if record.end is not None:
        raise ConfigError(f"The search in {storage} has ended already; its state is {record.end.get('state')!r}.")
    return {trial.number for trial in record.unfinished}
