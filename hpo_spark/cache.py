"""The cache of a host: folders of files that all processes there map, so that their pages are in memory once.

    ROOT/KEY/           the files, renamed into place when they are whole
    ROOT/KEY.OWNER      a mark: whom the folder is for; one that has ended takes its marks away
    ROOT/KEY.lock       held while the folder is filled or removed
    ROOT/draft-...      what is being written

ROOT is ``$HPO_SPARK_CACHE``, else the first of YARN's ``$LOCAL_DIRS``, else the folder for temporary files; in it a
folder for each user. Whoever uses a folder holds a lock on its mark, which the system lets go of when the process ends:
the mark of an owner that was killed is taken away later. A file that is mapped outlives its removal.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

from hpo_spark.errors import DataError

__all__ = ["FOLDER_VARIABLE", "SIZE_VARIABLE", "HostCache", "base_folder", "new_owner"]

FOLDER_VARIABLE = "HPO_SPARK_CACHE"
SIZE_VARIABLE = "HPO_SPARK_CACHE_MB"

_DEFAULT_MAX_MB = 50_000.0
# A mark that nobody holds, and that was last used so long ago, belongs to nobody: Spark ends idle workers after a
# minute, and those of the next trial of the same search hold it again.
_STALE_S = 3600.0
_BLOCK = 1 << 22

# The marks that this process holds, by their paths: descriptors with a shared lock.
_held: dict[Path, int] = {}


def new_owner() -> str:
    """A name for somebody who uses folders, unlike all others."""
    return uuid.uuid4().hex[:16]


class HostCache:
    """The cache of this host and user.

    Args:
        root: Where it lies; None for the place that the module's docstring says.
        max_bytes: How much it may hold; None for ``$HPO_SPARK_CACHE_MB``, or 50 GB.

    Raises:
        DataError: If the place belongs to another user, or a variable makes no sense.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, max_bytes: float | None = None) -> None:
        self.root = _default_root() if root is None else Path(root)
        self.max_bytes = _default_max_bytes() if max_bytes is None else max_bytes
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.root.stat().st_uid != os.getuid():
            raise DataError(
                f"The cache {self.root} belongs to another user; set {FOLDER_VARIABLE} to a folder of yours."
            )

    def hold(self, key: str, owner: str) -> Path | None:
        """The folder of a key, marked as used until this process ends or the owner releases it.

        Waits while somebody fills it.

        Returns:
            None where there is none.
        """
        with self._locked(key, fcntl.LOCK_SH):
            found = self._marked(key, owner)
        if found is None:
            self._drop_lock(key)
        return found

    def fill(self, key: str, owner: str, n_bytes: int, write: Callable[[Path], None]) -> Path:
        """The folder of a key, filled first if there is none yet; one process does that, and the others wait for it.

        Args:
            key: Identifies the content; letters and digits.
            owner: Whom it is for.
            n_bytes: About how much it will hold.
            write: Writes the files into the folder that it is given.

        Raises:
            DataError: If there is no room.
        """
        with self._locked(key, fcntl.LOCK_EX):
            if (found := self._marked(key, owner)) is not None:
                return found
            self.make_room(n_bytes)
            with self.draft() as draft:
                write(draft)
                os.replace(draft, self.root / key)
            found = self._marked(key, owner)
            assert found is not None
            return found

    def key_of(self, path: Path) -> str:
        """The digest of a file, or of the files of a folder with their names; of a folder in here it is its name."""
        if path.parent == self.root and not path.name.startswith("draft-"):
            return path.name
        digest = blake2b(digest_size=16)
        for file in files_of(path):
            digest.update(f"{file.name}:{file.stat().st_size}\n".encode())
            with file.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
        return digest.hexdigest()

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """A new folder on the same file system, gone afterwards unless it was renamed."""
        path = self.root / f"draft-{new_owner()}"
        path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def release(self, owner: str) -> None:
        """Take an owner's marks away, and remove the folders that nobody else uses."""
        for mark in self.root.glob(f"*.{owner}"):
            if (descriptor := _held.pop(mark, None)) is not None:
                os.close(descriptor)
            with self._locked(mark.stem, fcntl.LOCK_EX):
                mark.unlink(missing_ok=True)
                if not list(self._marks(mark.stem)):
                    self._remove(mark.stem)

    def n_bytes(self) -> int:
        """How much it holds."""
        return sum(_size(path) for path in self.root.iterdir() if path.is_dir())

    def make_room(self, n_bytes: int) -> None:
        """Remove all that nobody uses any more, and find out whether there is room for more.

        Args:
            n_bytes: How much is to come.

        Raises:
            DataError: If there is none.
        """
        self._sweep_drafts()
        folders = [path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("draft-")]
        total = sum(map(_size, folders))
        for folder in folders:
            if self._is_unused(folder.name):
                size = _size(folder)
                total -= size if self._try_remove(folder.name) else 0
        if total + n_bytes > self.max_bytes:
            raise DataError(
                f"The cache {self.root} holds {total / 1e6:.0f} MB for searches that run, and {n_bytes / 1e6:.0f} MB "
                f"more would exceed its limit of {self.max_bytes / 1e6:.0f} MB; raise {SIZE_VARIABLE}."
            )
        if n_bytes > (free := shutil.disk_usage(self.root).free):
            raise DataError(
                f"{n_bytes / 1e6:.0f} MB of data do not fit into {self.root}, where {free / 1e6:.0f} MB are free; set "
                f"{FOLDER_VARIABLE} to a folder with more room."
            )

    def _marked(self, key: str, owner: str) -> Path | None:
        folder, mark = self.root / key, self.root / f"{key}.{owner}"
        if not folder.is_dir():
            return None
        if mark in _held and mark.exists():
            os.utime(mark)
            return folder
        if (old := _held.pop(mark, None)) is not None:
            os.close(old)
        _held[mark] = descriptor = os.open(mark, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.utime(mark)
        return folder

    def _lock_of(self, key: str) -> Path:
        return self.root / f"{key}.lock"

    def _marks(self, key: str) -> Iterator[Path]:
        return (path for path in self.root.glob(f"{key}.*") if path.suffix != ".lock")

    def _is_unused(self, key: str) -> bool:
        return not any(_is_alive(mark) for mark in self._marks(key))

    def _try_remove(self, key: str) -> bool:
        """Remove a folder that nobody uses, unless somebody just begins to."""
        try:
            with self._locked(key, fcntl.LOCK_EX | fcntl.LOCK_NB):
                if self._is_unused(key):
                    self._remove(key)
                    return True
        except BlockingIOError:
            pass
        return False

    def _remove(self, key: str) -> None:
        """Remove a folder, its marks and its lock; the lock must be held."""
        with self.draft() as draft, contextlib.suppress(FileNotFoundError):
            os.replace(self.root / key, draft / key)
        for mark in self._marks(key):
            mark.unlink(missing_ok=True)
        self._lock_of(key).unlink(missing_ok=True)

    def _drop_lock(self, key: str) -> None:
        """Remove the lock of a folder that is not there, unless somebody else is at it."""
        with contextlib.suppress(BlockingIOError), self._locked(key, fcntl.LOCK_EX | fcntl.LOCK_NB):
            if not (self.root / key).is_dir():
                self._lock_of(key).unlink(missing_ok=True)

    def _sweep_drafts(self) -> None:
        for draft in self.root.glob("draft-*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - max(path.stat().st_mtime for path in (draft, *draft.iterdir())) > _STALE_S:
                    shutil.rmtree(draft, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self, key: str, how: int) -> Iterator[None]:
        """Hold the lock of a key; who holds it alone may remove its file, so that it may be another one by then."""
        path = self._lock_of(key)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, how)
                if _is_same_file(descriptor, path):
                    yield
                    return
            finally:
                os.close(descriptor)


def files_of(path: Path) -> list[Path]:
    """A file itself, or the files of a folder by name."""
    return sorted(path.iterdir()) if path.is_dir() else [path]


def _size(path: Path) -> int:
    return sum(_sizes(path.rglob("*")))


def _sizes(paths: Iterable[Path]) -> Iterator[int]:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            yield path.stat().st_size


def _is_alive(mark: Path) -> bool:
    """Whether somebody holds a mark, or did a while ago."""
    try:
        if time.time() - mark.stat().st_mtime < _STALE_S:
            return True
        descriptor = os.open(mark, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def base_folder() -> str:
    """What the caches of a host's users lie in, unless a process is told otherwise."""
    yarn = os.environ.get("LOCAL_DIRS", "").split(",")[0]  # of the application: YARN removes it at the end
    return os.path.abspath(os.environ.get(FOLDER_VARIABLE) or yarn or tempfile.gettempdir())


def _default_root() -> Path:
    return Path(base_folder()) / f"hpo_spark-{os.getuid()}"


def _default_max_bytes() -> float:
    text = os.environ.get(SIZE_VARIABLE)
    try:
        megabytes = _DEFAULT_MAX_MB if text is None else float(text)
    except ValueError:
        raise DataError(f"{SIZE_VARIABLE} must be a number of MB, got {text!r}.") from None
    return megabytes * 1e6
