"""Deterministic mode: what it fixes, and what it refuses because the clock decides it.

The trial table (number, params, fidelity, seed, state, values) is then the same with any number of slots and whatever
ends first. For that the number of trials in flight is fixed, and results are dealt with in the order of the trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from numbers import Integral

from hpo_spark.errors import ConfigError
from hpo_spark.searchers.base import Searcher

__all__ = ["check_executor", "check_lookahead", "check_no_clock"]

# Enough for eight slots; a search that looks further ahead knows less at each ask.
_DEFAULT_LOOKAHEAD = 8


def check_lookahead(deterministic: bool, lookahead: int | None, searcher: Searcher) -> int | None:
    """How many trials are in flight in deterministic mode; None where that is not asked for.

    Raises:
        ConfigError: If the lookahead is no whole number of 1 or more, is given in the other mode, or the searcher goes
            by the clock.
    """
    if not deterministic:
        if lookahead is not None:
            raise ConfigError(f"lookahead={lookahead!r} belongs to deterministic: true; say both or neither.")
        return None
    if searcher.depends_on_clock:
        raise ConfigError(
            f"deterministic: the searcher {searcher.name!r} goes by the seconds that trials took, which differ from "
            "run to run; choose another acquisition than EIps, or deterministic: false."
        )
    if lookahead is None:
        return _DEFAULT_LOOKAHEAD
    if isinstance(lookahead, bool) or not isinstance(lookahead, Integral) or lookahead < 1:
        raise ConfigError(f"lookahead must be a whole number of 1 or more, got lookahead={lookahead!r}.")
    return int(lookahead)


def check_no_clock(limits: Mapping[str, float | None]) -> None:
    """Raise `ConfigError` if any limit in seconds is given: it ends a study, or a trial, here or there.

    Args:
        limits: Seconds by the name of the limit.
    """
    for name, seconds in limits.items():
        if seconds is not None:
            raise ConfigError(
                f"deterministic: {name}={seconds:g} depends on the clock; leave it out, or say deterministic: false."
            )


def check_executor(executor: Executor) -> None:
    """Raise `ConfigError` for an executor with which trials, or the search, cannot be the same each time."""
    check_no_clock({"task_timeout_s": getattr(executor, "task_timeout_s", None)})
    if isinstance(executor, ThreadPoolExecutor):
        raise ConfigError(
            "deterministic: the threads of a ThreadPoolExecutor share one random generator with the search; use "
            "SerialExecutor, ProcessExecutor or SparkExecutor."
        )
