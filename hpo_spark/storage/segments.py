"""A log on a file system that cannot append: numbered segments, which are read back as one.

The log ``journal.jsonl`` is the folder ``journal``, and in it the files ``00000001.jsonl``, ``00000002.jsonl`` and so
on. Each is created exclusively, and never changes: whoever finds its next number taken is not the only writer. The
first is empty; it says that there is a log.

Every thousand lines, one file ``00000001-00000743.jsonl`` is created that holds what those segments hold, and they are
removed. It says by its name what it stands for, so that a crash at any point leaves a log that reads right: a segment
that lies within a wider one is not read, and is removed when the log is opened next.
"""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpo_spark.storage.base import Log

if TYPE_CHECKING:
    from hpo_spark.storage.remote import RemoteStorage

__all__ = ["COMPACT_EVERY", "Segment", "SegmentLog", "cut_segments", "folder_of", "open_segments", "read_segments"]

logger = logging.getLogger(__name__)

COMPACT_EVERY = 1000
# After a compaction that failed, so many lines more are awaited.
_COMPACT_AGAIN = 100
# A compaction can wait; whoever appends should not.
_COMPACT_PATIENCE_S = 2.0
# Seconds for which the last segment is taken to be there still.
_TRUST_S = 5.0
# A reader whose listing goes out of date lists again so often; compactions are seconds apart at least.
_MAX_LISTINGS = 10
_NAME = re.compile(r"(\d{8,})(?:-(\d{8,}))?\.jsonl")


@dataclass(frozen=True, order=True)
class Segment:
    """A file of a log: one segment, or a range of them.

    Attributes:
        first, last: Numbers of the segments that it holds.
    """

    first: int
    last: int

    @property
    def file(self) -> str:
        """Its name in the log's folder."""
        last = "" if self.last == self.first else f"-{self.last:08d}"
        return f"{self.first:08d}{last}.jsonl"

    @classmethod
    def parse(cls, file: str) -> Segment | None:
        """What a name says; None where it is none of ours."""
        match = _NAME.fullmatch(file)
        return cls(int(match[1]), int(match[2] or match[1])) if match else None


@dataclass(frozen=True)
class _Listing:
    """What a log's folder holds.

    Attributes:
        current: What is to be read, in order.
        covered: What lies within a wider one.
        gap: The first number that is missing; None where none is.
    """

    current: list[Segment]
    covered: list[Segment]
    gap: int | None

    @classmethod
    def of(cls, files: Iterable[str], place: str) -> _Listing:
        segments = [segment for segment in map(Segment.parse, files) if segment]
        current: list[Segment] = []
        covered: list[Segment] = []
        gap = None
        reached = 0
        for segment in sorted(segments, key=lambda segment: (segment.first, -segment.last)):
            if segment.last <= reached:
                covered.append(segment)
                continue
            if segment.first <= reached:
                raise FileExistsError(
                    errno.EEXIST,
                    f"{current[-1].file} and {segment.file} overlap: two searches have written there",
                    place,
                )
            if segment.first > reached + 1 and gap is None:
                gap = reached + 1
            current.append(segment)
            reached = segment.last
        return cls(current, covered, gap)


def folder_of(name: str) -> str:
    """The folder of a log's segments."""
    return name.rpartition(".")[0] or name


def read_segments(storage: RemoteStorage, name: str) -> list[tuple[Segment, bytes]]:
    """The segments of a log and their contents, in order; while its writer goes on, too.

    Raises:
        FileNotFoundError: If there is no log.
    """
    return _read(storage, name)[0]


def open_segments(storage: RemoteStorage, name: str) -> tuple[bytes, list[tuple[Segment, bytes]]]:
    """Make a log where there is none, and tidy up behind a writer that has crashed.

    Returns:
        Its content, and the segments that no compaction has seen yet, of which the last is the log's last.
    """
    folder = folder_of(name)
    try:
        segments, covered = _read(storage, name)
    except FileNotFoundError:
        first = Segment(1, 1)
        storage.create(f"{folder}/{first.file}", b"")
        segments, covered = [(first, b"")], []
    _tidy(storage, folder, covered)
    n_compacted = max((i for i, (segment, _) in enumerate(segments, 1) if segment.last > segment.first), default=0)
    recent = segments[min(n_compacted, len(segments) - 1) :]
    return b"".join(content for _, content in segments), recent


def cut_segments(storage: RemoteStorage, name: str, size: int) -> None:
    """Remove what a log holds after so many bytes.

    It goes from the end to the front, so that a crash leaves a log that was only cut less; the next call cuts the rest.
    """
    folder = folder_of(name)
    segments, covered = _read(storage, name)
    for segment in covered:  # or they would come to light again
        storage.remove(f"{folder}/{segment.file}")
    ends: list[int] = []
    for _, content in segments:
        ends.append((ends[-1] if ends else 0) + len(content))
    for (segment, content), end in zip(reversed(segments), reversed(ends), strict=True):
        start = end - len(content)
        if end <= size:
            return
        if start < size or segment.first == 1:
            storage.write(f"{folder}/{segment.file}", content[: size - start])
            return
        storage.remove(f"{folder}/{segment.file}")


