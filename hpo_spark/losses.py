"""Values as losses: numbers of which less is better, whatever the directions."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["as_losses"]


def as_losses(values: Sequence[float], directions: Sequence[str]) -> tuple[float, ...]:
    """Values with signs such that less is better.

    Args:
        values: One an objective.
        directions: ``"minimize"`` or ``"maximize"``, one an objective.
    """
    return tuple(-value if way == "maximize" else value for value, way in zip(values, directions, strict=True))
