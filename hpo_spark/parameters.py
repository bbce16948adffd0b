"""One parameter of a search space: which values it may take, and where each lies as a gene.

A gene is a number in [0, 1]. A continuous parameter maps its range onto the whole interval. A discrete one gives each
of its levels a cell and puts the level's gene inside it, so that a uniform gene is a fair draw and every gene decodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from numbers import Integral, Real
from statistics import NormalDist
from typing import Any, ClassVar, Literal, TypeAlias

from hpo_spark.errors import SpaceError
from hpo_spark.plain import same, to_plain

__all__ = ["Choice", "Float", "Int", "Parameter", "When"]

When: TypeAlias = Mapping[str, Any]

# This share of a prior is even over the range, so that no value in it is out of reach, however far from the mean.
_EVEN_SHARE = 1e-3
# Without bounds, a normal prior is cut this many standard deviations from its mean: one draw in 1.7 million lies
# beyond.
_UNBOUNDED_SD = 5.0
# A gene is a double, with 53 bits, of which rounding costs a few.
_MAX_LEVELS = 2**50
_MAX_LOG_LEVELS = 2**36


class _Numeric:
    """What Float and Int share: a monotone scale, an optional grid of values, and genes on both."""

    low: float | None
    high: float | None
    log: bool
    step: float | None

    def _check_levels(self) -> None:
        limit = _MAX_LOG_LEVELS if self.log else _MAX_LEVELS
        low, high = self._bounds
        if not math.isfinite(high - low):
            raise SpaceError(f"the range must be finite, got low={low!r}, high={high!r}.")
        if self._spacing is not None and (high - low) / self._spacing >= limit:
            raise SpaceError(
                f"a gene cannot tell more than 2**{limit.bit_length() - 1} values apart, got low={low!r}, "
                f"high={high!r}, step={self._spacing!r}."
            )

    def _check_range(self) -> None:
        low, high, step = self.low, self.high, self.step
        if low is None or high is None:
            raise SpaceError(f"low and high must be given, got low={low!r}, high={high!r}.")
        if not low < high:
            raise SpaceError(f"low must be below high, got low={low!r}, high={high!r}.")
        if self.log and low <= 0:
            raise SpaceError(f"log=True needs low above 0, got low={low!r}, high={high!r}.")
        if step is not None and not 0 < step <= high - low:
            raise SpaceError(
                f"step must be above 0 and at most high - low, got step={step!r}, low={low!r}, high={high!r}."
            )

    @property
    def _spacing(self) -> float | None:
        """Distance between neighbouring values; None where the parameter is continuous."""
        return self.step

    @property
    def _bounds(self) -> tuple[float, float]:
        assert self.low is not None and self.high is not None
        return self.low, self.high

    @cached_property
    def levels(self) -> int | None:
        """Number of values that it may take; None where it is continuous."""
        if self._spacing is None:
            return None
        low, high = self._bounds
        return math.floor((high - low) / self._spacing + 1e-9) + 1

    def all_values(self) -> list[Any]:
        """Every value of a discrete parameter, in order; empty for a continuous one."""
        return [self._level(index) for index in range(self.levels or 0)]

    def _level(self, index: int) -> float:
        # Decimal keeps 0.1 + 2 * 0.1 at 0.3, the number that the user would write.
        level = float(Decimal(str(self._bounds[0])) + index * Decimal(str(self._spacing)))
        return min(self._bounds[1], level)

    @cached_property
    def _edges(self) -> tuple[float, float]:
        """The range that genes span, on the warped scale: half a step wider than the levels, each inside its cell."""
        low, high = self._bounds
        if self._spacing is not None:
            assert self.levels is not None
            margin = self._spacing / 2
            high = self._level(self.levels - 1) + margin
            low = low - min(margin, low / 2) if self._needs_positive else low - margin
        return self._warp(low), self._warp(high)

    @property
    def _needs_positive(self) -> bool:
        return self.log

    def _warp(self, value: float) -> float:
        return math.log(value) if self.log else value

    def _unwarp(self, warped: float) -> float:
        return math.exp(warped) if self.log else warped

    def _to_gene(self, value: float) -> float:
        start, end = self._edges
        return min(1.0, max(0.0, (self._warp(value) - start) / (end - start)))

    def _from_gene(self, gene: float) -> float:
        start, end = self._edges
        low, high = self._bounds
        if self.levels is None:
            # Interpolated from both ends, so that genes 0 and 1 are exactly low and high.
            value = low if gene <= 0 else high if gene >= 1 else self._unwarp(start * (1 - gene) + end * gene)
            return min(high, max(low, value))
        assert self._spacing is not None
        nearest = round((self._unwarp(start * (1 - gene) + end * gene) - low) / self._spacing)
        return self._level(min(self.levels - 1, max(0, nearest)))

    def _snap(self, value: float) -> float:
        """The value itself, or the level that it stands for; outside the range or between levels is an error."""
        low, high = self._bounds
        if not low <= value <= high:
            raise SpaceError(f"must be between {low!r} and {high!r}, got {value!r}.")
        if self.levels is None:
            return value
        assert self._spacing is not None
        index = round((value - low) / self._spacing)
        level = self._level(min(index, self.levels - 1))
        if abs(level - value) > 1e-6 * self._spacing and not math.isclose(level, value, rel_tol=1e-12):
            raise SpaceError(f"must be {low!r} plus a whole number of steps of {self._spacing!r}, got {value!r}.")
        return level


@dataclass(frozen=True)
class Float(_Numeric):
    """A real number between ``low`` and ``high``, both inclusive.

    Args:
        low: Smallest value.
        high: Largest value; above ``low``.
        log: Search the logarithm evenly, as for a learning rate; needs ``low`` above 0.
        step: Distance between allowed values, counted from ``low``; None for a continuous range.
        prior: ``"normal"`` or ``"lognormal"`` where values near a guess are likelier; one draw in a thousand is even
            over the range. The normal is cut at ``low``
            and ``high``; without them, 5 standard deviations from the mean.
        mean: Mean of the prior; of the logarithm for ``"lognormal"``.
        sd: Standard deviation of the prior, above 0; of the logarithm for ``"lognormal"``.
        when: Active only where each named parameter has the value, or one of the values, given.

    Definitions are checked by `SearchSpace`, which knows the parameter's name.
    """

    kind: ClassVar[str] = "float"

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    prior: Literal["normal", "lognormal"] | None = None
    mean: float | None = None
    sd: float | None = None
    when: When | None = None

    def check(self) -> None:
        """Raise `SpaceError` unless the definition makes sense."""
        _check_numbers(self, ("low", "high", "step", "mean", "sd"))
        if self.prior is None:
            if self.mean is not None or self.sd is not None:
                raise SpaceError(f"mean and sd belong to a prior, got mean={self.mean!r}, sd={self.sd!r}, prior=None.")
            self._check_range()
            self._check_levels()
            return
        if self.prior not in ("normal", "lognormal"):
            raise SpaceError(f"prior must be 'normal' or 'lognormal', got prior={self.prior!r}.")
        if self.mean is None or self.sd is None or self.sd <= 0:
            raise SpaceError(f"a prior needs mean, and sd above 0, got mean={self.mean!r}, sd={self.sd!r}.")
        if self.log:
            raise SpaceError(f"log=True and prior={self.prior!r} exclude each other; use prior='lognormal'.")
        if (self.low is None) != (self.high is None):
            raise SpaceError(f"give both low and high or neither, got low={self.low!r}, high={self.high!r}.")
        if self.low is not None and self.high is not None:
            self._check_range()
            if self.prior == "lognormal" and self.low < 0:
                raise SpaceError(f"prior='lognormal' needs low of 0 or above, got low={self.low!r}.")
        elif self.step is not None:
            raise SpaceError(f"step needs low and high, got step={self.step!r}.")
        if self._mass() < 1e-9:
            low, high = self._bounds
            raise SpaceError(
                f"the prior all but excludes the range, got low={low!r}, high={high!r}, "
                f"mean={self.mean!r}, sd={self.sd!r}."
            )
        self._check_levels()

    @property
    def _bounds(self) -> tuple[float, float]:
        if self.low is not None and self.high is not None:
            return float(self.low), float(self.high)
        assert self.mean is not None and self.sd is not None
        low, high = self.mean - _UNBOUNDED_SD * self.sd, self.mean + _UNBOUNDED_SD * self.sd
        return (math.exp(low), math.exp(high)) if self.prior == "lognormal" else (low, high)

    @property
    def _needs_positive(self) -> bool:
        return self.log or self.prior == "lognormal"

    @property
    def _normal(self) -> NormalDist:
        assert self.mean is not None and self.sd is not None
        return NormalDist(self.mean, self.sd)

    def _warp(self, value: float) -> float:
        if self.prior is None:
            return super()._warp(value)
        low, high = self._bounds
        even = (value - low) / (high - low)
        return (1 - _EVEN_SHARE) * self._cdf(value) / self._mass() + _EVEN_SHARE * even

    def _unwarp(self, warped: float) -> float:
        if self.prior is None:
            return super()._unwarp(warped)
        low, high = self._bounds
        margin = (self._spacing or 0.0) / 2
        low, high = low - margin, high + margin
        while low < (middle := (low + high) / 2) < high:
            low, high = (middle, high) if self._warp(middle) < warped else (low, middle)
        return middle

    def _cdf(self, value: float) -> float:
        if self.prior == "normal":
            return self._normal.cdf(value)
        return self._normal.cdf(math.log(value)) if value > 0 else 0.0

    def _mass(self) -> float:
        low, high = self._bounds
        return self._cdf(high) - self._cdf(low)

    def encode(self, value: Any) -> float:
        """The gene of a value."""
        return self._to_gene(self.coerce(value))

    def decode(self, gene: float) -> float:
        """The value of a gene in [0, 1]."""
        return float(self._from_gene(gene))

    def coerce(self, value: Any) -> float:
        """The value as the plain Python float that it stands for; raises `SpaceError` where it is not allowed."""
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise SpaceError(f"must be a finite number, got {value!r}.")
        return float(self._snap(float(value)))


@dataclass(frozen=True)
class Int(_Numeric):
    """A whole number between ``low`` and ``high``, both inclusive.

    Args:
        low: Smallest value.
        high: Largest value; above ``low``.
        log: Search the logarithm evenly, as for a layer's width; needs ``low`` above 0.
        step: Distance between allowed values, counted from ``low``; None is 1.
        when: Active only where each named parameter has the value, or one of the values, given.
    """

    kind: ClassVar[str] = "int"

    low: int
    high: int
    log: bool = False
    step: int | None = None
    when: When | None = None

    def check(self) -> None:
        """Raise `SpaceError` unless the definition makes sense."""
        _check_numbers(self, ("low", "high", "step"), whole=True)
        self._check_range()
        self._check_levels()

    @property
    def _spacing(self) -> float:
        return 1 if self.step is None else self.step

    def _level(self, index: int) -> int:
        return self.low + index * (1 if self.step is None else self.step)

    def encode(self, value: Any) -> float:
        """The gene of a value."""
        return self._to_gene(self.coerce(value))

    def decode(self, gene: float) -> int:
        """The value of a gene in [0, 1]."""
        return int(self._from_gene(gene))

    def coerce(self, value: Any) -> int:
        """The value as a plain Python int; raises `SpaceError` where it is not allowed."""
        if isinstance(value, Integral) and not isinstance(value, bool):
            return int(self._snap(int(value)))
        if isinstance(value, Real) and not isinstance(value, bool) and float(value).is_integer():
            return int(self._snap(int(float(value))))
        raise SpaceError(f"must be a whole number, got {value!r}.")


@dataclass(frozen=True)
class Choice:
    """One of a list of values: strings, numbers, booleans, None, or lists and dicts of these.

    Args:
        values: What to choose from; all different, at least one.
        ordered: Whether neighbours in the list are alike, as in ``["small", "medium", "large"]``.
        when: Active only where each named parameter has the value, or one of the values, given.
    """

    kind: ClassVar[str] = "choice"

    values: Sequence[Any]
    ordered: bool = False
    when: When | None = None

    def __post_init__(self) -> None:
        if hasattr(self.values, "tolist"):  # an array
            object.__setattr__(self, "values", self.values.tolist())
        if isinstance(self.values, Sequence) and not isinstance(self.values, str):
            object.__setattr__(self, "values", list(self.values))

    def check(self) -> None:
        """Raise `SpaceError` unless the definition makes sense."""
        if not isinstance(self.values, list) or not self.values:
            raise SpaceError(f"values must be a list of at least one value, got values={self.values!r}.")
        if not isinstance(self.ordered, bool):
            raise SpaceError(f"ordered must be true or false, got ordered={self.ordered!r}.")
        for index, value in enumerate(self.values):
            try:
                _check_keys(value)
                plain = to_plain(value)
            except TypeError as error:
                raise SpaceError(f"values must be plain data that JSON can hold: {error}") from None
            if isinstance(plain, float) and not math.isfinite(plain):
                raise SpaceError(f"values must be finite, got values={self.values!r}.")
            if any(same(plain, to_plain(other)) for other in self.values[:index]):
                raise SpaceError(f"values must differ, got {value!r} twice in values={self.values!r}.")

    @cached_property
    def _plain(self) -> list[Any]:
        return [to_plain(value) for value in self.values]

    @property
    def levels(self) -> int:
        """Number of values."""
        return len(self.values)

    def all_values(self) -> list[Any]:
        """Every value, in the order of definition."""
        return deepcopy(self._plain)

    def _index(self, value: Any) -> int:
        try:
            plain = to_plain(value)
        except TypeError:
            plain = value
        for index, candidate in enumerate(self._plain):
            if same(candidate, plain):
                return index
        if type(plain) in (int, float):  # 32.0 may stand for 32, but True never stands for 1
            for index, candidate in enumerate(self._plain):
                if type(candidate) in (int, float) and candidate == plain:
                    return index
        raise SpaceError(f"must be one of {self._plain!r}, got {value!r}.")

    def encode(self, value: Any) -> float:
        """The gene of a value: the middle of its cell."""
        return (self._index(value) + 0.5) / self.levels

    def decode(self, gene: float) -> Any:
        """The value of a gene in [0, 1]."""
        return deepcopy(self._plain[min(self.levels - 1, max(0, int(gene * self.levels)))])

    def coerce(self, value: Any) -> Any:
        """The value as it stands in ``values``; raises `SpaceError` where it does not."""
        return deepcopy(self._plain[self._index(value)])


def _check_keys(value: Any) -> None:
    """Raise `TypeError` for keys that JSON would turn into text."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} of {value!r} must be text.")
            _check_keys(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_keys(item)


Parameter: TypeAlias = Float | Int | Choice


def _check_numbers(parameter: Float | Int, names: tuple[str, ...], whole: bool = False) -> None:
    for name in names:
        value = getattr(parameter, name)
        if value is None:
            continue
        number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
        if whole and number and abs(value) > _MAX_LEVELS:
            raise SpaceError(f"{name} must lie within 2**50 of 0, got {name}={value!r}.")
        if not number or not math.isfinite(value):
            kind = "whole number" if whole else "finite number"
            raise SpaceError(f"{name} must be a {kind}, got {name}={value!r}.")
    if not isinstance(parameter.log, bool):
        raise SpaceError(f"log must be true or false, got log={parameter.log!r}.")
