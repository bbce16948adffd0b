"""The journal's format: one JSON object a line, which ends with a check of the line and of all lines before it.

The check is the CRC-32 of the line up to it, begun from the check of the line before. So a changed byte, a line that is
missing, doubled or out of place, and a line that somebody else added are all found, in the line where they begin.
Format 1 had no checks.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from hpo_spark.errors import JournalError
from hpo_spark.plain import dump_line

__all__ = ["FORMAT", "Decoder", "encode"]

FORMAT = 2

# The last of a line: ,"crc":"0123abcd"}
_SUFFIX = b',"crc":"%08x"}'
_SUFFIX_SIZE = len(_SUFFIX % 0)
_SUFFIX_START = b',"crc":"'
# The first of a line that says what was asked for.
_ASK = b'{"kind":"ask","number":'
# The first format with checks.
_CHECKED = 2


def encode(record: Mapping[str, Any], check: int) -> tuple[bytes, int]:
    """A record as a line.

    Args:
        record: Plain values.
        check: That of the line before; 0 for the first.

    Returns:
        The line with its newline, and its check.
    """
    body = dump_line(record).encode("utf-8", errors="backslashreplace")[:-1]
    check = zlib.crc32(body, check)
    return body + _SUFFIX % check + b"\n", check


@dataclass(frozen=True)
class Line:
    """A line of a journal.

    Attributes:
        place: Its number, from 1.
        kind: Of its record.
        number: Of the record's trial; None where it is about none.
        record: Gives the record.
    """

    place: int
    kind: str
    number: int | None
    record: Callable[[], dict[str, Any]]


@dataclass
class Decoder:
    """Reads lines back.

    Attributes:
        place: How messages call the journal.
        check: Of the last line read.
        size: Bytes of the lines read.
        torn: Bytes after the last newline: a line that was being written when its writer died.
    """

    place: str
    check: int = 0
    size: int = 0
    torn: int = 0
    _is_checked: bool = field(default=False, repr=False)

    def decode(self, content: bytes) -> Iterator[Line]:
        """The lines of a journal.

        Raises:
            JournalError: If a line is damaged, or the journal is of a newer format; names the line.
        """
        lines = content.split(b"\n")
        self.torn = len(lines.pop())
        for number, line in enumerate(lines, start=1):
            if self._is_checked and line.startswith(_ASK):
                # It may never be looked at: half of a journal's time to read is spared.
                self._check(number, line)
                asked = int(line[len(_ASK) : line.index(b",", len(_ASK))])
                yield Line(number, "ask", asked, partial(self._parsed, number, line))
            else:
                record = self._record(number, line)
                yield Line(number, record["kind"], record.get("number"), partial(dict, record))
            self.size += len(line) + 1

    def _parsed(self, number: int, line: bytes) -> Any:
        try:
            return msgspec.json.decode(line)
        except (ValueError, RecursionError, msgspec.DecodeError):
            pass
        try:
            return json.loads(line)  # which reads half a surrogate pair, as file names may hold it
        except (ValueError, RecursionError) as error:
            raise self._damage(number, f"it is no JSON ({error})") from None

    def _check(self, number: int, line: bytes) -> None:
        check = zlib.crc32(line[:-_SUFFIX_SIZE], self.check)
        if line[-_SUFFIX_SIZE:] != _SUFFIX % check:
            raise self._damage(number, "its check does not fit it and the lines before")
        self.check = check

    def _record(self, number: int, line: bytes) -> dict[str, Any]:
        record = self._parsed(number, line)
        if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
            raise self._damage(number, "it is no record of a study")
        has_check = line[-_SUFFIX_SIZE:].startswith(_SUFFIX_START)
        version = record.get("format", 1)
        if self._is_checked or has_check or version != 1:
            if not has_check and isinstance(version, int) and version > FORMAT:
                raise self._newer(version)  # whose lines may end in another way
            self._check(number, line)
        if "format" in record:
            if not isinstance(version, int) or version < 1:
                raise self._damage(number, f"its format is {version!r}")
            if version > FORMAT:
                raise self._newer(version)
            self._is_checked = version >= _CHECKED
        return record

    def _newer(self, version: int) -> JournalError:
        return JournalError(
            f"{self.place} was written by a newer hpo_spark: its format is {version}, and this version reads up to "
            f"{FORMAT}. Upgrade hpo_spark to read it or to go on with it."
        )

    def _damage(self, number: int, why: str) -> JournalError:
        return JournalError(
            f"{self.place}, line {number}: is damaged: {why}. Restore the file from a copy; or, to go on from the "
            f"trials before it, keep a copy and remove this line and all after it."
        )
