"""What kinds of models are trained together, and what such a kind must tell."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hpo_spark.fused.stack import Stack
from hpo_spark.objectives.context import Context
from hpo_spark.objectives.work import Work

if TYPE_CHECKING:
    from hpo_spark.objectives.keras import KerasObjective

__all__ = ["Candidate", "Family", "Params"]

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A trial that is to be trained among others.

    Attributes:
        number: Its place in the group.
        params: Its configuration.
        context: Its context.
        work: What there is to do for it.
        callbacks: Keras' callbacks, made for it.
    """

    number: int
    params: dict[str, Any]
    context: Context
    work: Work
    callbacks: list[Any]


class Family(Protocol):
    """A kind of models that can be trained together.

    Attributes:
        draws: Whether its models may draw random numbers in TensorFlow that count what was drawn before.
    """

    draws: bool

    def why_alone(self, objective: KerasObjective, params: Params) -> str | None:
        """Why a configuration must be trained alone; None where its params do not say so. Needs no TensorFlow."""

    def key(self, params: Params) -> Hashable:
        """What configurations must have in common beside epochs and batch size. Needs no TensorFlow."""

    def n_bytes(self, params: Params, input_shape: Sequence[int]) -> int:
        """What a member needs in memory, as far as that is known beforehand. Needs no TensorFlow."""

    def begin(
        self, objective: KerasObjective, candidates: Sequence[Candidate]
    ) -> Iterable[tuple[Sequence[Candidate], Stack | BaseException]]:
        """All candidates, some at a time: with their stack, or with what became of them instead.

        That is what a trial alone would raise too, or a `CannotFuse`.

        Raises:
            CannotFuse: If none can be trained with any other.
        """

    def model(self, objective: KerasObjective, candidate: Candidate) -> Any:
        """A Keras model of a candidate's, compiled, whatever its variables hold."""
