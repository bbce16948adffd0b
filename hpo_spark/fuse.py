"""Whether trials are trained together, and how many of them: the options of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from hpo_spark.errors import ConfigError

__all__ = ["Fuse", "check_fuse"]

_AUTO, _OFF = "auto", "off"


@dataclass(frozen=True)
class Fuse:
    """How trials are trained together.

    Attributes:
        max_group: Most trials in one group; 2 or more.
        memory_mb: What the members of one group may need together, in MB of 10^6 bytes; above 0. Where a task has a
            memory limit that is lower, half of that holds.
        wait_s: Seconds that a configuration waits for company, where a searcher takes its time to propose; 0 or more.
    """

    max_group: int = 64
    memory_mb: float = 2000.0
    wait_s: float = 1.0

    def __post_init__(self) -> None:
        group, memory, wait = self.max_group, self.memory_mb, self.wait_s
        if isinstance(group, bool) or not isinstance(group, Integral) or group < 2:
            raise ConfigError(
                f"fuse: max_group must be a whole number of 2 or more, got max_group={group!r}; say fuse: off to train "
                "each trial alone."
            )
        if isinstance(memory, bool) or not isinstance(memory, Real) or not memory > 0:
            raise ConfigError(f"fuse: memory_mb must be a number above 0, got memory_mb={memory!r}.")
        if isinstance(wait, bool) or not isinstance(wait, Real) or not 0 <= wait < float("inf"):
            raise ConfigError(f"fuse: wait_s must be a number of 0 or more, got wait_s={wait!r}.")


def check_fuse(choice: Any) -> Fuse | None:
    """What a user chose; None for training each trial alone.

    Raises:
        ConfigError: If it is none of ``auto``, ``off`` and a mapping of options, or an option is wrong.
    """
    if choice is True or choice == _AUTO:
        return Fuse()
    if choice is None or choice is False or choice == _OFF:  # YAML reads an unquoted off as false
        return None
    if isinstance(choice, Fuse):
        return choice
    if not isinstance(choice, Mapping):
        raise ConfigError(f"fuse must be auto, off, or a mapping of options such as {{max_group: 32}}, got {choice!r}.")
    known = list(Fuse.__dataclass_fields__)
    if unknown := [name for name in choice if name not in known]:
        raise ConfigError(f"fuse: has no option {unknown[0]!r}; it takes {known}.")
    return Fuse(**choice)
