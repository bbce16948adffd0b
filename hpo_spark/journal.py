"""The durable record of a study: one JSON object a line, appended and flushed to disk before anybody is told."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hpo_spark.errors import ConfigError
from hpo_spark.plain import dump_line
from hpo_spark.trial import Trial

__all__ = ["FORMAT", "Journal", "check_folder", "read_header", "read_trials"]

FORMAT = 1

T = TypeVar("T")


def check_folder(folder: Path) -> None:
    """Make a run folder.

    Raises:
        ConfigError: If it cannot be written, or holds a study already.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"The run folder {folder} cannot be written: {error.strerror or error}.") from None
    if (folder / "journal.jsonl").exists():
        raise ConfigError(
            f"The folder {folder} holds a study already, and nothing of it is overwritten: "
            "choose another folder, or remove this one first."
        )


class Journal:
    """Appends to ``journal.jsonl``.

    Args:
        path: The file; it must not exist yet.

    Raises:
        ConfigError: If there is a journal already, or the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        check_folder(path.parent)
        self._file = path.open("x", encoding="utf-8", errors="backslashreplace")

    def start(self, header: Mapping[str, Any]) -> None:
        """Write what the study is: the first record."""
        self._append({"kind": "study", "format": FORMAT, **header})

    def ask(self, trial: Trial) -> None:
        """Write that a trial is being submitted."""
        record = trial.to_record()
        asked = ("number", "params", "fidelity", "seed", "parent", "attempt", "origin", "token")
        self._append({"kind": "ask", **{name: record[name] for name in asked}})

    def tell(self, trial: Trial) -> None:
        """Write how a trial ended."""
        self._append({"kind": "tell", **trial.to_record()})

    def learn(self, trial: Trial) -> None:
        """Write what the searcher was told of a trial of an earlier search."""
        self._append({"kind": "known", **trial.to_record()})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, record: Mapping[str, Any]) -> None:
        self._file.write(dump_line(record) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read_header(path: Path) -> dict[str, Any]:
    """The first record of a journal: what the study is.

    Raises:
        ConfigError: If it is none.
    """
    for record in _records(path, "study", dict):
        return record
    raise ConfigError(f"{path}: expected the record of a study in the first line, and there is none.")


def read_trials(path: Path) -> list[Trial]:
    """The finished trials of a journal, by number.

    Raises:
        ConfigError: If a line is no record; names it.
    """
    return sorted(_records(path, "tell", Trial.from_record), key=lambda trial: trial.number)


def _records(path: Path, kind: str, make: Callable[[dict[str, Any]], T]) -> Iterator[T]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                if record["kind"] == kind:
                    yield make(record)
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"{path}, line {number}: is no record of a study ({error}).") from error
