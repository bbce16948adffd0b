"""Trials as a pandas `DataFrame` and as a Parquet file; as CSV without pandas."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpo_spark.errors import MissingExtra
from hpo_spark.exchange.files import write_file
from hpo_spark.plain import canonical
from hpo_spark.results.columns import ABSENT, PARAM, columns_of, csv_of
from hpo_spark.trial import Trial

if TYPE_CHECKING:
    import pandas

__all__ = ["to_frame", "write_csv", "write_parquet"]

# The same for any trials, so that tables of several searches go together. Metrics and params have what fits them.
_DTYPES = {
    "number": "int64",
    "state": "string",
    "seed": "int64",
    "fidelity": "Int64",
    "parent": "Int64",
    "repeat_of": "Int64",
    "repeat": "Int64",
    "attempt": "int64",
    "started": "float64",
    "seconds": "float64",
    "host": "string",
    "error": "string",
}
_INT64 = range(-(2**63), 2**63)


def to_frame(trials: Sequence[Trial]) -> pandas.DataFrame:
    """One row a trial, with the columns of a run folder's ``trials.csv``.

    Those are number, state, seed, fidelity, parent (the trial that it goes on from), repeat_of and repeat (of which
    trial it is which repeat), attempt, started, seconds, host, value (or ``value_0`` and so on), ``param:NAME``,
    ``metric:NAME``, and the first line of the error.
    What a trial does not have is missing (NaN or NA). Params of one type have a column of that type; values of several
    types, None, lists and mappings stay what they are, in a column of objects.

    Raises:
        MissingExtra: If pandas is not installed.
    """
    pandas = _pandas()
    columns = columns_of(trials)
    return pandas.DataFrame({name: _array(pandas, name, values) for name, values in columns.items()})


def write_csv(trials: Sequence[Trial], place: str | os.PathLike[str]) -> None:
    """Write ``trials.csv`` of a run folder to a path or a URL that fsspec knows."""
    write_file(place, csv_of(trials).encode(errors="backslashreplace"))


def write_parquet(trials: Sequence[Trial], place: str | os.PathLike[str]) -> None:
    """Write the table of `to_frame` as Parquet to a path or a URL that fsspec knows.

    A Parquet column has one type, so a column of objects is written as text: the JSON of each value.

    Raises:
        MissingExtra: If pandas or pyarrow is not installed.
    """
    frame = to_frame(trials)
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingExtra("Parquet", "pyarrow", "export") from error
    for name in frame.select_dtypes("object").columns:
        frame[name] = _pandas().array([_json(value) for value in frame[name]], dtype="string")
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", index=False)
    write_file(place, buffer.getvalue())


def _array(pandas: Any, name: str, values: list[Any]) -> Any:
    dtype = _DTYPES.get(name) or ("float64" if name.startswith("value") else _dtype_of(name, values))
    if dtype == "string":
        values = [value if value is ABSENT else _encodable(str(value)) for value in values]
    missing = float("nan") if dtype == "float64" else pandas.NA
    return pandas.array([missing if value is ABSENT else value for value in values], dtype=dtype)


def _dtype_of(name: str, values: list[Any]) -> str:
    """The narrowest type of a column of params or metrics that holds each value as it is."""
    types = {type(value) for value in values if value is not ABSENT}
    if types == {float} or (types == {int, float} and not name.startswith(PARAM)):
        return "float64"
    if types == {int} and all(value in _INT64 for value in values if value is not ABSENT):
        return "Int64" if ABSENT in values else "int64"
    if types == {bool}:
        return "boolean" if ABSENT in values else "bool"
    if types == {str} and all(value == _encodable(value) for value in values if value is not ABSENT):
        return "string"
    return "object"


def _encodable(text: str) -> str:
    """The text as UTF-8 can hold it."""
    return text.encode(errors="backslashreplace").decode()


def _json(value: Any) -> Any:
    return value if value is _pandas().NA else canonical(value)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingExtra("A data frame", "pandas", "export") from error
    return pandas
