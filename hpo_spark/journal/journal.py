"""Writes a study's journal."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpo_spark.errors import StorageError
from hpo_spark.journal.records import FORMAT, encode
from hpo_spark.redaction import redact, redact_all
from hpo_spark.space import Params
from hpo_spark.storage import Log, Storage
from hpo_spark.trial import Trial

__all__ = ["NAME", "Journal"]

logger = logging.getLogger(__name__)

NAME = "journal.jsonl"

# Seconds to wait for a disk that is full or a mount that has gone, and between two tries.
_PATIENCE_S = 60.0
_PAUSE_S = 1.0
_ASKED = ("number", "params", "fidelity", "seed", "parent", "attempt", "origin", "token", "thresholds", "group")


class Journal:
    """Appends to a journal; from any thread.

    A tell is durable when `tell` returns. An ask is written in order, but becomes durable with the next tell only:
    whoever resumes without it asks again, and gets the same.

    Args:
        storage: The run folder.
        check: That of the last line which the journal holds; 0 for a new one.

    Attributes:
        is_taken_over: Whether somebody else writes there now.
    """

    def __init__(self, storage: Storage, check: int = 0) -> None:
        self._storage = storage
        self._place = f"{storage.place}/{NAME}"
        # A remote file system has a patience of its own.
        self._patience_s = _PATIENCE_S if storage.is_local else 0.0
        self._check = check
        self.is_taken_over = False
        self._lock = threading.Lock()
        self._hurry = threading.Event()
        self._broken: StorageError | None = None
        self._log: Log = storage.open_log(NAME)[1]

    def begin(self, header: Mapping[str, Any], known: Sequence[Trial] = ()) -> None:
        """Write what the study is: the first record.

        Args:
            header: What it is.
            known: Trials of an earlier search that the searcher is told of. Unless all of them follow the header, a
                reader takes the study for not begun.
        """
        study = {"kind": "study", "format": FORMAT, **redact_all(header), "n_known": len(known)}
        self._append(study, *({"kind": "known", **redact_all(trial.to_record())} for trial in known))

    def resume(self, header: Mapping[str, Any]) -> None:
        """Write that the study goes on, and what it is now."""
        self._append({"kind": "resume", "format": FORMAT, **redact_all(header)})

    def ask(self, trial: Trial, n_dealt_with: int) -> None:
        """Write that a trial is being submitted, and how many had been dealt with when it was asked for."""
        record = trial.to_record()
        asked = {name: record[name] for name in _ASKED}
        self._append({"kind": "ask", **asked, "n_dealt_with": n_dealt_with}, durable=False)

    def tell(self, trial: Trial) -> None:
        """Write how a trial ended.

        Raises:
            StorageError: If it cannot be written; the trial then counts as unfinished.
        """
        record = trial.to_record()
        del record["thresholds"]  # which the ask has
        self._append({"kind": "tell", **record}, durable=not trial.is_unfinished)

    def enqueue(self, params: Params) -> None:
        """Write that a user wants a configuration to be tried."""
        self._append({"kind": "enqueue", "params": params})

    def note(self, by: str, what: Mapping[str, Any]) -> None:
        """Write what a searcher says of itself."""
        self._append({"kind": "note", "by": by, "note": what}, durable=False)

    def refit(self, what: Mapping[str, Any]) -> None:
        """Write that a configuration was trained again, and its model is the one in ``best/``."""
        self._append({"kind": "refit", **redact_all(what)})

    def end(self, outcome: Mapping[str, Any]) -> None:
        """Write how the search ended, or this part of it."""
        self._append({"kind": "end", **redact_all(outcome)})

    def flush(self) -> None:
        """Have what was asked for leave this process, before it waits."""
        with self._lock:
            if self._broken is not None:
                raise self._broken
            self._patiently(self._log.flush)

    def give_up(self, why: str) -> None:
        """Write nothing more; from any thread."""
        self.is_taken_over = True
        self._broken = StorageError(f"{self._place}: {why}. This search ends here, and has written nothing since.")

    def hurry(self) -> None:
        """Wait no longer for a fault to pass; from a signal handler too."""
        self._hurry.set()
        self._storage.hurry()

    def close(self) -> None:
        """Close it."""
        with self._lock:
            self._log.close()

    def _append(self, *records: Mapping[str, Any], durable: bool = True) -> None:
        with self._lock:
            if self._broken is not None:
                raise self._broken
            lines, check = [], self._check
            for record in records:
                line, check = encode({**record, "at": round(time.time(), 3)}, check)
                lines.append(line)
            self._patiently(lambda: self._log.append(b"".join(lines), durable))
            self._check = check

    def _patiently(self, write: Callable[[], None]) -> None:
        """Write, and where that fails try again until the fault has passed or patience ends."""
        deadline = time.monotonic() + self._patience_s
        waits = False
        while True:
            try:
                write()
                break
            except OSError as error:
                is_final = isinstance(error, FileExistsError) or self._hurry.is_set() or time.monotonic() >= deadline
                if is_final:
                    raise self._break(error) from error
                if not waits:
                    logger.warning(
                        "%s cannot be written: %s; trials go on, and it is tried again for %g s",
                        self._place, redact(str(error)), self._patience_s,
                    )  # fmt: skip
                waits = True
                self._hurry.wait(_PAUSE_S)
        if waits:
            logger.info("%s can be written again", self._place)

    def _break(self, error: OSError) -> StorageError:
        self.is_taken_over = isinstance(error, FileExistsError)
        self._broken = StorageError(
            f"{self._place} cannot be written: {redact(str(error))}. The search ends here; what was told before is "
            "safe there, and trials that were running will run again. Mend the cause, then resume the search."
        )
        return self._broken
