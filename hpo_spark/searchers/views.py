"""A parameter as another library sees it: one number of a kind that the library has a distribution for.

- category: the index of one of `n_levels` values without an order
- level: the index of one of `n_levels` values at equal distances, or in an order
- linear: a number from `low` to `high`
- log: the same, even in the logarithm
- log_int: a whole number from `low` to `high`, even in the logarithm
- gene: a number from 0 to 1, for what no library has: a prior within bounds, a step on a logarithmic scale
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hpo_spark.parameters import Choice, Int, Parameter

__all__ = ["View", "view_of"]

Kind = Literal["category", "level", "linear", "log", "log_int", "gene"]


@dataclass(frozen=True)
class View:
    """How one parameter is seen.

    Attributes:
        parameter: The parameter.
        kind: What kind of number stands for it.
    """

    parameter: Parameter
    kind: Kind

    @property
    def is_index(self) -> bool:
        """Whether the number is an index among values."""
        return self.kind in ("category", "level")

    @property
    def n_levels(self) -> int:
        """How many values a parameter of kind category or level has."""
        assert self.parameter.levels is not None
        return self.parameter.levels

    @property
    def low(self) -> float:
        """The smallest value of a number."""
        return float(self.parameter.decode(0.0))

    @property
    def high(self) -> float:
        """The largest value of a number."""
        return float(self.parameter.decode(1.0))

    def number(self, value: Any) -> float:
        """The number that stands for a value; of a type that JSON knows."""
        if self.is_index:
            # Level i has the gene (i + 0.5) / n_levels.
            return min(self.n_levels - 1, int(self.parameter.encode(value) * self.n_levels))
        number: float = self.parameter.encode(value) if self.kind == "gene" else value
        return number

    def value(self, number: float) -> Any:
        """The value that a number stands for; a number just outside is taken for the edge."""
        if self.kind == "gene":
            return self.parameter.decode(min(1.0, max(0.0, float(number))))
        if self.is_index:
            return self.parameter.decode((min(self.n_levels - 1, max(0, int(number))) + 0.5) / self.n_levels)
        inside = min(self.high, max(self.low, float(number)))
        return round(inside) if self.kind == "log_int" else inside


def view_of(parameter: Parameter) -> View:
    """The nearest that a library may have for a parameter."""
    if isinstance(parameter, Choice):
        return View(parameter, "level" if parameter.ordered else "category")
    if isinstance(parameter, Int):
        return View(parameter, "level" if not parameter.log else "log_int" if parameter.step in (None, 1) else "gene")
    if parameter.prior is not None:
        return View(parameter, "gene")
    if parameter.step is not None:
        return View(parameter, "gene" if parameter.log else "level")
    return View(parameter, "log" if parameter.log else "linear")
