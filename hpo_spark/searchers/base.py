"""What to try next: the interface of every searcher.

A searcher is asked for proposals and told what became of them. It knows neither what a trial is made of nor where it
runs; the study gives numbers and seeds, serves what is known already and never evaluates a configuration twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from hpo_spark.errors import ConfigError
from hpo_spark.space import Params, SearchSpace
from hpo_spark.trial import Trial

__all__ = ["Direction", "Proposal", "Searcher"]

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
        several_objectives: Whether it can search for more than one objective.
    """

    name: ClassVar[str]
    several_objectives: ClassVar[bool] = False

    def __init__(self, space: SearchSpace, directions: Sequence[Direction] = ("maximize",), seed: int = 0) -> None:
        if len(directions) > 1 and not self.several_objectives:
            raise ConfigError(
                f"The searcher {self.name!r} searches for one objective, got directions={list(directions)}; "
                "give one direction or choose another searcher."
            )
        self.space = space
        self.directions = tuple(directions)
        self.seed = seed

    @property
    def ends(self) -> bool:
        """Whether it ends by itself, without a budget from outside."""
        return False

    @abstractmethod
    def ask(self, n: int) -> list[Proposal]:
        """Propose up to ``n`` configurations.

        Returns:
            An empty list means "later" while trials are pending, and "finished" when none is.
        """

    @abstractmethod
    def tell(self, trial: Trial) -> None:
        """Learn how a trial ended; in any order, also of trials that were never asked for."""
