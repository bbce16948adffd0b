"""The search space: which configurations may be tried, and how each is written as genes.

A configuration is a dict of plain values, ``params``. As genes it is a list of floats in [0, 1], one a parameter in
the order of definition, which is all that an evolutionary searcher needs to know. A conditional parameter that is
not active is absent from ``params``; its gene is kept, and decoded to nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from hpo_spark.errors import SpaceError
from hpo_spark.forms import parameter_from_dict, parameter_to_dict
from hpo_spark.parameters import Choice, Float, Int, Parameter
from hpo_spark.plain import canonical, same, to_plain

__all__ = ["Choice", "Float", "Int", "Params", "SearchSpace"]

Params = dict[str, Any]

# The gene of a parameter that is not active: the middle, nearest to all.
_NEUTRAL = 0.5


class SupportsRandom(Protocol):
    """A source of uniform numbers: `random.Random` and `numpy.random.Generator` are two."""

    def random(self) -> float:
        """A number in [0, 1)."""


class SearchSpace:
    """The parameters of a search and what each may be.

    Args:
        **parameters: A `Float`, `Int` or `Choice` for each parameter name. Any name will do, ``self`` too.

    Raises:
        SpaceError: (a `ValueError`) If a definition makes no sense, or a ``when`` names no parameter, asks for a value
            that its parameter cannot have, or makes a circle.

    Attributes:
        parents_first: The parameters' names, each after those that its ``when`` names.

    Example:
        >>> space = SearchSpace(
        ...     optimizer=Choice(["sgd", "adam"]),
        ...     momentum=Float(0.0, 0.8, when={"optimizer": "sgd"}),
        ... )
        >>> space.decode([0.2, 0.5])
        {'optimizer': 'sgd', 'momentum': 0.4}
        >>> space.decode([0.9, 0.5])
        {'optimizer': 'adam'}
        >>> space.encode({"optimizer": "adam"})
        [0.75, 0.5]
    """

    def __init__(self, /, **parameters: Parameter) -> None:
        if not parameters:
            raise SpaceError("A search space needs at least one parameter, got none.")
        for name, parameter in parameters.items():
            if not isinstance(parameter, Float | Int | Choice):
                raise SpaceError(f"must be a Float, Int or Choice, got {parameter!r}.", name)
            _named(name, parameter.check)
        self._parameters = dict(parameters)
        self._conditions = {name: self._condition(name) for name in parameters}
        self.parents_first = self._sorted()

    @classmethod
    def from_dict(cls, specs: Mapping[str, Any]) -> SearchSpace:
        """Build a space from its form in a study file: ``{"units": {"int": [5, 15]}, ...}``."""
        if not isinstance(specs, Mapping):
            raise SpaceError(f"A search space must be a mapping of parameter names, got {specs!r}.")
        return cls(**{str(name): _named(str(name), parameter_from_dict, spec) for name, spec in specs.items()})

    def to_dict(self) -> dict[str, Any]:
        """The space's form in a study file."""
        return {
            name: parameter_to_dict(parameter) | ({"when": self._conditions[name]} if self._conditions[name] else {})
            for name, parameter in self._parameters.items()
        }

    @property
    def names(self) -> list[str]:
        """The parameters' names, in the order of definition and of the genes."""
        return list(self._parameters)

    @property
    def cardinality(self) -> int | None:
        """An upper bound on the number of configurations; None where a parameter is continuous."""
        total = 1
        for parameter in self._parameters.values():
            if parameter.levels is None:
                return None
            total *= parameter.levels
        return total

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, name: object) -> bool:
        return name in self._parameters

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SearchSpace):
            return NotImplemented
        return list(self.to_dict().items()) == list(other.to_dict().items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={parameter!r}" for name, parameter in self._parameters.items())
        return f"SearchSpace({inside})"

    def decode(self, genes: Sequence[float]) -> Params:
        """The configuration that genes stand for, active parameters only.

        Args:
            genes: One number in [0, 1] a parameter, in the order of `names`.

        Raises:
            SpaceError: If the number of genes is wrong, or one lies outside [0, 1].
        """
        if len(genes) != len(self):
            raise SpaceError(f"Expected {len(self)} genes, one for each of {self.names}, got {len(genes)}.")
        by_name = dict(zip(self._parameters, map(float, genes), strict=True))
        for name, gene in by_name.items():
            if not 0.0 <= gene <= 1.0:
                raise SpaceError(f"a gene must lie in [0, 1], got {gene!r}.", name)
        found: Params = {}
        for name in self.parents_first:
            if self.is_active(name, found):
                found[name] = self._parameters[name].decode(by_name[name])
        return {name: found[name] for name in self._parameters if name in found}

    def encode(self, params: Mapping[str, Any]) -> list[float]:
        """The genes of a configuration; 0.5 for a parameter that is not active.

        Raises:
            SpaceError: If the configuration lies outside the space.
        """
        checked = self.validate(params)
        return [
            parameter.encode(checked[name]) if name in checked else _NEUTRAL
            for name, parameter in self._parameters.items()
        ]

    def sample(self, rng: SupportsRandom | int | None = None) -> Params:
        """Draw a configuration: every parameter from its prior, uniform on its scale where it has none.

        Args:
            rng: Source of the draws, or a seed for one; None for a fresh one.
        """
        source = random.Random(rng) if rng is None or isinstance(rng, int) else rng
        return self.decode([source.random() for _ in self._parameters])

    def validate(self, params: Mapping[str, Any]) -> Params:
        """The same configuration in plain Python values, in the order of definition.

        Raises:
            SpaceError: If a name is unknown, an active parameter is missing, an inactive one is given, or a value is
                not allowed.
        """
        if unknown := [name for name in params if name not in self._parameters]:
            raise SpaceError(f"Unknown parameter {unknown[0]!r}; the space has {self.names}.")
        found: Params = {}
        for name in self.parents_first:
            if self.is_active(name, found):
                if name not in params:
                    raise SpaceError(f"is missing from {dict(params)!r}.", name)
                found[name] = _named(name, self._parameters[name].coerce, params[name])
            elif name in params:
                raise SpaceError(
                    f"is active only when {self._conditions[name]!r}; leave it out of {dict(params)!r}.", name
                )
        return {name: found[name] for name in self._parameters if name in found}

    @staticmethod
    def key(params: Mapping[str, Any]) -> str:
        """A text that two configurations share exactly when they are equal."""
        return canonical(to_plain(params))

    def is_active(self, name: str, found: Params) -> bool:
        """Whether a parameter has a value, given those of the parameters that come before it in `parents_first`."""
        return all(
            parent in found and any(same(found[parent], value) for value in values)
            for parent, values in self._conditions[name].items()
        )

    def _condition(self, name: str) -> dict[str, list[Any]]:
        """The ``when`` of a parameter, checked: for each parent the list of values at which it is active."""
        when = self._parameters[name].when
        if when is None:
            return {}
        if not isinstance(when, Mapping) or not when:
            raise SpaceError(f"when must map parameter names to values, got when={when!r}.", name)
        condition: dict[str, list[Any]] = {}
        for parent, wanted in when.items():
            if parent not in self._parameters:
                raise SpaceError(f"when={dict(when)!r} names no parameter of the space, which has {self.names}.", name)
            if self._parameters[parent].levels is None:
                raise SpaceError(
                    f"when={dict(when)!r} compares with {parent!r}, which is continuous; "
                    "use a Choice, an Int, or a Float with a step.",
                    name,
                )
            values = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
            if not values:
                raise SpaceError(f"when={dict(when)!r} gives no value for {parent!r}.", name)
            try:
                condition[parent] = [self._parameters[parent].coerce(value) for value in values]
            except SpaceError as error:
                raise SpaceError(f"when={dict(when)!r} asks for what {parent!r} cannot be: it {error}", name) from None
        return condition

    def _sorted(self) -> list[str]:
        order: list[str] = []
        waiting = list(self._parameters)
        while waiting:
            ready = [name for name in waiting if all(parent in order for parent in self._conditions[name])]
            if not ready:
                circle = self._circle(waiting)
                raise SpaceError(
                    f"when makes a circle, {' -> '.join(circle)}: "
                    + ", ".join(f"{name}: when={dict(self._parameters[name].when or {})!r}" for name in circle[:-1])
                    + ".",
                    circle[0],
                )
            order += ready
            waiting = [name for name in waiting if name not in order]
        return order

    def _circle(self, waiting: list[str]) -> list[str]:
        """One circle among parameters that all wait for another of them, closed by its first name."""
        path = [waiting[0]]
        while True:
            following = next(parent for parent in self._conditions[path[-1]] if parent in waiting)
            if following in path:
                return [*path[path.index(following) :], following]
            path.append(following)


def _named(name: str, function: Any, *args: Any) -> Any:
    """Call a function of a parameter, which does not know its name, and put the name into its error."""
    try:
        return function(*args)
    except SpaceError as error:
        raise SpaceError(error.message, name) from None
