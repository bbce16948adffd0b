"""Reads a study's journal: all that is known of a search, whoever ran it and however often it was cut short."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpo_spark.errors import ConfigError, JournalError
from hpo_spark.journal.clock import Clock
from hpo_spark.journal.journal import NAME
from hpo_spark.journal.records import Decoder, Line
from hpo_spark.space import Params
from hpo_spark.storage import Storage, open_storage
from hpo_spark.trial import Trial

__all__ = ["StudyRecord", "has_journal", "read_record", "read_trials"]


@dataclass
class StudyRecord:
    """What a journal says.

    Attributes:
        place: The journal, for messages.
        id: What tells the search from all others; one that begins anew in the same folder is another.
        began: When it was begun, in seconds since the epoch.
        seed: The study's seed.
        study: What the study was when it was begun or last resumed, in the form of a study file.
        fingerprint: Of the objective's code and data then.
        versions: Of the libraries then.
        ended: The trials that have ended, in the order in which they were told.
        unfinished: Those that were asked for and did not end, or that the end of the search ended; by number. They run
            again when it is resumed.
        known: Trials of earlier searches that the searcher was told of.
        enqueued: Configurations that a user wanted to be tried while the search ran.
        notes: What the searcher said of itself.
        n_dealt_with: How many trials had been dealt with at the last ask.
        seconds: For how long the search ran, up to the last record of each of its parts.
        slots: Trials that could run at once, latest; None where that is not said.
        slot_seconds: The slots' time: of each part its slots times its seconds, together; None where that is not said.
        end: How it ended last; None where it runs or was killed.
        refit: The last training of a configuration again, whose model is in ``best/``; None where there was none.
        tested: The last metrics on the test part, ``test``, and the ``best`` trial that they are of.
        check, size: Of the last line that counts, and bytes up to its end.
        torn: Bytes after that: of a line that was not written whole, or of a study's header that not all of its known
            trials follow.
    """

    place: str
    id: str = ""
    began: float = 0.0
    seed: int = 0
    study: dict[str, Any] = field(default_factory=dict)
    fingerprint: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    ended: list[Trial] = field(default_factory=list)
    unfinished: list[Trial] = field(default_factory=list)
    known: list[Trial] = field(default_factory=list)
    enqueued: list[Params] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    n_dealt_with: int = 0
    seconds: float = 0.0
    slots: int | None = None
    slot_seconds: float | None = None
    end: dict[str, Any] | None = None
    refit: dict[str, Any] | None = None
    tested: dict[str, Any] | None = None
    check: int = 0
    size: int = 0
    torn: int = 0

    @property
    def directions(self) -> list[str]:
        """One an objective; empty where the journal does not say."""
        direction = self.study.get("study", {}).get("direction")
        return [direction] if isinstance(direction, str) else list(direction or [])

    @property
    def trials(self) -> list[Trial]:
        """The trials that have ended, by number."""
        return sorted(self.ended, key=lambda trial: trial.number)


def has_journal(storage: Storage) -> bool:
    """Whether a folder holds a journal.

    Raises:
        JournalError: If that cannot be found out.
    """
    try:
        return storage.has_log(NAME)
    except OSError as error:
        raise _unreadable(storage, error) from None


def read_record(place: str | os.PathLike[str] | Storage) -> StudyRecord:
    """Read a journal as a whole: 100,000 trials take some seconds.

    Args:
        place: Run folder, as a path, a URL or a `Storage`; or the path of the journal in it.

    Raises:
        ConfigError: If there is no journal.
        JournalError: If it cannot be read, or is damaged elsewhere than in a last line that was not written whole; it
            names the line.
    """
    storage, content = _content(place)
    with _without_garbage_collection():
        return _read(Decoder(f"{storage.place}/{NAME}"), content)


def _read(decoder: Decoder, content: bytes) -> StudyRecord:
    record = StudyRecord(decoder.place)
    asked: dict[int, Line] = {}
    told: dict[int, Trial] = {}
    last_ask: Line | None = None
    clock = Clock()
    start = n_missing = 0
    for line in decoder.decode(content):
        kind = line.kind
        try:
            if line.place == 1 and kind != "study":
                raise ValueError(f"it is a record of the kind {kind!r}, where the first must be that of the study")
            if kind == "ask":
                asked[int(line.number or 0)] = last_ask = line
                continue
            content_of_line = line.record()
            if kind == "tell":
                trial = Trial.from_record(content_of_line)
                told.pop(trial.number, None)  # one that was cut short and ran again takes its new place
                told[trial.number] = trial
            elif kind in ("study", "resume"):
                if kind == "study":  # begun anew in the same folder: what is known teaches, and counts no more
                    start, n_missing = decoder.size, content_of_line.get("n_known", 0)
                    record.known += [trial for trial in told.values() if not trial.is_unfinished]
                    asked, told, last_ask, clock = {}, {}, None, Clock()
                    record.enqueued.clear()
                    record.refit = record.tested = None
                    record.began = content_of_line.get("at", 0.0)
                record.id = content_of_line.get("id") or record.id or str(record.began)
                record.seed = content_of_line.get("seed", record.seed)
                for name in ("study", "fingerprint", "versions"):
                    setattr(record, name, content_of_line.get(name, {}))
                clock.begin(content_of_line.get("at", 0.0), content_of_line.get("slots"))
                record.end = None
            elif kind == "known":
                record.known.append(Trial.from_record(content_of_line))
                n_missing -= 1
            elif kind == "enqueue":
                record.enqueued.append(content_of_line["params"])
            elif kind == "note":
                record.notes.append(_inner(content_of_line))
            elif kind == "end":
                record.end = _inner(content_of_line)
                if record.end.get("test") and record.end.get("best"):
                    record.tested = {"best": record.end["best"], "test": record.end["test"]}
            elif kind == "refit":
                record.refit = {key: value for key, value in _inner(content_of_line).items() if key != "at"}
                if record.refit.get("by") == "user":
                    continue  # the search did not run then
            if "at" in content_of_line:
                clock.see(content_of_line["at"])
            if kind == "end":
                clock.end(content_of_line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise JournalError(f"{decoder.place}, line {line.place}: is no record of a study: {error}.") from None
    if n_missing > 0:  # its writer died before it had written what the searcher was told: it had not begun
        return replace(_read(Decoder(decoder.place), content[:start]), torn=len(content) - start)
    clock.stop()
    record.seconds, record.slots, record.slot_seconds = clock.seconds, clock.slots, clock.slot_seconds
    record.ended = [trial for trial in told.values() if not trial.is_unfinished]
    ended = {trial.number for trial in record.ended}
    record.unfinished = [
        replace(trial, attempt=max(trial.attempt, told[number].attempt) if number in told else trial.attempt)
        for number, line in sorted(asked.items())
        if number not in ended and (trial := Trial.from_record(line.record()))
    ]
    if last_ask is not None:
        record.n_dealt_with = last_ask.record().get("n_dealt_with", 0)
    record.check, record.size, record.torn = decoder.check, decoder.size, decoder.torn
    return record


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Nothing that is read is garbage, and looking for it among so much takes twice the time of reading."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _inner(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in ("kind", "crc")}


def read_trials(place: str | os.PathLike[str] | Storage) -> list[Trial]:
    """The trials of a journal that have ended, by number.

    Raises:
        ConfigError: If there is no journal.
        JournalError: If it cannot be read or is damaged; names the line.
    """
    return read_record(place).trials


def _unreadable(storage: Storage, error: OSError) -> JournalError:
    return JournalError(f"{storage}/{NAME} cannot be read: {error.strerror or error}.")


def _content(place: str | os.PathLike[str] | Storage) -> tuple[Storage, bytes]:
    if not isinstance(place, Storage):
        text = os.fspath(place)
        is_file = os.path.basename(text) == NAME
        place = open_storage(Path(text).parent if is_file and "://" not in text else text.removesuffix(f"/{NAME}"))
    try:
        return place, place.read_log(NAME)
    except FileNotFoundError:
        raise ConfigError(f"{place} is no run folder of a search: it holds no {NAME}.") from None
    except OSError as error:
        raise _unreadable(place, error) from None
