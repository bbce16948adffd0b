"""A run folder on any file system that fsspec knows: object stores, Hadoop's, and others."""

from __future__ import annotations

import errno
import inspect
import re
import secrets
import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar
from urllib.parse import unquote

import fsspec
from fsspec.config import apply_config
from fsspec.implementations.arrow import ArrowFSWrapper, HadoopFileSystem

from hpo_spark.errors import ConfigError, MissingExtra
from hpo_spark.storage.base import Log, Storage
from hpo_spark.storage.faults import is_missing_bucket, is_passing
from hpo_spark.storage.retrying import Retrying
from hpo_spark.storage.segments import SegmentLog, cut_segments, folder_of, open_segments, read_segments

__all__ = ["RemoteStorage"]

# user@ or user:password@ before a host; the password may hold what should have been escaped, but 8020/ is a port.
_USERINFO = re.compile(r"[^/@:]*(?::(?:[^/]*@|(?!\d{1,5}(?:/|$))[^@]*@)|@)")
# What stands before the @ there is the container: abfs://container@account.dfs.core.windows.net/folder.
_AZURE = {"abfs", "abfss", "az", "adl"}
_S3 = {"s3", "s3a"}
_EXTRAS = {"s3fs": "s3", "aiobotocore": "s3"}
# Of file systems that only look before they create. It makes that safe within a process at least.
_looking = threading.Lock()

T = TypeVar("T")


