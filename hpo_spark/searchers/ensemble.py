"""Several searchers share one history and take turns by success.

    each ask  draw a member: the more often its proposals were among the best of their time, the likelier
    each tell every member learns of every trial, whoever proposed it

References:
    Thompson (1933), "On the likelihood that one unknown probability exceeds another in view of the evidence of two
    samples", Biometrika 25, 285-294: a member is drawn with the probability that it is the best.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hpo_spark.errors import ConfigError
from hpo_spark.searchers import make_searcher
from hpo_spark.searchers.base import Direction, Proposal, Searcher
from hpo_spark.searchers.history import losses_of
from hpo_spark.searchers.options import check_shares, check_whole
from hpo_spark.seeds import derive_seed
from hpo_spark.space import SearchSpace
from hpo_spark.trial import Trial, TrialState

__all__ = ["EnsembleSearcher"]

_STREAM = 0xE5E5
_UNNUMBERED = -1
_MEMBERS = ("evolution", "de")
# A trial is a success if it is among this share of the best when it is proposed.
_SUCCESS = 0.2


class EnsembleSearcher(Searcher):
    """Asks the member whose proposals do best, and now and then the others.

    The first member has the study's seed and begins alone, so that the start is as good as its own.

    Args:
        space, directions, seed: As for every searcher.
        members: Two searchers or more, each a name or a mapping of ``name`` and options.
        start: Asks that the first member makes before the others take part; 0 or more.
        success: A proposal is a success if its value is among this share of the best of all trials before it, in
            [0, 1]; the very best always is one.

    Attributes:
        members: The searchers.

    Raises:
        ConfigError: If there are fewer than two members, or one cannot search this space.
    """

    name = "ensemble"

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[Direction] = ("maximize",),
        seed: int = 0,
        *,
        members: Sequence[str | Mapping[str, Any]] = _MEMBERS,
        start: int = 10,
        success: float = _SUCCESS,
    ) -> None:
        super().__init__(space, directions, seed)
        if isinstance(members, str) or not isinstance(members, Sequence) or len(members) < 2:
            raise ConfigError(f"members must be a list of two searchers or more, got members={members!r}.")
        check_shares(success=success)
        check_whole(start=(start, 0))
        self.members = [
            _made(index, member, space, directions, derive_seed(seed, _STREAM, index) if index else seed)
            for index, member in enumerate(members)
        ]
        self.is_slow = any(member.is_slow for member in self.members)
        self._start, self._success = start, success
        self._n_asked = 0
        # By number and ask of each trial that has ended: the member that proposed it, and its loss.
        self._ended: dict[tuple[int, int], tuple[int | None, float | None]] = {}
        self._evidence: list[tuple[int, int]] | None = None

    @property
    def ends(self) -> bool:
        """Whether every member does."""
        return all(member.ends for member in self.members)

    @property
    def depends_on_clock(self) -> bool:
        """Whether any member does."""
        return any(member.depends_on_clock for member in self.members)

    def ask(self, n: int) -> list[Proposal]:
        """Propose up to ``n`` configurations, each by the member that is drawn for it."""
        proposals: list[Proposal] = []
        while len(proposals) < n and (proposal := self._propose()) is not None:
            proposals.append(proposal)
        return proposals

    def tell(self, trial: Trial) -> None:
        """Have every member learn how a trial ended; the one that proposed it gets the credit."""
        self._credit(trial)
        for index, member in enumerate(self.members):
            member.tell(_seen_by(index, trial))

    def expect(self, trial: Trial) -> None:
        """Learn that a trial runs which this searcher object was not asked for."""
        self._count(trial)
        for index, member in enumerate(self.members):
            member.expect(_seen_by(index, trial))

    def restore(self, history: Iterable[Trial]) -> None:
        """Have every member learn a search so far, each in its own way."""
        trials = list(history)
        for trial in trials:
            if trial.state is TrialState.RUNNING:
                self._count(trial)
            else:
                self._credit(trial)
        for index, member in enumerate(self.members):
            member.restore([_seen_by(index, trial) for trial in trials])

    def _propose(self) -> Proposal | None:
        rng = np.random.default_rng([self.seed, _STREAM, self._n_asked])
        chances = [rng.beta(1 + won, 1 + lost) for won, lost in self._successes()]
        if self._n_asked < self._start:
            chances[0] = 1.0
        for index in sorted(range(len(chances)), key=chances.__getitem__, reverse=True):
            for proposal in self.members[index].ask(1):
                self._expect_of_others(index, proposal)
                token = {"ask": self._n_asked, "member": index, "token": proposal.token}
                self._n_asked += 1
                return replace(
                    proposal, token=token, origin={**(proposal.origin or {}), "member": self.members[index].name}
                )
        return None

    def _expect_of_others(self, index: int, proposal: Proposal) -> None:
        running = Trial(_UNNUMBERED, proposal.params, 0, fidelity=proposal.fidelity)
        for other, member in enumerate(self.members):
            if other != index:
                member.expect(running)

    def _credit(self, trial: Trial) -> None:
        """Write down who proposed a trial and what it was worth."""
        owner, ask = self._count(trial)
        losses = losses_of(trial, self.directions)
        self._ended[trial.number, ask] = owner, None if losses is None else losses[0]
        self._evidence = None

    def _count(self, trial: Trial) -> tuple[int | None, int]:
        """Who proposed a trial, and at which ask; None and -1 where nobody here did."""
        token = trial.token if isinstance(trial.token, dict) else {}
        if "member" not in token:
            return None, -1
        self._n_asked = max(self._n_asked, token["ask"] + 1)
        return token["member"], token["ask"]

    def _successes(self) -> list[tuple[int, int]]:
        """For each member how often its proposals were a success, and how often not."""
        if self._evidence is None:
            evidence = [(0, 0) for _ in self.members]
            former: list[float] = []
            for _, (owner, loss) in sorted(self._ended.items()):
                loss = math.inf if loss is None else loss
                if owner is not None:
                    won = loss < math.inf and bisect_left(former, loss) <= self._success * len(former)
                    n_won, n_lost = evidence[owner]
                    evidence[owner] = n_won + won, n_lost + (not won)
                insort(former, loss)
            self._evidence = evidence
        return self._evidence


def _made(index: int, member: Any, space: SearchSpace, directions: Sequence[Direction], seed: int) -> Searcher:
    try:
        made = make_searcher(member, space, directions, seed)
    except ConfigError as error:
        raise ConfigError(f"members[{index}]: {str(error).removeprefix('searcher: ')}") from None
    if made.full_fidelity is not None:
        raise ConfigError(f"members[{index}]: {made.name!r} has fidelities; put fidelity around the ensemble instead.")
    return made


def _seen_by(index: int, trial: Trial) -> Trial:
    """A trial as a member knows it: with the token of its own, or none."""
    token = trial.token if isinstance(trial.token, dict) else {}
    if token.get("member") == index:
        return replace(trial, token=token.get("token"))
    # A member learns of what another proposes before it has a number, and must not see one after a restore.
    is_pending = trial.state is TrialState.RUNNING and "member" in token
    return replace(trial, token=None, number=_UNNUMBERED if is_pending else trial.number)