class SegmentLog(Log):
    """Writes a log in segments.

    What an append that failed may have left behind is known: a segment with the number that is next and a content that
    was tried. It is taken for written if the same append comes again, and replaced if another does; nobody has
    been told of it.

    Args:
        storage: Where the log lies.
        name: The log's name.
        segments: Those that no compaction has seen, with contents; the last is the log's last.
    """

    def __init__(self, storage: RemoteStorage, name: str, segments: list[tuple[Segment, bytes]]) -> None:
        self._storage = storage
        self._folder = folder_of(name)
        self._last = segments[-1][0]
        self._recent = [(segment, content) for segment, content in segments if segment.first == segment.last]
        self._n_lines = sum(content.count(b"\n") for _, content in self._recent)
        self._compact_at = COMPACT_EVERY
        self._left_over: list[Segment] = []
        self._buffer: list[bytes] = []
        self._tried: list[bytes] = []
        self._seen_at = time.monotonic()

    def append(self, lines: bytes, durable: bool) -> None:
        """Keep lines in memory, or write them, and all that are kept, as one segment."""
        if durable:
            self._write(lines)
        else:
            self._buffer.append(lines)

    def flush(self) -> None:
        """Write what is in memory as one segment."""
        self._write(b"")

    def close(self) -> None:
        """Forget what is in memory."""
        self._buffer.clear()

    def _write(self, lines: bytes) -> None:
        content = b"".join([*self._buffer, lines])
        if not content:
            return
        self._check()
        # Before the write: whatever interrupts it, the lines are unwritten.
        self._compact_if_due()
        segment = Segment(self._last.last + 1, self._last.last + 1)
        self._tried.append(content)
        self._create(segment, content)
        self._last = segment
        self._buffer.clear()
        self._tried.clear()
        self._recent.append((segment, content))
        self._n_lines += content.count(b"\n")
        self._seen_at = time.monotonic()

    def _create(self, segment: Segment, content: bytes) -> None:
        name = f"{self._folder}/{segment.file}"
        try:
            self._storage.create(name, content)
        except FileExistsError:
            found = self._storage.read(name)
            if found not in self._tried:
                raise self._taken(segment) from None
            if found != content:
                self._storage.write(name, content)

    def _check(self) -> None:
        """Raise unless the log's last segment is there, or was a moment ago."""
        if time.monotonic() - self._seen_at < _TRUST_S:
            return
        if not self._storage.exists(f"{self._folder}/{self._last.file}"):
            if any(map(Segment.parse, self._storage.names(self._folder))):
                raise self._taken(self._last)
            raise FileNotFoundError(errno.ENOENT, "the log has vanished", self._place)
        self._seen_at = time.monotonic()

    def _taken(self, segment: Segment) -> FileExistsError:
        return FileExistsError(
            errno.EEXIST,
            f"{segment.file} is not what this search wrote there: somebody else has written to it",
            self._place,
        )

    @property
    def _place(self) -> str:
        return f"{self._storage.place}/{self._folder}"

    def _compact_if_due(self) -> None:
        if self._n_lines < self._compact_at:
            return
        try:
            self._compact()
        except OSError as error:
            self._compact_at = self._n_lines + _COMPACT_AGAIN
            logger.warning("%s: its segments could not be made one: %s; it is tried again later", self._place, error)

    def _compact(self) -> None:
        """Make one of the segments since the last compaction, and remove them."""
        parts = [segment for segment, _ in self._recent]
        if len(parts) > 1:
            whole = Segment(parts[0].first, parts[-1].last)
            self._create_whole(whole, b"".join(content for _, content in self._recent))
            self._last = whole
            self._left_over += parts
        self._recent = []
        self._n_lines, self._compact_at = 0, COMPACT_EVERY
        self._left_over = _tidy(self._storage, self._folder, self._left_over)

    def _create_whole(self, whole: Segment, content: bytes) -> None:
        name = f"{self._folder}/{whole.file}"
        try:
            self._storage.create(name, content, _COMPACT_PATIENCE_S)
        except FileExistsError:  # of an earlier try that seemed to fail, or that ended with its process
            if self._storage.read(name) != content:
                raise self._taken(whole) from None


def _tidy(storage: RemoteStorage, folder: str, covered: list[Segment]) -> list[Segment]:
    """Remove segments that a wider one holds too; those that are left, which hurts nobody."""
    try:
        storage.remove_all([f"{folder}/{segment.file}" for segment in covered], _COMPACT_PATIENCE_S)
    except OSError as error:
        logger.warning("%s/%s: old segments could not be removed: %s", storage.place, folder, error)
        return covered
    return []


def _read(storage: RemoteStorage, name: str) -> tuple[list[tuple[Segment, bytes]], list[Segment]]:
    """The segments of a log with their contents, in order, and those that wider ones hold too."""
    folder = folder_of(name)
    place = f"{storage.place}/{folder}"
    for n_listings in range(1, _MAX_LISTINGS + 1):
        listing = _Listing.of(storage.names(folder), place)
        if not listing.current:
            raise FileNotFoundError(errno.ENOENT, "there is no log", f"{storage.place}/{name}")
        if listing.gap is not None:
            # A compaction came between two pages of the listing; or it is damaged, which the reader finds.
            if n_listings < _MAX_LISTINGS // 2:
                continue
            logger.warning("%s: segment %08d is missing", place, listing.gap)
        try:
            contents = storage.read_all(f"{folder}/{segment.file}" for segment in listing.current)
        except FileNotFoundError:  # a compaction came in between
            continue
        return [(segment, contents[f"{folder}/{segment.file}"]) for segment in listing.current], listing.covered
    raise FileNotFoundError(errno.ENOENT, f"its segments vanish while they are read, {_MAX_LISTINGS} times", place)
