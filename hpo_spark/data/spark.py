"""Tables that Spark reads, collected to the driver through Arrow, with a check of their size before."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from hpo_spark.data.columns import Columns, Condition, import_arrow
from hpo_spark.data.dataset import Dataset, Part
from hpo_spark.data.listing import digest_of
from hpo_spark.data.recipe import Recipe, reason
from hpo_spark.errors import DataError
from hpo_spark.redaction import redact

__all__ = ["FORMATS", "SparkTable", "collect"]

FORMATS = ("parquet", "delta", "table")

_DEFAULT_MAX_MB = 2000.0
_WIDTHS = {"ByteType": 1, "BooleanType": 1, "ShortType": 2, "IntegerType": 4, "FloatType": 4}
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_INSTEAD = (
    "Choose fewer rows or columns, or have the executors read it themselves, from Parquet: data: {parquet: path}."
)


class SparkTable(Recipe):
    """A table that the session of the executor reads.

    Args:
        form: ``parquet``, ``delta`` or ``table``.
        place: Path or URL, or the table's name.
        columns: What of it is the data.
        test: Place of another one for the test part.
        options: Options of Spark's reader, such as ``versionAsOf``.
        max_mb: How much may come to the driver; None for 2,000 MB.
    """

    def __init__(
        self,
        form: str,
        place: str,
        columns: Columns,
        test: str | None = None,
        options: Mapping[str, Any] | None = None,
        max_mb: float | None = None,
    ) -> None:
        self._form, self._place, self._columns = form, place, columns
        self._test, self._options, self._max_mb = test, dict(options or {}), max_mb
        self.describe = redact(f"{form} {place}")

    def load(self) -> Dataset:
        """Collect what is selected."""
        session = _session()
        if session is None:
            raise DataError(
                f"{self.describe} is read by Spark, which does not run in this process: use executor: spark; or, "
                "without Spark, data: {parquet: path}."
            )
        parts = [None if place is None else self._part(session, place) for place in (self._place, self._test)]
        assert parts[0] is not None
        return Dataset(parts[0], test=parts[1])

    def prepare(self) -> None:
        """Look at the columns, once there is a session."""
        if (session := _session()) is not None:
            for place in filter(None, (self._place, self._test)):
                self._columns.resolved(self._open(session, place).columns, redact(place))

    def digest(self) -> str | None:
        """Of the listing of its files, the test part's too; of a table of a catalogue it is not known."""
        return None if self._form == "table" else digest_of(self._place, self._test)

    def _part(self, session: Any, place: str) -> Part:
        return _collect(self._open(session, place), self._columns, self._max_mb, redact(f"{self._form} {place}"))

    def _open(self, session: Any, place: str) -> Any:
        reader = session.read.options(**self._options)
        try:
            return reader.table(place) if self._form == "table" else reader.format(self._form).load(place)
        except Exception as error:
            text = str(error)
            if self._form == "delta" and ("DATA_SOURCE_NOT_FOUND" in text or "ClassNotFound" in text):
                raise DataError(
                    "format: delta needs Delta Lake in the Spark session, which this one lacks: start it with "
                    "--packages io.delta:delta-spark_2.13:VERSION, in the version for its Spark, and with Delta's "
                    "settings spark.sql.extensions and spark.sql.catalog.spark_catalog."
                ) from None
            raise DataError(f"Spark cannot read {redact(place)}: {reason(error)}") from None


def collect(
    frame: Any,
    features: str | Sequence[str] | None,
    label: str,
    weight: str | None,
    test: Any,
    max_mb: float | None,
) -> Dataset:
    """What `Dataset.from_spark` does."""
    if not hasattr(frame, "schema") or not hasattr(frame, "select"):
        raise DataError(f"from_spark takes a Spark DataFrame, got {type(frame).__name__}.")
    columns, _ = Columns.parse({"features": features, "label": label, "weight": weight})
    train = _collect(frame, columns, max_mb, "The DataFrame")
    return Dataset(train, test=None if test is None else _collect(test, columns, max_mb, "The test DataFrame"))


