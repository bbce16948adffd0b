"""Configurations that climb from few epochs to many: what the searchers with fidelities have in common.

New configurations come from another searcher, which learns of each what it was worth at the highest fidelity so far.
A proposal's token says its bracket and the other searcher's token, and its fidelity which rung it stands on. So a
restored search knows all that it needs from its trials, in whatever order they come; and one that goes on with other
fidelities has on its rungs what was trained for just as many epochs.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpo_spark.errors import ConfigError
from hpo_spark.searchers.base import Direction, Proposal, Searcher
from hpo_spark.searchers.history import losses_of
from hpo_spark.searchers.ladder import Ladder
from hpo_spark.space import Params, SearchSpace
from hpo_spark.trial import Trial, TrialState

__all__ = ["Climber", "RungsSearcher", "best_first"]

Place = tuple[int, int]  # bracket and rung


@dataclass
class Climber:
    """A configuration on a rung.

    Attributes:
        key: The configuration, as `SearchSpace.key` has it.
        params: The configuration.
        token: That of the searcher which proposed it.
        number: Of its trial on this rung; None until that has ended.
        loss: What the trial came to, smaller being better; None where it has no value, or has not ended.
        has_ended: Whether the trial has.
        is_promoted: Whether it was proposed for the next rung.
        is_outdated: Whether it was said that its checkpoint is not needed any more.
    """

    key: str
    params: Params
    token: Any = None
    number: int | None = None
    loss: float | None = None
    has_ended: bool = False
    is_promoted: bool = False
    is_outdated: bool = False

    @property
    def rank(self) -> tuple[float, int, str]:
        """Sorts climbers from best to worst."""
        return math.inf if self.loss is None else self.loss, self.number or 0, self.key


def best_first(rung: Mapping[str, Climber]) -> list[Climber]:
    """The climbers of a rung whose trials have ended, those without a value last."""
    return sorted((one for one in rung.values() if one.has_ended), key=lambda one: one.rank)


class RungsSearcher(Searcher):
    """Base of the searchers that try many configurations for few epochs, and few for many.

    Args:
        space, directions, seed: As for every searcher.
        searcher: Where configurations come from: a name, a mapping of ``name`` and options, or a searcher.
        min: Fewest epochs.
        max: Epochs of a full training.
        eta: How many configurations compete for one place on the next rung.

    Attributes:
        searcher: Where configurations come from.

    Raises:
        ConfigError: If ``max`` is not given, a number is impossible, or the other searcher has fidelities itself.
    """

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[Direction] = ("maximize",),
        seed: int = 0,
        *,
        searcher: str | Mapping[str, Any] | Searcher = "random",
        min: int = 1,
        max: int | None = None,
        eta: int = 3,
    ) -> None:
        super().__init__(space, directions, seed)
        if max is None:
            raise ConfigError("max, the epochs of a full training, is missing; say fidelity: {min: 1, max: 30}.")
        self.ladder = Ladder(min, max, eta)
        self._fidelities = self.ladder.rungs
        self.searcher = self._made(searcher)
        self.is_slow = self.searcher.is_slow
        self._rungs: dict[Place, dict[str, Climber]] = {}
        # By configuration: the fidelity at which the other searcher knows it, and whether by a value.
        self._taught: dict[str, tuple[int, bool]] = {}
        # Trials that others go on from: the study lets go of their checkpoints when these have ended.
        self._continued: set[int] = set()

    @property
    def full_fidelity(self) -> int:
        """Epochs of a full training."""
        return self._fidelities[-1]

    @property
    def ends(self) -> bool:
        """Whether the searcher that configurations come from does."""
        return self.searcher.ends

    @property
    def depends_on_clock(self) -> bool:
        """Whether the other searcher's proposals depend on how long trials took."""
        return self.searcher.depends_on_clock

    def ask(self, n: int) -> list[Proposal]:
        """Propose up to ``n`` configurations, those that climb first."""
        proposals: list[Proposal] = []
        while len(proposals) < n and (proposal := self._propose()) is not None:
            proposals.append(proposal)
        self._let_go()
        return proposals

    def tell(self, trial: Trial) -> None:
        """Learn how a trial ended; in any order, also of trials that were never asked for."""
        self._place(trial)
        self._teach(trial)

    def expect(self, trial: Trial) -> None:
        """Learn that a trial runs which this searcher object was not asked for."""
        self._place(trial)
        if self.space.key(trial.params) not in self._taught:
            self.searcher.expect(self._seen_by_searcher(trial))

    def restore(self, history: Iterable[Trial]) -> None:
        """Put each trial on its rung, and have the other searcher learn of each configuration what it knew of it."""
        # Upwards, since a searcher that cannot learn again knows the lowest.
        trials = sorted(history, key=self._fidelity_of)
        known: dict[str, Trial] = {}
        for trial in trials:
            self._place(trial)
            key = self.space.key(trial.params)
            if trial.state is TrialState.RUNNING:
                known.setdefault(key, trial)
            elif self._note_if_news(trial):
                known[key] = trial
        self.searcher.restore([self._seen_by_searcher(trial) for trial in known.values()])

    def adopt(self, params: Params) -> Proposal:
        """A configuration that a user wants tried, on the lowest rung."""
        return Proposal(params, self._fidelities[0], token={"bracket": 0})

    @abstractmethod
    def _propose(self) -> Proposal | None:
        """The next proposal; None for none."""

    def _let_go(self) -> None:
        """Say of which trials no checkpoint is needed any more, by `_say_outdated`."""

    def _say_outdated(self, climbers: Iterable[Climber]) -> None:
        """Say that nothing will go on from the checkpoints of these, once; but of those that something goes on from."""
        for climber in climbers:
            if not climber.is_outdated and climber.number is not None and climber.number not in self._continued:
                climber.is_outdated = True
                self.outdated.append(climber.number)

    def _on(self, bracket: int, rung: int) -> Mapping[str, Climber]:
        """The climbers on a rung of the ladder."""
        return self._rungs.get((bracket, rung), {})

    def _newcomer(self, bracket: int, rung: int, **token: Any) -> Proposal | None:
        """A new configuration of the other searcher's, on a rung."""
        asked = self.searcher.ask(1)
        if not asked:
            return None
        (new,) = asked
        climber = Climber(self.space.key(new.params), new.params, new.token)
        return self._proposed(bracket, rung, climber, new.origin, **token)

    def _promoted(self, bracket: int, rung: int, climber: Climber, **token: Any) -> Proposal:
        """A climber's proposal for the next rung."""
        climber.is_promoted = True
        copy = Climber(climber.key, climber.params, climber.token)
        origin = {"by": self.name, "parents": [climber.number]}
        return self._going_on(self._proposed(bracket, rung + 1, copy, origin, **token), climber.number)

    def _going_on(self, proposal: Proposal, parent: int | None) -> Proposal:
        """A proposal that goes on from a trial's checkpoint; None for one that begins from the start."""
        if parent is not None:
            self._continued.add(parent)
        return replace(proposal, parent=parent)

    def _proposed(
        self, bracket: int, rung: int, climber: Climber, origin: dict[str, Any] | None, **token: Any
    ) -> Proposal:
        """The proposal of a climber, which stands on its rung from now on."""
        self._rungs.setdefault((bracket, rung), {})[climber.key] = climber
        return Proposal(
            climber.params,
            self._fidelities[rung],
            token={"bracket": bracket, "token": climber.token, **token},
            origin={**(origin or {}), "bracket": bracket, "rung": rung},
        )

    def _place(self, trial: Trial) -> None:
        """Put a trial on its rung, if it has one."""
        token, rung, key = _token_of(trial), self._rung_of(trial), self.space.key(trial.params)
        if "bracket" not in token or rung is None:
            return
        bracket = token["bracket"]
        climber = self._rungs.setdefault((bracket, rung), {}).setdefault(
            key, Climber(key, trial.params, token.get("token"))
        )
        if trial.parent is not None:
            self._continued.add(trial.parent)
            if (below := self._on(bracket, rung - 1).get(key)) is not None:
                below.is_promoted = True
        if trial.state is TrialState.RUNNING:
            return
        losses = losses_of(trial, self.directions)
        climber.number, climber.has_ended = trial.number, True
        climber.loss = None if losses is None else losses[0]

    def _teach(self, trial: Trial) -> None:
        """Have the other searcher learn how a trial ended."""
        if self._note_if_news(trial):
            self.searcher.tell(self._seen_by_searcher(trial))

    def _note_if_news(self, trial: Trial) -> bool:
        """Whether the other searcher is to learn of a trial; if so, note that it has."""
        key, fidelity = self.space.key(trial.params), self._fidelity_of(trial)
        has_value = losses_of(trial, self.directions) is not None
        known_at, is_valued = self._taught.get(key, (0, False))
        is_higher = fidelity > known_at
        # A trial that was cut short on its way up takes nothing from what its configuration was worth below.
        if is_higher and is_valued and (not self.searcher.relearns or (not has_value and _was_cut_short(trial))):
            return False
        if fidelity < known_at:
            return False
        self._taught[key] = fidelity, has_value
        return True

    def _fidelity_of(self, trial: Trial) -> int:
        return self.full_fidelity if trial.fidelity is None else trial.fidelity

    def _rung_of(self, trial: Trial) -> int | None:
        """The rung that a trial stands on; None where none has as many epochs."""
        fidelity = self._fidelity_of(trial)
        return self._fidelities.index(fidelity) if fidelity in self._fidelities else None

    def _seen_by_searcher(self, trial: Trial) -> Trial:
        return replace(trial, token=_token_of(trial).get("token"))

    def _made(self, choice: str | Mapping[str, Any] | Searcher) -> Searcher:
        from hpo_spark.searchers import make_searcher

        try:
            made = make_searcher(choice, self.space, self.directions, self.seed)
        except ConfigError as error:
            raise ConfigError(str(error).removeprefix("searcher: ")) from None
        if made.full_fidelity is not None:
            raise ConfigError(f"{made.name!r} has fidelities of its own; {self.name!r} takes one without, as 'random'.")
        return made


def _token_of(trial: Trial) -> dict[str, Any]:
    return trial.token if isinstance(trial.token, dict) else {}


def _was_cut_short(trial: Trial) -> bool:
    return trial.state is TrialState.PRUNED or trial.tells_nothing
