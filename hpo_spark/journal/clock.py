"""How long a search ran, by the times of its journal: part by part, and with how many slots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Clock"]


class Clock:
    """Adds up the parts of a search: one from its beginning, and one from each time that it was resumed.

    A part ends with what its driver said of its times, or where it was killed with its last record.

    Attributes:
        seconds: Of all parts together.
        slots: Trials that could run at once in the last part; None where that is not said.
        slot_seconds: Of each part its slots times its seconds, together; None where a part's slots are not said.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slots: int | None = None
        self.slot_seconds: float | None = 0.0
        self._began = self._latest = 0.0

    def begin(self, at: float, slots: int | None) -> None:
        """A part begins."""
        self.stop()
        self._began = self._latest = at
        self.slots = slots

    def see(self, at: float) -> None:
        """Something was recorded."""
        self._latest = at

    def end(self, outcome: Mapping[str, Any]) -> None:
        """A part has ended, and this was said of it."""
        if outcome.get("slots"):
            self.slots = outcome["slots"]
        if "seconds" in outcome:
            self._began = self._latest
            self.seconds, self.slot_seconds = outcome["seconds"], outcome.get("slot_seconds")
        self.stop()

    def stop(self) -> None:
        """The part is over: add it."""
        seconds = self._latest - self._began
        self.seconds += seconds
        if seconds and self.slot_seconds is not None:
            self.slot_seconds = None if self.slots is None else self.slot_seconds + self.slots * seconds
        self._began = self._latest
