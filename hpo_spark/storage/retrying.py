"""Patience with faults that pass: a server that fails for a while, a network that goes and comes back."""

from __future__ import annotations

import errno
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from hpo_spark.errors import HpoSparkError
from hpo_spark.storage.faults import describe, is_passing, translate

__all__ = ["Retrying"]

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.2
_MAX_PAUSE_S = 5.0

T = TypeVar("T")


class Retrying:
    """Calls again what fails and may pass, with growing pauses; from any thread.

    Patience is that of all calls together: once a fault has outlasted it, a further call tries once and fails, until
    one has succeeded. So a search that ends because its storage has gone does not wait for it once more at each step of
    its end.

    Args:
        retry_s: Seconds for which to try again; 0 tries once.
    """

    def __init__(self, retry_s: float) -> None:
        self.retry_s = retry_s
        self._hurry = threading.Event()
        # When the present fault began and was last met; None where all is well.
        self._fault: tuple[float, float] | None = None
        # A source of its own: searchers seed the one that all share.
        self._random = random.Random()

    def __call__(self, what: str, path: str, call: Callable[[], T], max_s: float | None = None) -> T:
        """Call until it succeeds, fails for good, or patience ends.

        Args:
            what: What the call does, such as "reading"; for messages.
            path: The file, for messages.
            call: The call; it must be harmless to make it again when its answer was lost.
            max_s: Seconds to try again at most, where less than `retry_s` is due.

        Raises:
            OSError: Of the class that says what was wrong; without secrets, also in what it hides.
        """
        retry_s = self.retry_s if max_s is None else min(max_s, self.retry_s)
        began: float | None = None
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                result = call()
                break
            except HpoSparkError:
                raise
            except Exception as error:
                failure = self._failure(error, what, path, retry_s)
                if failure is None and began is None:
                    logger.warning(
                        "%s: %s failed (%s); it is tried again for up to %g s", path, what, describe(error), retry_s
                    )
            if failure is not None:
                raise failure  # outside of `except`, so that it does not carry along what may hold credentials
            began = time.monotonic() if began is None else began
            self._hurry.wait(pause_s * self._random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)
        self._fault = None
        if began is not None:
            logger.info("%s: %s goes on, after %.1f s", path, what, time.monotonic() - began)
        return result

    def hurry(self) -> None:
        """Wait no longer for a fault to pass, now and later; from a signal handler too."""
        self._hurry.set()

    def _failure(self, error: Exception, what: str, path: str, retry_s: float) -> OSError | None:
        """What to raise; None where it is worth another try."""
        if not is_passing(error):
            return translate(error, what, path)
        now = time.monotonic()
        fault = self._fault
        since = now if fault is None or now - fault[1] > max(self.retry_s, 2 * _MAX_PAUSE_S) else fault[0]
        self._fault = (since, now)
        if now - since < retry_s and not self._hurry.is_set():
            return None
        tried = f"for {now - since:.0f} s" if now - since >= 1.0 else "once"
        return OSError(
            errno.EIO,
            f"{what} failed, and was tried {tried}; the last reason was {describe(error)}. What was written before is "
            "safe there",
            path,
        )
