"""The table of trials: one row a trial, and a column for each of its facts, values, params and metrics."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from hpo_spark.plain import plain_text
from hpo_spark.trial import Trial

__all__ = ["ABSENT", "FACTS", "METRIC", "PARAM", "cell_text", "columns_of", "csv_of", "value_columns"]

FACTS = ("number", "state", "seed", "fidelity", "repeat_of", "repeat", "attempt", "started", "seconds", "host")
PARAM, METRIC = "param:", "metric:"


class _Absent:
    """What stands where a trial has nothing: a parameter that is not active is not one whose value is None."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


def value_columns(n_values: int) -> list[str]:
    """What the columns of the values are called."""
    return ["value"] if n_values == 1 else [f"value_{index}" for index in range(n_values)]


def columns_of(trials: Sequence[Trial]) -> dict[str, list[Any]]:
    """Each column of the table by its name, with `ABSENT` where a trial has nothing."""
    columns = {fact: [_or_absent(getattr(trial, fact)) for trial in trials] for fact in FACTS}
    n_values = max((len(trial.values or []) for trial in trials), default=1) or 1
    for index, name in enumerate(value_columns(n_values)):
        columns[name] = [trial.values[index] if trial.values else ABSENT for trial in trials]
    for name in _names(trial.params for trial in trials):
        columns[PARAM + name] = [trial.params.get(name, ABSENT) for trial in trials]
    for name in _names(trial.metrics for trial in trials):
        columns[METRIC + name] = [_or_absent(trial.metrics.get(name)) for trial in trials]
    columns["error"] = [_or_absent(trial.reason) for trial in trials]
    return columns


def csv_of(trials: Sequence[Trial]) -> str:
    """The table as CSV; numbers read back as the same numbers."""
    columns = columns_of(trials)
    cells = [
        [cell_text(value) if name.startswith(PARAM) else _text(value) for value in values]
        for name, values in columns.items()
    ]
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    writer.writerows(zip(*cells, strict=True))
    return buffer.getvalue()


def cell_text(value: Any) -> str:
    """The text of a parameter's value: empty for None; a string that reads as something else is in double quotes."""
    return json.dumps(value) if isinstance(value, str) and _reads_otherwise(value) else _text(value)


def _text(value: Any) -> str:
    return "" if value is ABSENT or value is None else plain_text(value)


def _reads_otherwise(text: str) -> bool:
    """Whether a text would be taken for nothing, a number, True, None, a list or a mapping."""
    bare = text.strip().lower()
    if not bare or bare[0] in '"[{' or bare in ("true", "false", "none", "null"):
        return True
    try:
        float(bare)
    except ValueError:
        return False
    return True


def _or_absent(value: Any) -> Any:
    return ABSENT if value is None else value


def _names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))
