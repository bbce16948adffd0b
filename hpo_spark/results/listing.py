"""The trials of a search in an order, for a terminal or for a program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from hpo_spark.errors import ConfigError
from hpo_spark.plain import canonical
from hpo_spark.results.columns import ABSENT, METRIC, PARAM, columns_of
from hpo_spark.results.result import best_first
from hpo_spark.results.tables import format_param, format_value
from hpo_spark.trial import Trial

if TYPE_CHECKING:
    from hpo_spark.confirm import Confirmed

__all__ = ["BEST", "sorted_trials", "trials_table"]

# The order from best to worst.
BEST = "best"
# What its repeats tell of a configuration.
_REPEATS = ("mean", "std", "n")


def sorted_trials(
    trials: Sequence[Trial],
    directions: Sequence[str],
    by: str = BEST,
    reverse: bool = False,
    confirmed: Sequence[Confirmed] = (),
) -> list[Trial]:
    """Trials in an order; those that do not have what it goes by come last.

    Args:
        trials: Of one search.
        directions: One an objective.
        by: ``best``, best first; or a column of `columns_of`, ascending: ``number``, ``seconds``, ``value``, ... A
            parameter or metric may be called by its plain name. ``mean``, ``std`` and ``n`` are those of the repeats.
        reverse: Whether the other way round.
        confirmed: The configurations that were trained again, the winner first: these are the best.

    Raises:
        ConfigError: If there is no such column; names those that there are.
    """
    if by == BEST:
        firsts = {one.original.number: place for place, one in enumerate(confirmed)}
        ranked = best_first(trials, directions)
        ranked.sort(key=lambda trial: firsts.get(trial.number, len(firsts)))
        known = {trial.number for trial in ranked}
        rest = [trial for trial in trials if trial.number not in known]
        return [*(ranked[::-1] if reverse else ranked), *rest]
    columns = columns_of(trials) | _repeats_of(trials, confirmed)
    name = next((name for name in (by, PARAM + by, METRIC + by) if name in columns), None)
    if name is None:
        if not trials:
            return []
        raise ConfigError(f"--sort {by}: there is no such column; expected {BEST!r} or one of {[*columns]}.")
    cells = list(zip(map(_key, columns[name]), range(len(trials)), strict=True))
    known_cells = sorted(cell for cell in cells if cell[0] is not None)
    rest_cells = [cell for cell in cells if cell[0] is None]
    return [trials[place] for _, place in [*(known_cells[::-1] if reverse else known_cells), *rest_cells]]


def trials_table(trials: Sequence[Trial], confirmed: Sequence[Confirmed] = ()) -> Table:
    """One row a trial: what it is, what came of it and of its repeats, and what it was tried with."""
    columns = columns_of(trials) | _repeats_of(trials, confirmed)
    values = [name for name in columns if name == "value" or name.startswith("value_")]
    params = [name for name in columns if name.startswith(PARAM)]
    metrics = [name for name in columns if name.startswith(METRIC)]
    table = Table()
    cells: list[list[str]] = []
    facts = ("fidelity", "repeat_of", "seconds", "attempt")
    for name in ("number", "state", *values, *_REPEATS, *facts, *params, *metrics, "error"):
        if all(value is ABSENT for value in columns[name]) or (name == "attempt" and set(columns[name]) == {1}):
            continue
        header = name.removeprefix(PARAM).removeprefix(METRIC)
        table.add_column(Text(header), justify="left" if name == "error" else "right", overflow="fold")
        write = format_param if name.startswith(PARAM) else format_value
        cells.append(["-" if value is ABSENT else write(value) for value in columns[name]])
    for row in zip(*cells, strict=True):
        table.add_row(*map(Text, row))
    return table


def _repeats_of(trials: Sequence[Trial], confirmed: Sequence[Confirmed]) -> dict[str, list[Any]]:
    """The columns that tell what the repeats of each trial came to."""
    by_number = {one.original.number: one for one in confirmed}
    found = [by_number.get(trial.number) for trial in trials]
    return {
        name: [ABSENT if one is None or (value := getattr(one, name)) is None else value for one in found]
        for name in _REPEATS
    }


def _key(value: Any) -> tuple[int, float, str] | None:
    """What sorts any values: numbers, then texts, then all else; None for what is not there."""
    if value is ABSENT or value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0, float(value), ""
    return (1, 0.0, value) if isinstance(value, str) else (2, 0.0, canonical(value))
