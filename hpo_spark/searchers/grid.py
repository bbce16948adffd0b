"""The full grid: every combination of a few values of each parameter, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from hpo_spark.errors import ConfigError, SpaceError
from hpo_spark.parameters import Choice, Parameter
from hpo_spark.plain import canonical, same, to_plain
from hpo_spark.searchers.base import Direction, Proposal, SequentialSearcher
from hpo_spark.space import Params, SearchSpace
from hpo_spark.trial import Trial

__all__ = ["GridSearcher"]

_POINTS = 5


class GridSearcher(SequentialSearcher):
    """Goes through the grid, the last parameter fastest, and ends with it; nothing but the place in it is kept.

    A conditional parameter has its values only where it is active.

    Args:
        space, directions, seed: As for every searcher; the seed changes nothing.
        points: Values of a parameter, evenly spread on its scale: one number for all, or a mapping from a parameter's
            name to a number or to a list of values. A parameter that has no more values than that takes them all, and a
            choice always does; 5 where nothing is said.

    Raises:
        ConfigError: If ``points`` names what is no parameter, or a value that it cannot have.
    """

    name = "grid"
    learns = False
    several_objectives = True

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[Direction] = ("maximize",),
        seed: int = 0,
        *,
        points: int | Mapping[str, int | Sequence[Any]] = _POINTS,
    ) -> None:
        super().__init__(space, directions, seed)
        given = dict(points) if isinstance(points, Mapping) else dict.fromkeys(space, points)
        if unknown := [name for name in given if name not in space]:
            raise ConfigError(f"points: {unknown[0]!r} is no parameter of the space, which has {space.names}.")
        self._values = {name: _values(name, space[name], given.get(name, _POINTS)) for name in space}
        self._last: Params | None = None
        self._is_over = False
        self._off_grid: set[str] = set()

    @property
    def ends(self) -> bool:
        """Always."""
        return True

    @property
    def n_left(self) -> int:
        """Points of the grid that are not known yet."""
        return max(0, self._n_points - (self.history.n_seen - len(self._off_grid)))

    def _propose(self, rng: np.random.Generator) -> Proposal | None:
        while not self._is_over:
            following = self._successor(self._last)
            if following is None:
                self._is_over = True
                break
            self._last = following
            if following not in self.history:
                return Proposal(following)
        return None

    def tell(self, trial: Trial) -> None:
        """Learn how a trial ended; in any order, also of trials that were never asked for."""
        self._place(trial)
        super().tell(trial)

    def expect(self, trial: Trial) -> None:
        """Learn that a trial runs which this searcher object was not asked for."""
        self._place(trial)
        super().expect(trial)

    def _place(self, trial: Trial) -> None:
        if not self._is_on_grid(trial.params):
            self._off_grid.add(self.space.key(trial.params))

    def _is_on_grid(self, params: Params) -> bool:
        return all(any(same(value, known) for known in self._values[name]) for name, value in params.items())

    @cached_property
    def _n_points(self) -> int:
        names = self.space.parents_first
        parents = {parent for name in names for parent in self.space[name].when or {}}

        def count(place: int, found: Params) -> int:
            """Ways to complete a configuration from there on; what nothing depends on only multiplies them."""
            if place == len(names):
                return 1
            name = names[place]
            if not self.space.is_active(name, found):
                return count(place + 1, found)
            if name not in parents:
                return len(self._values[name]) * count(place + 1, found)
            return sum(count(place + 1, {**found, name: value}) for value in self._values[name])

        return count(0, {})

    def _resume(self, trial: Trial) -> None:
        if self._is_on_grid(trial.params):
            self._last = trial.params  # else it is of another grid

    def _successor(self, params: Params | None) -> Params | None:
        """The configuration after this one, the first after None; None after the last."""
        if params is None:
            return self._completed({})
        names = [name for name in self.space.parents_first if name in params]
        for place in reversed(range(len(names))):
            values = self._values[names[place]]
            index = next(index for index, value in enumerate(values) if same(value, params[names[place]])) + 1
            if index < len(values):
                kept = {name: params[name] for name in names[:place]}
                return self._completed({**kept, names[place]: values[index]})
        return None

    def _completed(self, start: Params) -> Params:
        """The first configuration that begins so."""
        found = dict(start)
        for name in self.space.parents_first[self._place_after(start) :]:
            if self.space.is_active(name, found):
                found[name] = self._values[name][0]
        return {name: found[name] for name in self.space if name in found}

    def _place_after(self, start: Params) -> int:
        places = [place for place, name in enumerate(self.space.parents_first) if name in start]
        return max(places) + 1 if places else 0


def _values(name: str, parameter: Parameter, points: Any) -> list[Any]:
    """The values of one parameter."""
    if isinstance(points, list | tuple):
        if not points:
            raise ConfigError(f"points: {name!r} needs at least one value, got {points!r}.")
        values = []
        for value in points:
            try:
                values.append(parameter.coerce(value))
            except SpaceError as error:
                raise ConfigError(f"points: {name!r} {error}") from None
        return _distinct(values)
    if isinstance(points, bool) or not isinstance(points, int) or points < 1:
        raise ConfigError(f"points: {name!r} takes a whole number above 0 or a list of values, got {points!r}.")
    if isinstance(parameter, Choice) or (parameter.levels is not None and parameter.levels <= points):
        return parameter.all_values()
    genes = [0.5] if points == 1 else [index / (points - 1) for index in range(points)]
    return _distinct([parameter.decode(gene) for gene in genes])


def _distinct(values: list[Any]) -> list[Any]:
    return list({canonical(to_plain(value)): value for value in values}.values())
