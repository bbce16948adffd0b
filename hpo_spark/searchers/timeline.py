"""What was asked for and told, in one order whatever the order of the tells.

Libraries weigh old trials less than new ones and draw by what was told before: for equal seeds to give equal asks they
must see equal sequences. First come the trials that were never asked for, by number; then the others, as asked.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Any

from hpo_spark.space import Params, SearchSpace
from hpo_spark.trial import Trial

__all__ = ["Entry", "Timeline"]


@dataclass(frozen=True)
class Entry:
    """A configuration on the timeline.

    Attributes:
        place: Sorts entries.
        params: The configuration.
        token: What its proposal said; empty for a trial that was never asked for.
        trial: The trial that has ended; None while it is pending.
    """

    place: tuple[bool, int, str]
    params: Params
    token: dict[str, Any]
    trial: Trial | None = None

    @property
    def key(self) -> str:
        """The configuration, as `SearchSpace.key` has it."""
        return self.place[-1]

    @property
    def ask(self) -> int | None:
        """The number of the ask; None for a trial that was never asked for."""
        return self.place[1] if self.place[0] else None


class Timeline:
    """The entries of a search, one a configuration."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._by_key: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> list[Entry]:
        """All that has ended with or without a value, or is pending; nothing of what was cancelled."""
        return self._entries

    def propose(self, params: Params, ask: int, token: dict[str, Any]) -> None:
        """A configuration is proposed."""
        self._put(Entry((True, ask, SearchSpace.key(params)), params, token))

    def expect(self, trial: Trial) -> None:
        """A trial runs."""
        entry = _entry(trial)
        former = self._by_key.get(entry.key)
        if former is None or former.trial is None:
            self._put(entry)

    def tell(self, trial: Trial) -> None:
        """A trial has ended."""
        entry = _entry(trial, trial)
        if trial.tells_nothing:
            self._drop(entry.key)
        else:
            self._put(entry)

    def _put(self, entry: Entry) -> None:
        self._drop(entry.key)
        insort(self._entries, entry, key=_place)
        self._by_key[entry.key] = entry

    def _drop(self, key: str) -> None:
        if (former := self._by_key.pop(key, None)) is not None:
            del self._entries[bisect_left(self._entries, former.place, key=_place)]


def _entry(running: Trial, ended: Trial | None = None) -> Entry:
    token = running.token if isinstance(running.token, dict) else {}
    ask = token.get("ask")
    is_asked = isinstance(ask, int)
    number = ask if isinstance(ask, int) else running.number
    return Entry((is_asked, number, SearchSpace.key(running.params)), running.params, token, ended)


def _place(entry: Entry) -> tuple[bool, int, str]:
    return entry.place
