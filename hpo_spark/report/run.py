"""A search as its journal tells it, for reports, comparisons and tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from hpo_spark.confirm import Confirm, Confirmed, confirmed
from hpo_spark.describing import objective_names
from hpo_spark.journal import StudyRecord, read_record
from hpo_spark.live import reported_so_far
from hpo_spark.redaction import redact
from hpo_spark.report.labels import for_plotly
from hpo_spark.report.slots import rows_of
from hpo_spark.report.view import View
from hpo_spark.results.measures import counts_of, machine_seconds, slot_use
from hpo_spark.results.result import best_first
from hpo_spark.space import SearchSpace
from hpo_spark.storage import Storage
from hpo_spark.trial import Trial

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """What a journal says of its search.

    Attributes:
        place: Its run folder, without passwords.
        record: The journal.
        running: The trials that run, with what they have reported so far; empty where that was not looked for.
    """

    place: str
    record: StudyRecord
    running: Sequence[Trial] = ()

    @classmethod
    def read(cls, folder: str | os.PathLike[str] | Storage) -> Run:
        """Read a run folder's journal; of a `Storage` also what running trials have reported.

        Raises:
            ConfigError: If there is none.
            JournalError: If it is damaged.
        """
        place = folder.place if isinstance(folder, Storage) else os.fspath(folder)
        record = read_record(folder)
        if not isinstance(folder, Storage) or record.end is not None:
            return cls(redact(place), record)
        curves = reported_so_far(folder)
        running = [replace(trial, curve=curves.get(trial.number, [])) for trial in record.unfinished]
        return cls(redact(place), record, running)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The section ``study`` of the study file."""
        settings: Mapping[str, Any] = self.record.study.get("study", {})
        return settings

    @property
    def name(self) -> str:
        """The study's name."""
        return str(self.settings.get("name") or os.path.basename(self.place.rstrip("/")) or "study")

    @property
    def directions(self) -> list[str]:
        """One an objective."""
        return self.record.directions or ["maximize"]

    @cached_property
    def space(self) -> SearchSpace:
        """What is searched."""
        return SearchSpace.from_dict(self.record.study["space"])

    @cached_property
    def trials(self) -> list[Trial]:
        """The trials that have ended, by number."""
        return self.record.trials

    @cached_property
    def ranked(self) -> list[Trial]:
        """The search's completed ones, best first."""
        return best_first(self.trials, self.directions)

    @cached_property
    def confirmed(self) -> list[Confirmed]:
        """The configurations that were trained again with other seeds, the winner first; empty where not all were."""
        wanted = self.record.study.get("confirm")
        return confirmed(self.trials, self.directions, Confirm(**wanted)) if wanted else []

    @property
    def best(self) -> Trial | None:
        """The best trial: where configurations were trained again, the winner's repeat of median value."""
        if self.winner is not None:
            return self.winner.trial
        return self.ranked[0] if self.ranked else None

    @property
    def winner(self) -> Confirmed | None:
        """The configuration of the best mean; None where none was trained again, or not all were."""
        return self.confirmed[0] if self.confirmed else None

    @property
    def best_values(self) -> list[float]:
        """The best trial's values; of a winner that was trained again the mean. Empty where there is no value."""
        if self.winner is not None:
            return [self.winner.mean]
        return list(self.ranked[0].values or []) if self.ranked else []

    @cached_property
    def failed(self) -> list[Trial]:
        """Those that failed, in whatever way."""
        return [trial for trial in self.trials if trial.state.is_failure]

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials in each state that occurs."""
        return counts_of(self.trials)

    @property
    def is_running(self) -> bool:
        """Whether nothing says that the search has ended: it runs, or was killed."""
        return self.record.end is None

    @property
    def state(self) -> str:
        """How the search ended."""
        return "running, or was killed" if self.record.end is None else str(self.record.end.get("state"))

    @property
    def searcher(self) -> Mapping[str, Any]:
        """Its name and options."""
        given = self.record.study.get("searcher")
        if given is None:
            given = "nsga2" if len(self.directions) > 1 else "evolution"
        return {"name": given} if isinstance(given, str) else dict(given)

    @property
    def searcher_text(self) -> str:
        """Its name, and its options in parentheses."""
        options = ", ".join(f"{key}={value}" for key, value in self.searcher.items() if key != "name")
        return f"{self.searcher.get('name')}" + (f" ({options})" if options else "")

    @property
    def machine_seconds(self) -> float:
        """Seconds that trials ran, all slots together."""
        return machine_seconds(self.trials)

    @cached_property
    def slots(self) -> int:
        """Trials that could run at once, latest; where the journal does not say, that ever did."""
        return self.record.slots or len(rows_of(self.trials))

    @property
    def slot_use(self) -> float | None:
        """Share of the slots' time in which they ran trials, in [0, 1]; None where no time has passed."""
        said = self.record.slot_seconds
        return slot_use(self.trials, self.slots * self.record.seconds if said is None else said)

    def view(self, escape: Callable[[str], str] = for_plotly) -> View:
        """The search as plots take it."""
        names = objective_names(self.record.study)
        return View(
            self.trials, self.space, self.directions, names, self.settings.get("reference_point"), escape, self.running
        )
