"""What a run folder asks of the place where it lies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

__all__ = ["Log", "Storage"]


class Log(ABC):
    """Lines that are only ever appended, by one writer; read back as one text.

    Args of all methods are bytes that end with a newline. Errors are `OSError`: `FileExistsError` where somebody else
    has written, `FileNotFoundError` where the log has vanished, and whatever the file system says.
    """

    @abstractmethod
    def append(self, lines: bytes, durable: bool) -> None:
        """Write lines after the last.

        Where it raises, nothing of them counts as written, and the same call may be made again.

        Args:
            lines: One or more.
            durable: Whether they, and all before, must outlive a power failure when it returns. Otherwise they outlive
                this process at most, and may stay in its memory until `flush`.
        """

    @abstractmethod
    def flush(self) -> None:
        """Write out what is still in memory."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it; what is in memory is lost unless `flush` was called."""


class Storage(ABC):
    """A folder of files, by names such as ``best/model.keras``; picklable, so that workers can write to it.

    Attributes:
        is_local: Whether it is a path of this machine, which other machines may not see.
        look_every_s: Seconds between two looks for something that somebody else may write.
    """

    is_local: ClassVar[bool]
    look_every_s: ClassVar[float]

    @property
    @abstractmethod
    def place(self) -> str:
        """Its path or URL, without passwords."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of its path."""

    def __str__(self) -> str:
        return self.place

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A file's content; `FileNotFoundError` where there is none."""

    @abstractmethod
    def write(self, name: str, content: bytes, durable: bool = True) -> None:
        """Write a file, in place of an older one; a reader sees the one or the other, never a part.

        Args:
            name: The file.
            content: All of it.
            durable: Whether it must outlive a power failure, which takes a disk its time.
        """

    @abstractmethod
    def create(self, name: str, content: bytes) -> None:
        """Write a file that does not exist; `FileExistsError` where it does, whoever was first."""

    @abstractmethod
    def copy(self, source: str, target: str) -> None:
        """Have the content of one file under another name too, in place of an older one."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file; harmless where there is none."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Names of the files that lie directly in a folder, without the folder's, sorted; empty where it is none."""

    @abstractmethod
    def check_writable(self) -> None:
        """Make the folder where there is none, and raise `OSError` unless files can be written in it."""

    @abstractmethod
    def open_log(self, name: str) -> tuple[bytes, Log]:
        """Open a log for appending, and make it where there is none.

        Returns:
            Its content so far, and the log. A last line without its newline is in the content; `cut_log` removes it.
        """

    @abstractmethod
    def read_log(self, name: str) -> bytes:
        """The content of a log so far; `FileNotFoundError` where there is none."""

    def has_log(self, name: str) -> bool:
        """Whether there is a log that is not empty."""
        try:
            return bool(self.read_log(name))
        except FileNotFoundError:
            return False

    @abstractmethod
    def cut_log(self, name: str, size: int) -> None:
        """Remove what a log holds after so many bytes."""

    def hurry(self) -> None:
        """Wait no longer for a fault to pass, now and later; from a signal handler too."""
        return

    def exists(self, name: str) -> bool:
        """Whether a file exists."""
        folder, _, own = name.rpartition("/")
        return own in self.names(folder)
