"""What to try next: the interface of every searcher.

A searcher is asked for proposals and told what became of them. It knows neither what a trial is made of nor where it
runs; the study gives numbers and seeds, serves what is known already and never evaluates a configuration twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from hpo_spark.errors import ConfigError
from hpo_spark.searchers.history import History
from hpo_spark.space import Params, SearchSpace
from hpo_spark.trial import Trial, TrialState

__all__ = ["Direction", "Proposal", "Searcher", "SequentialSearcher"]

Direction = str  # "minimize" or "maximize"


@dataclass(frozen=True)
class Proposal:
    """A configuration to try.

    Attributes:
        params: The configuration.
        fidelity: Epochs to train in all; None where the objective decides.
        parent: Number of the trial whose checkpoint it continues; None for none.
        token: JSON that `Searcher.tell` gets back with the trial.
        origin: Where it came from, such as its generation; JSON, for reports.
    """

    params: Params
    fidelity: int | None = None
    parent: int | None = None
    token: Any = None
    origin: dict[str, Any] | None = None


class Searcher(ABC):
    """Proposes configurations.

    Args:
        space: What may be tried.
        directions: ``"minimize"`` or ``"maximize"``, one an objective.
        seed: Every draw follows from it.

    Attributes:
        name: The word that chooses it in a study file.
        notes: What it says of itself for the record, such as a generation's statistics, in plain data; the study takes
            them out.
        outdated: Numbers of trials whose checkpoint no proposal will continue from any more; the study takes them out.
        several_objectives: Whether it can search for more than one objective.
        relearns: Whether a configuration that is told again, at a higher fidelity, replaces what was told before.
        learns: Whether what it proposes depends on how trials ended, so that it does better when asked for few at once.
        is_slow: Whether an ask can take so long that it is made in a thread of its own.
    """

    name: ClassVar[str]
    several_objectives: ClassVar[bool] = False
    relearns: ClassVar[bool] = False
    learns: ClassVar[bool] = True
    is_slow: bool = False

    def __init__(self, space: SearchSpace, directions: Sequence[Direction] = ("maximize",), seed: int = 0) -> None:
        if len(directions) > 1 and not self.several_objectives:
            raise ConfigError(
                f"it searches for one objective, got directions={list(directions)}; give one direction or choose nsga2."
            )
        self.space = space
        self.directions = tuple(directions)
        self.seed = seed
        self.notes: deque[dict[str, Any]] = deque()
        self.outdated: deque[int] = deque()

    @property
    def ends(self) -> bool:
        """Whether it ends by itself, without a budget from outside."""
        return False

    @property
    def n_left(self) -> int | None:
        """Configurations that it can still propose, before it ends by itself; None where nobody knows."""
        return None

    @property
    def depends_on_clock(self) -> bool:
        """Whether what it proposes depends on how long trials took, so that it is not the same another time."""
        return False

    @property
    def full_fidelity(self) -> int | None:
        """Epochs of a full training, where trials are given fidelities; None where the objective decides."""
        return None

    def adopt(self, params: Params) -> Proposal:
        """A configuration that a user wants tried, as this searcher would have it tried; from any thread."""
        return Proposal(params, self.full_fidelity)

    @abstractmethod
    def ask(self, n: int) -> list[Proposal]:
        """Propose up to ``n`` configurations.

        Returns:
            An empty list means "later" while trials are pending, and "finished" when none is.
        """

    @abstractmethod
    def tell(self, trial: Trial) -> None:
        """Learn how a trial ended; in any order, also of trials that were never asked for."""

    @abstractmethod
    def expect(self, trial: Trial) -> None:
        """Learn that a trial runs which this searcher object was not asked for."""

    def restore(self, history: Iterable[Trial]) -> None:
        """Learn a search so far, and go on with the ask after its last one, without asking for any of it again.

        Args:
            history: Trials that have ended, and those that run or will run again, with the tokens of their proposals.
        """
        for trial in history:
            if trial.state is TrialState.RUNNING:
                self.expect(trial)
            else:
                self.tell(trial)


class SequentialSearcher(Searcher):
    """Proposes one configuration after the other, none that is known; each ask draws from a generator of its own.

    Subclasses say in `_propose` what comes next. Ask number i is counted in the proposal's token, so that a restored
    searcher goes on with the next.
    """

    relearns = True

    def __init__(self, space: SearchSpace, directions: Sequence[Direction] = ("maximize",), seed: int = 0) -> None:
        super().__init__(space, directions, seed)
        self.history = History(space, directions)
        self._n_asked = 0

    @property
    def n_left(self) -> int | None:
        """Those of a finite space that are not known yet."""
        cardinality = self.space.cardinality
        return None if cardinality is None else max(0, cardinality - self.history.n_seen)

    def ask(self, n: int) -> list[Proposal]:
        """Propose up to ``n`` configurations; fewer when hardly any is left."""
        proposals: list[Proposal] = []
        while len(proposals) < n and not self.history.is_exhausted:
            proposal = self._propose(np.random.default_rng([self.seed, self._n_asked]))
            if proposal is None:
                break
            token = {"ask": self._n_asked, **(proposal.token or {})}
            proposals.append(replace(proposal, token=token))
            self._n_asked += 1
            self.history.expect(proposal.params)
        return proposals

    def tell(self, trial: Trial) -> None:
        """Learn how a trial ended; in any order, also of trials that were never asked for."""
        self._count(trial)
        self.history.tell(trial)

    def expect(self, trial: Trial) -> None:
        """Learn that a trial runs which this searcher object was not asked for."""
        self._count(trial)
        self.history.expect(trial.params)

    @abstractmethod
    def _propose(self, rng: np.random.Generator) -> Proposal | None:
        """The next configuration, which must not be in `history`; None for none.

        Args:
            rng: The generator of this ask.
        """

    def _count(self, trial: Trial) -> None:
        number = trial.token.get("ask") if isinstance(trial.token, dict) else None
        if isinstance(number, int) and number >= self._n_asked:
            self._n_asked = number + 1
            self._resume(trial)

    def _resume(self, trial: Trial) -> None:
        """A trial of a restored search that is the latest so far, for those whose next ask depends on the last."""
