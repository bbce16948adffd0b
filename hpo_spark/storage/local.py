"""A run folder on a path of this machine."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from hpo_spark.storage.base import Log, Storage

__all__ = ["LocalStorage"]


class LocalStorage(Storage):
    """A folder of this machine.

    Args:
        path: The folder.
    """

    is_local: ClassVar[bool] = True
    look_every_s: ClassVar[float] = 0.5

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def place(self) -> str:
        """Its path."""
        return str(self.path)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.resolve().name

    def read(self, name: str) -> bytes:
        """A file's content; `FileNotFoundError` where there is none."""
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes, durable: bool = True) -> None:
        """Write a file under another name, and rename it into place."""
        with self._draft(name) as draft:
            if durable:
                _write_durably(draft, content)
            else:
                draft.write_bytes(content)
            draft.replace(self.path / name)

    def create(self, name: str, content: bytes) -> None:
        """Write a file that does not exist; `FileExistsError` where it does, whoever was first."""
        with self._draft(name) as draft:
            _write_durably(draft, content)
            try:
                os.link(draft, self.path / name)
            except FileExistsError:
                raise
            except OSError:  # the file system has no links: a reader may see a part
                _write_durably(self.path / name, content, "xb")

    def copy(self, source: str, target: str) -> None:
        """Have a file under a second name: the same file where the file system can do that."""
        with self._draft(target) as draft:
            try:
                os.link(self.path / source, draft)
            except FileNotFoundError:
                raise
            except OSError:  # the file system has no links
                draft.write_bytes((self.path / source).read_bytes())
            draft.replace(self.path / target)

    def remove(self, name: str) -> None:
        """Remove a file; harmless where there is none. A folder that is empty then goes too."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / name).unlink()
        if "/" in name:
            with contextlib.suppress(OSError):
                (self.path / name).parent.rmdir()

    def names(self, folder: str) -> list[str]:
        """Names of the files that lie directly in a folder, sorted; empty where it is none."""
        try:
            with os.scandir(self.path / folder) as entries:
                return sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def check_writable(self) -> None:
        """Make the folder, and raise `OSError` unless files can be written in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.path):
            pass

    def open_log(self, name: str) -> tuple[bytes, Log]:
        """Open a file for appending, and make it where there is none."""
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / name
        content = path.read_bytes() if path.exists() else b""
        return content, _FileLog(path, len(content))

    def read_log(self, name: str) -> bytes:
        """The content of a log so far; `FileNotFoundError` where there is none."""
        return self.read(name)

    def has_log(self, name: str) -> bool:
        """Whether there is a log that is not empty."""
        path = self.path / name
        return path.exists() and path.stat().st_size > 0

    def cut_log(self, name: str, size: int) -> None:
        """Remove what a log holds after so many bytes."""
        os.truncate(self.path / name, size)

    @contextlib.contextmanager
    def _draft(self, name: str) -> Iterator[Path]:
        path = self.path / name
        for folder in reversed(Path(name).parents[:-1]):  # the run folder is not made again: a mount may have gone
            (self.path / folder).mkdir(exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            yield draft
        finally:
            draft.unlink(missing_ok=True)


class _FileLog(Log):
    """A file that is appended to.

    Before each write it must be as its last write left it: a search whose folder was taken over by another driver, or
    whose file system has gone, finds out before it adds to what is not its own.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._descriptor = self._open(os.O_CREAT)
        _sync_folder(path.parent)

    def append(self, lines: bytes, durable: bool) -> None:
        """Write lines after the last, and sync the disk where they must be durable."""
        self._check()
        try:
            left = memoryview(lines)
            while left:  # a disk that is full takes a part, and says so at the next write
                left = left[os.write(self._descriptor, left) :]
            if durable:
                _sync(self._descriptor)
        except OSError:
            self._undo()
            raise
        self._size += len(lines)

    def flush(self) -> None:
        """Nothing is in memory."""

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _open(self, flags: int = 0) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | flags, 0o666)

    def _check(self) -> None:
        """Raise unless the path still leads to our file, and nobody has written to it."""
        own = os.fstat(self._descriptor)
        found = os.stat(self._path)
        if (found.st_ino, found.st_dev) != (own.st_ino, own.st_dev):
            # A mount that went and came back: the file is what it was, under another handle.
            self._reopen()
            found = os.fstat(self._descriptor)
        if found.st_size != self._size:
            raise FileExistsError(
                errno.EEXIST,
                f"it has {found.st_size} bytes where this search left {self._size}: somebody else has written to it",
                str(self._path),
            )

    def _undo(self) -> None:
        """Forget a write that failed, and the file's handle: after a failed sync its pages cannot be trusted."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self._size)
        with contextlib.suppress(OSError):
            self._reopen()

    def _reopen(self) -> None:
        former, self._descriptor = self._descriptor, self._open()
        os.close(former)


# The file's size and content are what must last, not its times.
_sync = getattr(os, "fdatasync", os.fsync)


def _write_durably(path: Path, content: bytes, mode: str = "wb") -> None:
    with path.open(mode) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable, where the file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
