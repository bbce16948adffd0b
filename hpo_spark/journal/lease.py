"""One driver a folder: whoever runs a search says so there, and renews it; what is not renewed is nobody's.

A lease is the file ``lease-N.json``. It is created exclusively, and the highest number holds: whoever takes over a
folder creates the next one, which only one can, on a disk and in an object store alike.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from hpo_spark.errors import FolderInUse
from hpo_spark.storage import Storage

__all__ = ["Lease"]

logger = logging.getLogger(__name__)

_NAME = re.compile(r"lease-(\d+)\.json")
# The leases that this process holds now, by place and number; a lease and its entry here come at once.
_held: set[tuple[str, int]] = set()
_claiming = threading.Lock()

HEARTBEAT_S = 10.0
STALE_S = 60.0
# A lease that is old by its own clock, which may go wrong, is watched for so long all the same.
_WATCH_S = 1.5 * HEARTBEAT_S


class Lease:
    """A claim on a run folder.

    Args:
        storage: The folder.
        on_lost: Called in a thread of the lease's own when somebody else has taken over.
    """

    def __init__(self, storage: Storage, on_lost: Callable[[], None] = lambda: None) -> None:
        self._storage = storage
        self._on_lost = on_lost
        self._number = 0
        self._n_beats = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="hpo-spark-lease", daemon=True)

    def acquire(self, waits: bool) -> None:
        """Claim the folder.

        Args:
            waits: Whether to wait, for a minute at most, until another host's lease that may be stale is so for sure.

        Raises:
            FolderInUse: If somebody runs a search there.
        """
        while not self._try(waits):
            pass
        self._thread.start()

    def release(self) -> None:
        """Give the folder back."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._number:
            _held.discard((self._storage.place, self._number))
            with contextlib.suppress(OSError):
                self._storage.remove(_file(self._number))

    def _try(self, waits: bool) -> bool:
        """One try; False where somebody else was quicker."""
        former = self._numbers()
        if former:
            self._outwait(former[-1], waits)
        number = former[-1] + 1 if former else 1
        mine = self._storage.place, number
        try:
            with _claiming:
                self._storage.create(_file(number), self._content())
                _held.add(mine)
        except FileExistsError:
            return False
        if set(self._numbers()) - {*former, number}:  # somebody began from another view of the folder
            _held.discard(mine)
            self._storage.remove(_file(number))
            return False
        for old in former:
            self._storage.remove(_file(old))
        self._number = number
        return True

    def _outwait(self, number: int, waits: bool) -> None:
        """Return once a lease is nobody's; raise where it is somebody's."""
        content = self._read(number)
        if content is None:
            return
        holder = f"process {content.get('pid')} on {content.get('host')}"
        if content.get("machine") == _machine():
            # One of ours that could not be removed when it was given back, for its place had gone, is nobody's.
            with _claiming:
                is_left_over = content.get("pid") == os.getpid() and (self._storage.place, number) not in _held
            if is_left_over or not _is_alive(content):
                logger.info("%s: its search was run by %s, which has ended; taking over", self._storage, holder)
                return
            raise FolderInUse(f"{self._storage}: {holder} runs this search. Wait for its end, or end it first.")
        age_s = time.time() - float(content.get("at", 0.0))
        if not waits and age_s < STALE_S:
            raise FolderInUse(
                f"{self._storage}: {holder} runs this search, or did so {age_s:.0f} s ago. If it has died, --resume "
                f"takes over once that is {STALE_S:.0f} s ago."
            )
        patience_s = max(_WATCH_S, STALE_S - age_s)
        logger.warning(
            "%s: %s ran this search %.0f s ago; waiting %.0f s to see whether it lives",
            self._storage, holder, age_s, min(STALE_S, patience_s),
        )  # fmt: skip
        deadline = time.monotonic() + min(STALE_S, patience_s)
        while time.monotonic() < deadline:
            time.sleep(min(1.0, self._storage.look_every_s))
            now = self._read(number)
            if now is None:
                return
            if now != content:
                raise FolderInUse(f"{self._storage}: {holder} runs this search, and has just said so. Let it end.")
        logger.info("%s: taking over from %s, which says no more", self._storage, holder)

    def _renew(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            try:
                if max(self._numbers(), default=0) > self._number:
                    self._on_lost()
                    return
                self._n_beats += 1
                self._storage.write(_file(self._number), self._content())
            except Exception as error:  # whatever it is passes, or the journal meets it too
                logger.warning("%s: the lease could not be renewed: %s", self._storage, error)

    def _numbers(self) -> list[int]:
        found = (_NAME.fullmatch(name) for name in self._storage.names(""))
        return sorted(int(match[1]) for match in found if match)

    def _content(self) -> bytes:
        me = psutil.Process()
        content = {
            "host": socket.gethostname(),
            "pid": me.pid,
            "started": me.create_time(),
            "machine": _machine(),
            "beats": self._n_beats,
            "at": round(time.time(), 3),
        }
        return json.dumps(content).encode()

    def _read(self, number: int) -> dict[str, Any] | None:
        try:
            content = json.loads(self._storage.read(_file(number)))
        except FileNotFoundError:
            return None
        except ValueError:  # of a file system that lost it in a crash
            return {}
        return content if isinstance(content, dict) else {}


def _file(number: int) -> str:
    return f"lease-{number}.json"


def _machine() -> str:
    """Tells apart places whose process numbers mean different things: machines, their boots, and containers."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _is_alive(content: dict[str, Any]) -> bool:
    try:
        process = psutil.Process(int(content["pid"]))
        # Another process may have got the number since.
        return abs(process.create_time() - float(content["started"])) < 1.0 and process.status() != "zombie"
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return False
    except psutil.Error:
        return True
