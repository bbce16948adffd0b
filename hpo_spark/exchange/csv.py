"""Trials from a CSV file: a run folder's, or any with a column for each parameter and for the value."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from hpo_spark.errors import ConfigError, SpaceError
from hpo_spark.exchange.files import read_file
from hpo_spark.parameters import Choice, Int, Parameter
from hpo_spark.plain import same
from hpo_spark.results.columns import METRIC, PARAM, cell_text, value_columns
from hpo_spark.space import Params, SearchSpace
from hpo_spark.trial import CONFIRM, Trial, TrialState

__all__ = ["from_csv"]

_NOTHING = ("", "none", "null")


def from_csv(place: str | os.PathLike[str], space: SearchSpace, directions: Sequence[str]) -> list[Trial]:
    """The trials of a CSV file.

    Its columns are those of a run folder's ``trials.csv``, with ``param:NAME`` for a parameter, or plain ones: a column
    by the name of each parameter, and ``value`` (``value_0``, ``value_1``, ... for several objectives). Other columns
    are of no matter, but for ``state``, and in a run folder's file number, seed, fidelity, parent, repeat_of, repeat,
    attempt, started, seconds, host, ``metric:NAME`` and error. A row without a value is a trial that failed, unless its
    state says otherwise. The cells of parameters that are not active are not read.

    Args:
        place: Path, or a URL that fsspec knows.
        space: Says what each parameter's text stands for.
        directions: One an objective.

    Raises:
        ConfigError: If the file cannot be read, a column is missing, or a cell is wrong; names row and column.
    """
    try:
        text = read_file(place).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{place}: is not UTF-8 text: {error}.") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        header = list(reader.fieldnames or [])
        prefix = PARAM if any(name.startswith(PARAM) for name in header) else ""
        values = value_columns(len(directions))
        wanted = [*(prefix + name for name in space if not space[name].when), *values]
        if missing := [name for name in wanted if name not in header]:
            raise ConfigError(f"{place}: the column(s) {missing} are missing; it has {header}.")
        return [
            _Row(f"{place}, row {number}", cells).trial(number - 2, space, prefix, values)
            for number, cells in enumerate(reader, start=2)
        ]
    except csv.Error as error:
        raise ConfigError(f"{place}, line {reader.line_num}: is no CSV: {error}.") from None


class _Row:
    """One row of the file; the header is row 1."""

    def __init__(self, where: str, cells: Mapping[str | None, Any]) -> None:
        if None in cells or None in cells.values():
            raise ConfigError(f"{where}: expected as many cells as the header has.")
        self._where, self._cells = where, cells

    def trial(self, place: int, space: SearchSpace, prefix: str, value_names: Sequence[str]) -> Trial:
        """The trial of this row, ``place`` rows after the first."""
        values = [self._number(name) for name in value_names]
        told = [value for value in values if value is not None]
        if told and len(told) < len(values):
            raise self._error(value_names[values.index(None)], "a number, since another value is there")
        state = self._state(is_told=bool(told))
        facts = self._facts() if prefix else {}
        metrics = {
            name.removeprefix(METRIC): _read(text)
            for name, text in self._cells.items()
            if prefix and name is not None and name.startswith(METRIC) and text
        }
        facts = {"number": place, "seed": 0} | facts
        params = self._params(space, prefix)
        return Trial(**facts, params=params, state=state, values=[*map(float, told)] or None, metrics=metrics)

    def _params(self, space: SearchSpace, prefix: str) -> Params:
        found: Params = {}
        for name in space.parents_first:
            if space.is_active(name, found):
                found[name] = self._param(prefix + name, space[name])
        return {name: found[name] for name in space if name in found}

    def _param(self, column: str, parameter: Parameter) -> Any:
        text = self._cells.get(column, "")
        if isinstance(parameter, Choice):
            return self._choice(column, parameter)
        number = _read(text)
        is_whole = _is_number(number) and math.isfinite(number) and number == int(number)
        if isinstance(parameter, Int) and not is_whole:
            raise self._error(column, "a whole number")
        if not _is_number(number):
            raise self._error(column, "a number")
        with suppress(SpaceError):  # beyond the range: the trial is of no use, the file is not wrong
            return parameter.coerce(number)
        return number

    def _choice(self, column: str, choice: Choice) -> Any:
        """The value whose text this is, as we write it or else as anybody may."""
        text = self._cells.get(column, "")
        values = choice.all_values()
        for value in values:
            if cell_text(value) == text:
                return value
        read = _read(text)
        for value in values:
            if str(value) == text or same(value, read) or (_is_number(value) and _is_number(read) and value == read):
                return value
        raise self._error(column, f"one of {values!r}")

    def _state(self, is_told: bool) -> TrialState:
        """The state that the row gives, if any; a value and no state is a success."""
        text = self._cells.get("state", "").strip()
        expected = TrialState.COMPLETED if is_told else TrialState.FAILED
        if not text:
            return expected
        try:
            state = TrialState(text.upper())
        except ValueError:
            raise self._error("state", f"one of {[str(state) for state in TrialState]}") from None
        if (state is TrialState.COMPLETED) != is_told:
            what = "a value in a COMPLETED trial's row" if not is_told else "COMPLETED, since there is a value"
            raise self._error("state", what)
        return state

    def _facts(self) -> dict[str, Any]:
        """What a run folder's file says of a trial beside params, values and metrics."""
        facts: dict[str, Any] = {}
        for name in ("number", "seed", "fidelity", "parent", "attempt"):
            if (number := self._number(name)) is not None:
                if not isinstance(number, int):
                    raise self._error(name, "a whole number")
                facts[name] = number
        for name in ("started", "seconds"):
            if (number := self._number(name)) is not None:
                facts[name] = float(number)
        of, repeat = self._number("repeat_of"), self._number("repeat")
        if of is not None and repeat is not None:
            facts["origin"] = {"by": CONFIRM, "of": of, "repeat": repeat}
        return facts | {name: text for name in ("host", "error") if (text := self._cells.get(name))}

    def _number(self, column: str) -> Any:
        """The finite number in a cell; None where it is empty."""
        text = self._cells.get(column, "")
        if not text.strip():
            return None
        number = _read(text)
        if not _is_number(number) or not math.isfinite(number):
            raise self._error(column, "a finite number")
        return number

    def _error(self, column: str, expected: str) -> ConfigError:
        return ConfigError(
            f"{self._where}, column {column!r}: expected {expected}, got {self._cells.get(column, '')!r}."
        )


def _read(text: str) -> Any:
    """What a cell's text would be in Python, or in JSON."""
    bare = text.strip()
    if bare.lower() in _NOTHING:
        return None
    if bare.lower() in ("true", "false"):
        return bare.lower() == "true"
    for convert in (int, float, json.loads):
        try:
            return convert(bare)
        except (ValueError, RecursionError):
            continue
    return text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
