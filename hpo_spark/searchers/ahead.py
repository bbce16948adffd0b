"""The asks of a slow searcher, made in a thread of its own: whoever tells, journals or watches a limit never waits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from hpo_spark.searchers.base import Proposal, Searcher
from hpo_spark.space import Params
from hpo_spark.trial import Trial

__all__ = ["Ahead"]

# Seconds that the thread gets to end in.
_GRACE_S = 2.0


class Ahead:
    """Asks and tells a searcher in a thread, and keeps proposals ready.

    The searcher belongs to the thread: nobody else may touch it until `close`.

    Args:
        searcher: Whom to ask.
        n_ahead: Proposals to have ready beyond those that are wanted; they do not know what ends meanwhile.
        wake: Called in the thread when there is something new to ask for here.
    """

    def __init__(self, searcher: Searcher, n_ahead: int, wake: Callable[[], None]) -> None:
        self._searcher = searcher
        self._n_ahead = n_ahead
        self._wake = wake
        self._changed = threading.Condition()
        # What the searcher is to learn: the name of its method, and a trial.
        self._told: deque[tuple[str, Trial]] = deque()
        self._ready: deque[Proposal] = deque()
        self._n_wanted = 0
        # The searcher had nothing to propose, and may have only after the next tell.
        self._is_dry = False
        self._is_closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=f"ask-{searcher.name}", daemon=True)
        self._thread.start()

    def ask(self, n: int) -> list[Proposal]:
        """Up to ``n`` of the proposals that are ready; for those that lack, ``wake`` is called later.

        Raises:
            Exception: Whatever the searcher raised.
        """
        with self._changed:
            if self._error is not None:
                raise self._error
            taken = [self._ready.popleft() for _ in range(min(n, len(self._ready)))]
            self._n_wanted = n - len(taken)
            self._changed.notify()
            return taken

    def tell(self, trial: Trial) -> None:
        """Have the searcher learn how a trial ended, before it is asked again."""
        self._pass_on("tell", trial)

    def expect(self, trial: Trial) -> None:
        """Have the searcher learn that a trial runs which it did not propose."""
        self._pass_on("expect", trial)

    def adopt(self, params: Params) -> Proposal:
        """A configuration that a user wants tried, as the searcher would have it tried."""
        return self._searcher.adopt(params)

    @property
    def full_fidelity(self) -> int | None:
        """The searcher's epochs of a full training."""
        return self._searcher.full_fidelity

    @property
    def learns(self) -> bool:
        """Whether what the searcher proposes depends on how trials ended."""
        return self._searcher.learns

    @property
    def may_propose(self) -> bool:
        """Whether something may come without another tell."""
        with self._changed:
            return bool(self._ready) or not self._is_dry

    def close(self) -> None:
        """Ask no more, and have the searcher learn what is left; an ask that takes longer ends by itself."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(_GRACE_S)

    def _pass_on(self, method: str, trial: Trial) -> None:
        with self._changed:
            self._told.append((method, trial))
            self._is_dry = False
            self._changed.notify()

    def _work(self) -> None:
        try:
            while self._wait():
                self._step()
            self._learn()
        except BaseException as error:
            with self._changed:
                self._error = error
            self._wake()

    def _wait(self) -> bool:
        """Sleep until there is something to do; False for the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._told or (self._lacks and not self._is_dry))
            return not self._is_closed

    @property
    def _lacks(self) -> bool:
        return len(self._ready) < self._n_wanted + self._n_ahead

    def _learn(self) -> None:
        with self._changed:
            told = list(self._told)
            self._told.clear()
        for method, trial in told:
            getattr(self._searcher, method)(trial)

    def _step(self) -> None:
        """Learn all that was told, then make one proposal if one is needed."""
        self._learn()
        with self._changed:
            if not self._lacks:
                return
        proposals = self._searcher.ask(1)
        with self._changed:
            self._ready.extend(proposals)
            self._is_dry = not proposals and not self._told
            is_awaited = self._n_wanted > 0
        if is_awaited:
            self._wake()
