"""Files that are read and written as a whole, on this machine or on any file system that fsspec knows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpo_spark.errors import ConfigError, MissingExtra
from hpo_spark.redaction import redact

__all__ = ["is_url", "read_file", "write_file"]


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether a place is a URL, such as ``s3://bucket/trials.csv``, and not a path."""
    return "://" in os.fspath(place)


def read_file(place: str | os.PathLike[str]) -> bytes:
    """The content of a file.

    Raises:
        ConfigError: If it cannot be read.
        MissingExtra: If the library of a URL's file system is not installed.
    """
    with _explained(place, "read"):
        if not is_url(place):
            return Path(place).read_bytes()
        with _fsspec().open(os.fspath(place), "rb") as file:
            content: bytes = file.read()
    return content


def write_file(place: str | os.PathLike[str], content: bytes) -> None:
    """Write a file, in place of an older one; on this machine a reader sees the one or the other, never a part.

    Raises:
        ConfigError: If it cannot be written.
        MissingExtra: If the library of a URL's file system is not installed.
    """
    with _explained(place, "written"):
        if is_url(place):
            with _fsspec().open(os.fspath(place), "wb") as file:
                file.write(content)
            return
        path = Path(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            draft.write_bytes(content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def _fsspec() -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtra("A URL", "fsspec", "export") from error
    return fsspec


@contextmanager
def _explained(place: str | os.PathLike[str], what: str) -> Iterator[None]:
    try:
        yield
    except MissingExtra:
        raise
    except (
        OSError,
        ValueError,
        ImportError,
    ) as error:  # ValueError for an unknown protocol, ImportError for its library
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(redact(f"{os.fspath(place)} cannot be {what}: {reason}.")) from None
