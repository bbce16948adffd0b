"""Where a run folder lies: on a local path, or on any file system that fsspec knows."""

from __future__ import annotations

import os
from pathlib import Path

from hpo_spark.storage.base import Log, Storage
from hpo_spark.storage.local import LocalStorage

__all__ = ["Log", "Storage", "is_url", "open_storage"]

_LOCAL_SCHEMES = ("file://", "local://")


def is_url(place: str) -> bool:
    """Whether a place is a URL of a file system that is not this machine's."""
    return "://" in place and not place.startswith(_LOCAL_SCHEMES)


def open_storage(place: str | os.PathLike[str]) -> Storage:
    """The folder at a local path or a URL, such as ``s3://bucket/runs/x``; `Storage.check_writable` makes it.

    Raises:
        ConfigError: If the URL's file system is unknown.
        MissingExtra: If the library of that file system is not installed.
    """
    text = os.fspath(place)
    if not is_url(text):
        for scheme in _LOCAL_SCHEMES:
            text = text.removeprefix(scheme)
        return LocalStorage(Path(text))
    from hpo_spark.storage.remote import RemoteStorage

    return RemoteStorage(text)
