"""What a figure must reach."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Goal"]


@dataclass(frozen=True)
class Goal:
    """What a figure must reach.

    Attributes:
        what: What was measured.
        value: The figure.
        bound: What it must be.
        at_least: Whether more is better.
        form: How figures are written.
    """

    what: str
    value: float
    bound: float
    at_least: bool = True
    form: str = ".3f"

    @property
    def met(self) -> bool:
        """Whether the figure is good enough."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        side = "at least" if self.at_least else "at most"
        verdict = "met" if self.met else "missed"
        return f"{self.what}: {self.value:{self.form}}, goal {side} {self.bound:{self.form}}: {verdict}"
