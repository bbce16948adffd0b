"""What a study may be told: each option is checked, with a sentence for what is wrong."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from hpo_spark.errors import ConfigError, SpaceError
from hpo_spark.parameters import Choice
from hpo_spark.plain import same, to_plain
from hpo_spark.pruners import Pruner, make_pruner
from hpo_spark.redaction import redact_all
from hpo_spark.searchers import Searcher, has_fidelities
from hpo_spark.space import SearchSpace

__all__ = [
    "check_directions",
    "check_fixed",
    "check_keep_models",
    "check_pruner",
    "check_recordable",
    "check_reference_point",
    "check_seed",
    "resolve_fidelity",
]

_FIDELITY = ("min", "max", "eta")
_DIRECTIONS = ("minimize", "maximize")


def resolve_fidelity(fidelity: Any, searcher: Any, objective: Any) -> Mapping[str, int] | None:
    """The fidelities of a search, with the objective's epochs as the full training where nothing else is said.

    Raises:
        ConfigError: If it is no mapping, nothing tells the epochs of a full training, or the objective has no epochs.
    """
    if fidelity is not None or has_fidelities(searcher):
        _check_epochs("fidelity", objective)
    if fidelity is None and (not has_fidelities(searcher) or isinstance(searcher, Searcher)):
        return None
    if not isinstance(fidelity, Mapping | None):
        raise ConfigError(f"fidelity: must be a mapping such as {{min: 1, max: 30, eta: 3}}, got {fidelity!r}.")
    given = dict(fidelity or {})
    if unknown := [name for name in given if name not in _FIDELITY]:
        raise ConfigError(f"fidelity: has no key {unknown[0]!r}; it takes {list(_FIDELITY)}.")
    own = searcher if isinstance(searcher, Mapping) else {}
    if "max" not in given and "max" not in own:
        epochs = getattr(objective, "epochs", None)
        if not isinstance(epochs, int):
            raise ConfigError(
                "fidelity: max, the epochs of a full training, is missing, and the objective has none; say "
                "fidelity: {min: 1, max: 30}."
            )
        given["max"] = epochs
    return given


def check_pruner(pruner: Any, directions: Sequence[str], objective: Any) -> Pruner | None:
    """The pruner that a user chose.

    Raises:
        ConfigError: If there is no such pruner or option, there are several objectives, or the objective has no epochs.
    """
    made = make_pruner(pruner)
    if made is not None:
        _check_epochs("pruner", objective)
    if made is not None and len(directions) > 1:
        raise ConfigError(f"pruner: needs one objective, got directions={list(directions)}; leave it out.")
    return made


def _check_epochs(option: str, objective: Any) -> None:
    if not getattr(objective, "has_epochs", True):
        raise ConfigError(
            f"{option}: needs an objective that trains in epochs and reports them, and {type(objective).__name__} does "
            "not; leave it out, and choose a searcher without fidelities."
        )


def check_recordable(space: SearchSpace) -> None:
    """Find out whether the params of trials may be recorded.

    Raises:
        SpaceError: If a choice would put a secret into every record.
    """
    for name in space:
        if not isinstance(parameter := space[name], Choice):
            continue
        values = parameter.all_values()
        if not same(values, redact_all(values)):
            raise SpaceError(
                f"one of its choices, {redact_all(values)!r}, holds a password, a key or a token. Params are recorded "
                "as they are: give the choices names, and have the objective look up what they stand for.",
                name,
            )


def check_directions(direction: str | Sequence[str]) -> tuple[str, ...]:
    """The directions of a study.

    Raises:
        ConfigError: If one is none.
    """
    directions = (direction,) if isinstance(direction, str) else tuple(direction)
    if not directions or any(way not in _DIRECTIONS for way in directions):
        raise ConfigError(f"direction must be 'minimize' or 'maximize', or a list of these, got {direction!r}.")
    return directions


def check_reference_point(point: Sequence[float] | None, directions: Sequence[str]) -> tuple[float, ...] | None:
    """The point in plain numbers.

    Raises:
        ConfigError: Unless it is None, or has a finite number for each of several objectives.
    """
    if point is None:
        return None
    if len(directions) == 1:
        raise ConfigError(f"reference_point is for several objectives, got {point!r} with one direction; leave it out.")
    numbers = list(point) if isinstance(point, Sequence) and not isinstance(point, str) else []
    is_finite = [isinstance(x, Real) and not isinstance(x, bool) and math.isfinite(x) for x in numbers]
    if len(numbers) != len(directions) or not all(is_finite):
        raise ConfigError(
            f"reference_point must be {len(directions)} finite numbers, one for each direction of {list(directions)}, "
            f"got {point!r}."
        )
    return tuple(map(float, numbers))


def check_keep_models(keep_models: int) -> int:
    """How many models are kept.

    Raises:
        ConfigError: Unless it is a whole number of 0 or more.
    """
    if isinstance(keep_models, bool) or not isinstance(keep_models, Integral) or keep_models < 0:
        raise ConfigError(f"keep_models must be a whole number of 0 or more, got keep_models={keep_models!r}.")
    return int(keep_models)


def check_seed(seed: int | None) -> int:
    """The seed of a study; a random one where none is given.

    Raises:
        ConfigError: Unless it is a whole number of 0 or more.
    """
    if seed is None:
        return secrets.randbits(31)
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ConfigError(f"seed must be a whole number of 0 or more, got seed={seed!r}.")
    return int(seed)


def check_fixed(fixed: Mapping[str, Any] | None) -> dict[str, Any]:
    """The constants of a study as plain data.

    Raises:
        ConfigError: If they are none.
    """
    try:
        return {str(name): to_plain(value) for name, value in (fixed or {}).items()}
    except TypeError as error:
        raise ConfigError(f"fixed must hold plain data: {error}") from None
