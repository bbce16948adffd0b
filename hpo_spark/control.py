"""Requests to a search that runs, as files in its run folder: ``hpo-spark stop`` writes them, the search takes them."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from pathlib import Path
from typing import Protocol

from hpo_spark.errors import ConfigError

__all__ = ["Mailbox", "request_stop"]

_FOLDER = "control"
_STOP, _TRIAL = "stop", re.compile(r"cancel-(\d+)")
_LOOK_EVERY_S = 0.5
# Seconds until a search that runs must have taken a request.
_PATIENCE_S = 15.0


class Controlled(Protocol):
    """What requests are about: a `Study`."""

    def stop(self) -> None:
        """End it."""

    def cancel(self, number: int) -> bool:
        """End one of its trials."""


def request_stop(folder: Path, trial: int | None = None) -> None:
    """Ask the search of a run folder to end, or to cancel one trial, and wait until it has heard.

    Raises:
        ConfigError: If nobody runs a search there, or the trial is not running.
    """
    running = _running_trials(folder)
    if trial is not None and trial not in running:
        raise ConfigError(f"Trial {trial} of {folder} is not running; running are {sorted(running) or 'none'}.")
    letter = folder / _FOLDER / (_STOP if trial is None else f"cancel-{trial}")
    letter.parent.mkdir(exist_ok=True)
    letter.touch()
    deadline = time.monotonic() + _PATIENCE_S
    while letter.exists():
        if time.monotonic() > deadline:
            letter.unlink(missing_ok=True)
            raise ConfigError(
                f"No search answers in {folder}: it has ended without a result, was killed, or runs on another machine "
                "that does not share this folder. Nothing was changed."
            )
        time.sleep(_LOOK_EVERY_S / 5)


class Mailbox:
    """Looks for requests, in a thread of its own, while a ``with`` block lasts.

    Args:
        folder: The run folder.
        study: Whom the requests are about.
    """

    def __init__(self, folder: Path, study: Controlled) -> None:
        self._folder = folder / _FOLDER
        self._study = study
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hpo-spark-control", daemon=True)

    def __enter__(self) -> Mailbox:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            with contextlib.suppress(OSError):  # there is no request, or the folder is not to be read for a moment
                for letter in list(self._folder.iterdir()):
                    self._answer(letter.name)
                    letter.unlink(missing_ok=True)

    def _answer(self, name: str) -> None:
        if name == _STOP:
            self._study.stop()
        elif match := _TRIAL.fullmatch(name):
            self._study.cancel(int(match[1]))


def _running_trials(folder: Path) -> set[int]:
    """Numbers of the trials that a journal has asked for and not told of."""
    if (folder / "result.json").exists():
        state = json.loads((folder / "result.json").read_text()).get("state")
        raise ConfigError(f"The search in {folder} has ended already; its state is {state!r}.")
    try:
        lines = (folder / "journal.jsonl").read_text(encoding="utf-8").split("\n")[:-1]  # the last may be half written
    except OSError as error:
        raise ConfigError(f"{folder} is no run folder of a search: {error.strerror or error}.") from None
    running: set[int] = set()
    for record in map(json.loads, lines):
        if record["kind"] == "ask":
            running.add(record["number"])
        elif record["kind"] == "tell":
            running.discard(record["number"])
    return running
