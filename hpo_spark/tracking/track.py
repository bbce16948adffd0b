"""Writing to trackers what they lack of a search that does not run: ``hpo-spark track``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from hpo_spark.errors import ConfigError, EnvironmentProblem
from hpo_spark.journal import Lease, StudyRecord, read_record
from hpo_spark.storage import Storage, open_storage
from hpo_spark.tracking.base import Outcome, StudyFacts, Tracker, cause_of
from hpo_spark.tracking.choice import TRACKERS, make_trackers

__all__ = ["track"]


def track(place: str | os.PathLike[str], to: Sequence[str] = ()) -> list[str]:
    """Write what trackers lack of a search, from its journal.

    Args:
        place: The run folder, as a path or a URL.
        to: Names of trackers; none for those that the search has.

    Returns:
        What was done, a sentence a tracker.

    Raises:
        ConfigError: If there is no journal, a search runs there, or it is not said where to write.
        MissingExtra: If a tracker's library is not installed.
        EnvironmentProblem: If a tracker cannot be written to. What was written stays.
    """
    folder = open_storage(place)
    trackers = make_trackers(_chosen(read_record(folder), to))
    for tracker in trackers:
        tracker.check()
    lease = Lease(folder)
    lease.acquire(waits=False)
    try:
        record = read_record(folder)
        return [_write(tracker, record, folder) for tracker in trackers]
    finally:
        lease.release()


def _chosen(record: StudyRecord, to: Sequence[str]) -> list[Any]:
    """The entries of a study file: the search's own where it has some."""
    own = record.study.get("tracking") or []
    entries = [own] if isinstance(own, str | Mapping) else list(own)
    if not to and not entries:
        raise ConfigError(
            f"{record.place}: the search is not tracked; say where to write it: "
            + " or ".join(f"--to {name}" for name in sorted(TRACKERS, reverse=True))
        )
    by_name = {entry if isinstance(entry, str) else next(iter(entry)): entry for entry in entries}
    return [by_name.get(name, name) for name in to] or entries


def _write(tracker: Tracker, record: StudyRecord, folder: Storage) -> str:
    state = record.end.get("state") if record.end is not None else "interrupted"
    try:
        tracker.open(StudyFacts.of(record), folder, goes_on=False)
        for trial in record.ended:
            tracker.take(trial)
        tracker.close(Outcome.of_folder(folder, state))
    except Exception as error:
        raise EnvironmentProblem(
            f"{tracker.place} cannot be written to: {cause_of(error)}. It has got {tracker.n_written} more trial(s); "
            "write the others with the same command when it can be."
        ) from error
    said = (
        f"{folder}: {tracker.n_written} of {len(record.ended)} trial(s) are new in {tracker.place}, which now has all"
    )
    return f"{said} but {', '.join(map(str, tracker.left_out))}" if tracker.left_out else said