def _collect(frame: Any, columns: Columns, max_mb: float | None, where: str) -> Part:
    import_arrow("Collecting a DataFrame")
    columns = columns.resolved(frame.columns, where)
    chosen = _selected(frame, columns)
    try:
        n_rows, n_bytes = _size(chosen)
        _check_size(n_rows, n_bytes, _DEFAULT_MAX_MB if max_mb is None else max_mb, frame.sparkSession, where)
        table = chosen.toArrow() if hasattr(chosen, "toArrow") else _to_arrow(chosen)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{where} cannot be collected: {reason(error)}") from error
    return columns.part(table, where)


def _to_arrow(frame: Any) -> Any:
    """The same with Spark 3, which does it on the way to pandas."""
    from pyspark.sql.pandas.types import to_arrow_schema

    batches = frame._collect_as_arrow()
    schema = batches[0].schema if batches else to_arrow_schema(frame.schema)
    return import_arrow("Collecting a DataFrame").Table.from_batches(batches, schema)


def _selected(frame: Any, columns: Columns) -> Any:
    """The chosen rows and columns, in the smallest types that training needs."""
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it
    from pyspark.sql.types import DecimalType, DoubleType

    if columns.where:
        frame = frame.where(reduce(lambda one, other: one & other, [_condition(one) for one in columns.where]))
    types = {field.name: field.dataType for field in frame.schema.fields}
    chosen = []
    for name in columns.names:
        column = F.col(_quoted(name))
        if type(types[name]).__name__ == "VectorUDT":
            from pyspark.ml.functions import vector_to_array

            column = vector_to_array(column, "float32")
        elif isinstance(types[name], DoubleType | DecimalType):
            column = column.cast("float")
        chosen.append(column.alias(name))
    return frame.select(*chosen)


def _condition(condition: Condition) -> Any:
    from pyspark.sql import functions as F  # noqa: N812

    name, operator, value = condition
    column = F.col(_quoted(name))
    if operator in ("in", "not in"):
        return column.isin(list(value)) if operator == "in" else ~column.isin(list(value))
    how = {"==": "__eq__", "!=": "__ne__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}
    return getattr(column, how[operator])(value)


def _size(frame: Any) -> tuple[int, int]:
    """Rows, and bytes of all values."""
    from pyspark.sql import functions as F  # noqa: N812
    from pyspark.sql.types import ArrayType, StructType

    sums, per_row = [], 0
    for field in frame.schema.fields:
        kind, column = field.dataType, F.col(_quoted(field.name))
        if isinstance(kind, ArrayType):
            while isinstance(kind.elementType, ArrayType):
                kind, column = kind.elementType, F.flatten(column)
            sums.append(F.sum(F.size(column)) * _width(kind.elementType))
        elif isinstance(kind, StructType) and "data" in kind.names:
            sums.append(F.sum(F.length(column["data"])))
        else:
            per_row += _width(kind)
    n_rows, *totals = frame.agg(F.count(F.lit(1)), *sums).first()
    return int(n_rows), int(n_rows) * per_row + sum(int(total or 0) for total in totals)


def _width(kind: Any) -> int:
    return _WIDTHS.get(type(kind).__name__, 8)


def _check_size(n_rows: int, n_bytes: int, max_mb: float, session: Any, where: str) -> None:
    found = f"{where} holds {n_bytes / 1e6:,.0f} MB in {n_rows:,} rows and the chosen columns"
    if n_bytes > max_mb * 1e6:
        raise DataError(f"{found}, and at most max_mb={max_mb:,.0f} may come to the driver. {_INSTEAD}")
    setting = session.conf.get("spark.driver.maxResultSize", "1g") or "1g"
    match = re.fullmatch(r"(\d+)\s*([kmgt]?)b?", setting.strip().lower())
    limit = int(match[1]) * _UNITS[match[2]] if match else 0
    if 0 < limit < n_bytes:
        raise DataError(f"{found}, more than spark.driver.maxResultSize={setting} lets through; raise it. {_INSTEAD}")


def _session() -> Any:
    """The session of this process; None where there is none, as on a worker."""
    try:
        from pyspark import SparkContext
        from pyspark.sql import SparkSession
        from pyspark.sql.utils import is_remote
    except ImportError:
        return None
    if SparkContext._active_spark_context is not None:
        return SparkSession.builder.getOrCreate()
    if not is_remote():
        return None
    from pyspark.sql.connect.session import SparkSession as RemoteSession

    return RemoteSession.active()


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