class RemoteStorage(Storage):
    """A folder on a file system that fsspec knows.

    Credentials come from where the file system's library looks for them (the environment, its own files, fsspec's
    configuration) or from the URL; they appear in no text of ours. Faults that may pass are waited for.

    What readers see, and what `create` excludes, differs by file system:

    ================================  ========================================  ====================================
    file system                       `write` and `copy`                        `create`
    ================================  ========================================  ====================================
    S3, Google, Azure                 atomic                                    exclusive, by the server; of S3's
                                                                                likes those that know If-None-Match
    Hadoop (``hdfs``, ``viewfs``)     a draft, renamed into place; an older     looks first: exclusive among the
                                      file is away for a moment                 threads of a process, and among
                                                                                others but for a moment
    ``memory``                        atomic                                    exclusive
    others                            as the library does it; a reader may      as with Hadoop, where the library
                                      see a part                                does no better
    ================================  ========================================  ====================================

    Args:
        url: The folder's URL, such as ``s3://bucket/runs/x``.
        retry_s: Seconds for which what fails and may pass is tried again. The library's own time limits and retries
            may add to the last try: some 20 s with S3, up to a minute with others.

    Raises:
        ConfigError: If the file system is unknown, or the URL is none of a folder.
        MissingExtra: If the file system's library is not installed.
    """

    is_local: ClassVar[bool] = False
    look_every_s: ClassVar[float] = 5.0

    def __init__(self, url: str, retry_s: float = 60.0) -> None:
        self._given = (url, retry_s)
        self._scheme, _, rest = url.partition("://")
        self._user, rest = ("", rest) if self._scheme in _AZURE else _split_userinfo(rest)
        rest, question, query = rest.partition("?")
        rest = rest.rstrip("/")
        self._url = f"{self._scheme}://{rest}{question}{query}"
        self._place = f"{self._scheme}://{rest}"
        if not rest or any(sign in rest for sign in "*[]#") or "::" in url:
            raise ConfigError(f"{self._place}: expected the URL of one folder, without any of *, [, ], # and ::.")
        self._kind = _file_system_class(self._scheme, self._place)
        self._options: dict[str, Any] | None = None
        self._retrying = Retrying(retry_s)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place!r})"

    def __reduce__(self) -> tuple[type[RemoteStorage], tuple[str, float]]:
        return type(self), self._given

    @property
    def place(self) -> str:
        """Its URL, without user and password."""
        return self._place

    @property
    def name(self) -> str:
        """The last part of its URL."""
        return self._place.rpartition("/")[2]

    def read(self, name: str) -> bytes:
        """A file's content; `FileNotFoundError` where there is none."""
        return self._retry("reading", name, lambda fs, path: bytes(fs.cat_file(path)))

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """The contents of several files, which are fetched at the same time where the file system can do that."""
        missing = list(names)
        found: dict[str, bytes] = {}

        def read(fs: Any, root: str) -> None:
            paths = [f"{root}/{name}" for name in missing]
            answers = fs.cat(paths, on_error="return", **_one_request_each(fs))
            by_name = {path.removeprefix(f"{root}/"): answer for path, answer in answers.items()}
            found.update({name: answer for name, answer in by_name.items() if isinstance(answer, bytes)})
            missing[:] = [name for name in missing if name not in found]
            errors = [answer for answer in by_name.values() if isinstance(answer, Exception)]
            if errors:
                raise next((error for error in errors if not is_passing(error)), errors[0])

        if missing:
            self._retry("reading", "", read)
        return found

    def write(self, name: str, content: bytes, durable: bool = True) -> None:
        """Write a file, in place of an older one; as durably as the file system does."""
        self._retry("writing", name, lambda fs, path: _put(fs, path, content))

    def create(self, name: str, content: bytes, max_s: float | None = None) -> None:
        """Write a file that does not exist; `FileExistsError` where it does, whoever was first.

        Where the answer to a first try was lost, and a second finds the very content, the first had succeeded.

        Args:
            name: The file.
            content: Its content.
            max_s: For how long to try again what fails, where that is less than is due.
        """
        n_tries = 0

        def create(fs: Any, path: str) -> None:
            nonlocal n_tries
            n_tries += 1
            try:
                _create(fs, path, content)
            except Exception:
                if n_tries == 1 or not _holds(fs, path, content):
                    raise

        self._retry("writing", name, create, max_s)

    def copy(self, source: str, target: str) -> None:
        """Have the content of one file under another name too; the server copies where it can."""

        def copy(fs: Any, root: str) -> None:
            if isinstance(fs, ArrowFSWrapper):
                _put(fs, f"{root}/{target}", fs.cat_file(f"{root}/{source}"))
            else:
                fs.cp_file(f"{root}/{source}", f"{root}/{target}")

        self._retry(f"copying {source} to {target}", "", copy)

    def remove(self, name: str) -> None:
        """Remove a file; harmless where there is none."""
        self._retry("removing", name, _remove)

    def remove_all(self, names: Iterable[str], max_s: float) -> None:
        """Remove several files, with few requests where the file system can do that.

        Args:
            names: The files; harmless where one does not exist.
            max_s: For how long to try again what fails.
        """
        left = list(names)

        def remove(fs: Any, root: str) -> None:
            paths = [f"{root}/{name}" for name in left]
            if fs.async_impl:
                fs.rm(paths)
            else:
                for path in paths:
                    _remove(fs, path)

        if left:
            self._retry("removing", "", remove, max_s)

    def names(self, folder: str) -> list[str]:
        """Names of the files that lie directly in a folder, sorted; empty where it is none."""
        return sorted(self.sizes(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """The files that lie directly in a folder, with their bytes."""

        def look(fs: Any, path: str) -> dict[str, int]:
            try:
                entries = fs.ls(path, detail=True)
            except FileNotFoundError as error:
                if is_missing_bucket(error):
                    raise
                return {}
            found = {}
            for entry in entries:
                parent, _, own = entry["name"].rpartition("/")
                if entry["type"] == "file" and parent.strip("/") == path.strip("/") and not own.startswith("."):
                    found[own] = int(entry["size"] or 0)
            found.pop("", None)  # what some tools put in an object store for a folder
            return found

        return self._retry("listing", folder, look)

    def exists(self, name: str) -> bool:
        """Whether a file exists."""

        def look(fs: Any, path: str) -> bool:
            try:
                return bool(fs.info(path)["type"] == "file")
            except FileNotFoundError as error:
                if is_missing_bucket(error):
                    raise
                return False

        return self._retry("looking for", name, look)

    def check_writable(self) -> None:
        """Raise `OSError` unless a small file can be written here and removed."""
        name = f".writable.{secrets.token_hex(4)}"
        self.write(name, b"")
        self.remove(name)

    def hurry(self) -> None:
        """Wait no longer for a fault to pass, now and later; from a signal handler too."""
        self._retrying.hurry()

    def open_log(self, name: str) -> tuple[bytes, Log]:
        """Open a log for appending, and make it where there is none; it lies in segments in a folder of its name."""
        content, segments = open_segments(self, name)
        return content, SegmentLog(self, name, segments)

    def read_log(self, name: str) -> bytes:
        """The content of a log so far; `FileNotFoundError` where there is none."""
        return b"".join(content for _, content in read_segments(self, name))

    def has_log(self, name: str) -> bool:
        """Whether there is a log that is not empty."""
        return any(self.sizes(folder_of(name)).values())

    def cut_log(self, name: str, size: int) -> None:
        """Remove what a log holds after so many bytes."""
        cut_segments(self, name, size)

    def _retry(self, what: str, name: str, call: Callable[[Any, str], T], max_s: float | None = None) -> T:
        """Call with the file system and the path of a file in the folder, and again where that fails and may pass."""

        def connect_and_call() -> T:
            fs, root = self._connect()
            return call(fs, f"{root}/{name}" if name else root)

        return self._retrying(what, f"{self._place}/{name}" if name else self._place, connect_and_call, max_s)

    def _connect(self) -> tuple[Any, str]:
        """The file system, from fsspec's cache of this process and thread, and the folder's path in it.

        It is asked for at each use: after a fork, and in some cases in another thread, it must be another.
        """
        if self._options is None:
            self._options = self._make_options()
        try:
            fs = self._kind(**self._options)
        except ImportError as error:
            raise _missing(self._place, error) from error
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{self._place}: its file system cannot be opened: {type(error).__name__}.") from None
        if self._scheme in _S3:
            fs.retries = 1  # ours are enough, and end in time
        path = f"/{self._url.partition('://')[2].partition('/')[2]}" if self._scheme == "viewfs" else self._url
        return fs, str(fs._strip_protocol(path)).rstrip("/")

    def _make_options(self) -> dict[str, Any]:
        """What the file system is made with, beside what fsspec's configuration says."""
        if self._scheme == "viewfs":  # fsspec does not know that Hadoop's library knows it
            return {"host": self._url.partition("/")[0] + "//" + self._url.partition("://")[2].partition("/")[0]}
        full_url = f"{self._scheme}://{self._user}{self._url.partition('://')[2]}"
        options: dict[str, Any] = dict(self._kind._get_kwargs_from_urls(full_url))
        if self._kind.async_impl:
            options["use_listings_cache"] = False
        if self._scheme in _S3:
            key, _, secret = self._user.rstrip("@").partition(":")
            if secret:
                options |= {"key": unquote(key), "secret": unquote(secret)}
            options["config_kwargs"] = _s3_config(apply_config(self._kind, {}).get("config_kwargs"))
        return options


def _split_userinfo(rest: str) -> tuple[str, str]:
    """``user:password@`` and what follows it."""
    found = _USERINFO.match(rest)
    return (found[0], rest[found.end() :]) if found else ("", rest)


def _file_system_class(scheme: str, place: str) -> Any:
    if scheme == "viewfs":
        return HadoopFileSystem
    try:
        return fsspec.get_filesystem_class(scheme)
    except ValueError:
        raise ConfigError(
            f"{place}: no file system is known by the scheme {scheme!r}; expected a local path, or a URL that begins "
            "with s3://, gs://, abfs://, hdfs:// or another scheme that fsspec knows."
        ) from None
    except ImportError as error:
        raise _missing(place, error) from error


def _missing(place: str, error: ImportError) -> MissingExtra:
    """The error that names the package to install."""
    cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
    package = (cause.name or "a library that is not installed").partition(".")[0]
    return MissingExtra(place, package, _EXTRAS.get(package))


def _s3_config(given: dict[str, Any] | None) -> dict[str, Any]:
    """The configuration of S3's client: without retries of its own, unless the user has asked for some.

    More connections than its ten make the reading of many small segments quick.
    """
    import botocore.session

    config = {"max_pool_connections": 32, **(given or {})}
    session = botocore.session.get_session()
    if "retries" not in config and session.get_config_variable("max_attempts") is None:
        config["retries"] = {"total_max_attempts": 1, "mode": "standard"}
    return config


def _one_request_each(fs: Any) -> dict[str, int]:
    """The option by which S3's file system does not ask for a file's size before it reads it."""
    is_known = fs.async_impl and "max_concurrency" in inspect.signature(fs._cat_file).parameters
    return {"max_concurrency": 1} if is_known else {}


def _put(fs: Any, path: str, content: bytes) -> None:
    """Write a file as atomically as the file system can."""
    if not isinstance(fs, ArrowFSWrapper):
        _make_parent(fs, path)
        fs.pipe_file(path, content)
        return
    with _Draft(fs, path, content) as draft:
        fs.mv(draft, path)  # Arrow's replaces a file, also where Hadoop's would not


def _create(fs: Any, path: str, content: bytes) -> None:
    """Write a file unless it exists."""
    if fs.async_impl:
        fs.pipe_file(path, content, mode="create")
        return
    with _looking:
        if fs.exists(path):
            raise FileExistsError(errno.EEXIST, "it exists", path)
        if isinstance(fs, ArrowFSWrapper):
            _put(fs, path, content)
        else:
            _make_parent(fs, path)
            fs.pipe_file(path, content, mode="create")


def _remove(fs: Any, path: str) -> None:
    try:
        fs.rm_file(path)
    except FileNotFoundError as error:
        if is_missing_bucket(error):
            raise


def _holds(fs: Any, path: str, content: bytes) -> bool:
    """Whether a file has this content."""
    try:
        return bool(fs.cat_file(path) == content)
    except FileNotFoundError:
        return False


def _make_parent(fs: Any, path: str) -> None:
    """Make the folder of a file, where folders are things of their own; an object store might make a bucket."""
    if not fs.async_impl:
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)


class _Draft:
    """A file under a name that no listing shows, until it is renamed; removed in the end if it was not."""

    def __init__(self, fs: Any, path: str, content: bytes) -> None:
        self._fs, self._content = fs, content
        folder, _, own = path.rpartition("/")
        self._path = f"{folder}/.{own}.{secrets.token_hex(4)}"

    def __enter__(self) -> str:
        _make_parent(self._fs, self._path)
        self._fs.pipe_file(self._path, self._content)
        return self._path

    def __exit__(self, *_: object) -> None:
        if self._fs.exists(self._path):
            self._fs.rm_file(self._path)
