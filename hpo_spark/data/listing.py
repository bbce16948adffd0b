"""Which files a path or URL stands for, on any file system that fsspec knows."""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import Any

from hpo_spark.data.recipe import digest_of_files, reason
from hpo_spark.errors import DataError, MissingExtra
from hpo_spark.redaction import redact

__all__ = ["absolute", "digest_of", "listing", "open_file_system"]

# What file systems call that which changes when a file is written anew, the best first.
_STAMPS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "modificationTime", "created")


def absolute(path: str) -> str:
    """A path made absolute; a URL as it is."""
    return path if "://" in path else os.path.abspath(path)


def open_file_system(url: str) -> tuple[Any, str]:
    """The file system of a path or URL, and its path there.

    Raises:
        DataError: If it is unknown.
        MissingExtra: If its library is not installed.
    """
    try:
        from fsspec.core import url_to_fs

        file_system, path = url_to_fs(url)
    except ImportError as error:
        extra = "s3" if url.startswith("s3") else None
        raise MissingExtra(f"Data at {redact(url)}", error.name or "a library for it", extra) from None
    except Exception as error:
        raise DataError(f"{redact(url)} cannot be opened: {reason(error)}") from None
    return file_system, str(path)


def listing(url: str) -> list[tuple[str, int, str]]:
    """Name, size and stamp of each file, without those that begin with a dot or an underscore, as Spark leaves them.

    Raises:
        DataError: If there is none, or they cannot be listed.
    """
    file_system, path = open_file_system(url)
    try:
        file_system.invalidate_cache()
        found = file_system.find(path, detail=True)
    except Exception as error:
        raise DataError(f"{redact(url)} cannot be listed: {reason(error)}") from None
    start = len(path.rstrip("/"))
    files = []
    for name, info in sorted(found.items()):
        own = name[start:].strip("/") or name.rpartition("/")[2]
        if not any(part.startswith((".", "_")) for part in own.split("/")):
            stamp = next((str(info[key]) for key in _STAMPS if info.get(key) is not None), "")
            files.append((own, int(info.get("size") or 0), stamp))
    if not files:
        raise DataError(f"{redact(url)} does not exist, or holds no file.")
    return files


def digest_of(*urls: str | None) -> str | None:
    """Of the files where they are local, wherever; of their listing elsewhere; None where they cannot be had."""
    digest = blake2b(digest_size=8)
    for url in filter(None, urls):
        try:
            files = listing(url)
        except (DataError, MissingExtra):
            return None
        if "://" in url:
            digest.update(repr(files).encode())
        else:
            paths = [os.path.join(url, name) if os.path.isdir(url) else url for name, _, _ in files]
            digest.update(repr((digest_of_files(*paths), [name for name, _, _ in files if len(files) > 1])).encode())
    return digest.hexdigest()
