"""Where a run folder lies: on a local path, or on any file system that fsspec knows."""

from __future__ import annotations

import os
from pathlib import Path

from hpo_spark.errors import ConfigError
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
        ConfigError: If the URL's file system is unknown, or it names another machine's local one.
        MissingExtra: If the library of that file system is not installed.
    """
    text = os.fspath(place)
    if not is_url(text):
        return LocalStorage(Path(_local_path(text)))
    from hpo_spark.storage.remote import RemoteStorage

    return RemoteStorage(text)


def _local_path(place: str) -> str:
    """A path as it is; of a URL such as ``file:///tmp/x``, ``file:/tmp/x`` or ``file://localhost/tmp/x`` the path."""
    scheme = next((scheme for scheme in _LOCAL_SCHEMES if place.startswith(scheme)), None)
    if scheme is None:
        return place.removeprefix("file:") if place.startswith("file:/") else place
    host, slash, path = place.removeprefix(scheme).partition("/")
    if host not in ("", "localhost") or not path.strip("/"):
        raise ConfigError(
            f"{place}: expected the URL of a folder of this machine, such as {scheme}/tmp/runs/x, or its path; got "
            f"{f'the host {host!r}' if host else 'no folder'}."
        )
    return f"{slash}{path}"
