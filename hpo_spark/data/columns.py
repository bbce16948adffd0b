"""Columns of a table as the arrays of a dataset: numbers, arrays of them, vectors, images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpo_spark.data.dataset import Part
from hpo_spark.errors import DataError, MissingExtra

__all__ = ["BYTE_DIVISOR", "Columns", "Condition", "import_arrow"]

# What images of bytes are divided by.
BYTE_DIVISOR = 255.0

Condition = tuple[str, str, Any]

_OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in")
_VECTOR = {"type", "size", "indices", "values"}  # as pyspark.ml writes it
_IMAGE = {"height", "width", "nChannels", "data"}
_KEYS = ("features", "label", "weight", "where")


def import_arrow(what: str) -> Any:
    """pyarrow, with its Parquet, CSV and compute modules.

    Raises:
        MissingExtra: If it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.dataset
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra(what, "pyarrow", "arrow") from None
    return pyarrow


@dataclass(frozen=True)
class Columns:
    """Which columns and rows of a table are the data.

    Attributes:
        label: Name of the column of targets.
        features: Names of the columns of inputs; None for all others.
        weight: Name of the column of sample weights; None for equal weights.
        where: ``(column, operator, value)`` that all must hold for a row to count; operators are ``==``, ``!=``, ``<``,
            ``<=``, ``>``, ``>=``, ``in`` and ``not in``, the last two with a list.
    """

    label: str
    features: tuple[str, ...] | None = None
    weight: str | None = None
    where: tuple[Condition, ...] = ()

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> tuple[Columns, dict[str, Any]]:
        """Read the keys ``features``, ``label``, ``weight`` and ``where``.

        Returns:
            The columns, and the other keys.

        Raises:
            DataError: If one of them makes no sense.
        """
        features, label, weight, where = (options.get(key) for key in _KEYS)
        names = (features,) if isinstance(features, str) else features
        if names is not None and not (_is_list(names) and names and all(isinstance(name, str) for name in names)):
            raise DataError(f"features must be a list of column names, got {features!r}.")
        if not isinstance(label, str):
            raise DataError(f"label must name the column of targets, such as label: y; got {label!r}.")
        if weight is not None and not isinstance(weight, str):
            raise DataError(f"weight must name the column of sample weights, got {weight!r}.")
        if names is not None and ({label, weight} & set(names) or len(set(names)) < len(names)):
            raise DataError(f"features names a column twice, or the label or weight among them: {list(names)}.")
        columns = cls(label, None if names is None else tuple(names), weight, _conditions(where))
        return columns, {key: value for key, value in options.items() if key not in _KEYS}

    def resolved(self, available: Sequence[str], where: str) -> Columns:
        """The same with features named, among the columns that a table has.

        Args:
            available: Their names.
            where: How messages call the table.

        Raises:
            DataError: If one is missing.
        """
        used = [self.label, self.weight, *(self.features or ()), *(column for column, _, _ in self.where)]
        if missing := [name for name in used if name is not None and name not in available]:
            shown = list(available[:20])
            raise DataError(f"{where} has no column {missing[0]!r}; it has {shown}{'...' * (len(available) > 20)}.")
        if self.features is not None:
            return self
        rest = tuple(name for name in available if name not in (self.label, self.weight))
        if not rest:
            raise DataError(f"{where} has no column of features beside the label {self.label!r}.")
        return Columns(self.label, rest, self.weight, self.where)

    @property
    def names(self) -> list[str]:
        """Features, label and weight."""
        assert self.features is not None
        return [*self.features, self.label, *([] if self.weight is None else [self.weight])]

    def part(self, table: Any, where: str) -> Part:
        """The columns of an Arrow table as arrays.

        A single feature column keeps its shape; several are put side by side. Bytes stay uint8 where all are; numbers
        become float32, labels of a whole-number type int64.

        Raises:
            DataError: If a column cannot become an array.
        """
        assert self.features is not None
        if not len(table):
            raise DataError(f"{where} has no row{' that the conditions let through' if self.where else ''}.")
        blocks = [_block(table[name], f"{where}: the column {name!r}") for name in self.features]
        x = blocks[0] if len(blocks) == 1 and blocks[0].ndim > 1 else np.hstack([b.reshape(len(b), -1) for b in blocks])
        x = np.ascontiguousarray(x if x.dtype == np.uint8 else x.astype(np.float32, copy=False))
        y = _block(table[self.label], f"{where}: the label {self.label!r}")
        y = np.ascontiguousarray(y, np.int64 if y.ndim == 1 and y.dtype.kind in "biu" else np.float32)
        weight = None
        if self.weight is not None:
            weight = _block(table[self.weight], f"{where}: the weight {self.weight!r}").astype(np.float32)
        return Part(x, y, weight, BYTE_DIVISOR if x.dtype == np.uint8 and x.ndim >= 3 else None)


def _conditions(where: Any) -> tuple[Condition, ...]:
    if where is None:
        return ()
    if _is_list(where) and all(_is_list(one) and len(one) == 3 for one in where):
        found = tuple((column, operator, value) for column, operator, value in where)
        if all(isinstance(c, str) and o in _OPERATORS and _is_list(v) == o.endswith("in") for c, o, v in found):
            return found
    raise DataError(
        f"where must be a list of conditions [column, operator, value] such as [[year, '>=', 2020]], with one of the "
        f"operators {list(_OPERATORS)}, and a list for in and not in; got {where!r}."
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _block(column: Any, where: str) -> Any:
    """A column of an Arrow table as an array, rows first."""
    pa = import_arrow("Reading tables")
    _refuse_nulls(column, where)
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # more than one array can hold
        return np.concatenate([_block(pa.chunked_array([chunk]), where) for chunk in array.chunks])
    if isinstance(array.type, pa.FixedShapeTensorType):
        return array.to_numpy_ndarray()
    if pa.types.is_struct(array.type):
        fields = {field.name for field in array.type}
        if fields >= _VECTOR:
            return _vectors(array, where)
        if fields >= _IMAGE:
            return _images(array, where)
    shape = [len(array)]
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        shape.append(_width(array, where))
        array = array.flatten()
        _refuse_nulls(array, where)
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.float64())
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_boolean(array.type)):
        raise DataError(
            f"{where} holds {column.type}, expected numbers, arrays of numbers, vectors or images; encode text and "
            "categories as numbers first."
        )
    return array.to_numpy(zero_copy_only=False).reshape(shape)


def _width(lists: Any, where: str) -> int:
    """The length that all lists have."""
    lengths = import_arrow("Reading tables").compute.list_value_length(lists).to_numpy(zero_copy_only=False)
    if (lengths != lengths[0]).any():
        raise DataError(f"{where} holds arrays of {lengths.min()} to {lengths.max()} numbers, expected one length.")
    return int(lengths[0])


def _vectors(structs: Any, where: str) -> Any:
    """Vectors of ``pyspark.ml`` as their Parquet files hold them, dense and sparse ones."""
    pa = import_arrow("Reading tables")
    is_sparse = structs.field("type").to_numpy(zero_copy_only=False) == 0
    values = structs.field("values")
    lengths = pa.compute.list_value_length(values).to_numpy(zero_copy_only=False).astype(np.int64)
    sizes = lengths.copy()
    sizes[is_sparse] = structs.field("size").filter(pa.array(is_sparse)).to_numpy(zero_copy_only=False)
    if (sizes != sizes[0]).any():
        raise DataError(f"{where} holds vectors of {sizes.min()} to {sizes.max()} numbers, expected one length.")
    rows = np.repeat(np.arange(len(structs)), lengths)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    indices = structs.field("indices").filter(pa.array(is_sparse)).flatten()
    places[is_sparse[rows]] = indices.to_numpy(zero_copy_only=False)
    dense = np.zeros((len(structs), int(sizes[0])))
    dense[rows, places] = values.flatten().to_numpy(zero_copy_only=False)
    return dense


def _images(structs: Any, where: str) -> Any:
    """Spark's images of one size, as bytes: rows, height, width, channels."""
    names = ("height", "width", "nChannels")
    sizes = np.stack([structs.field(name).to_numpy(zero_copy_only=False) for name in names], axis=1)
    if (sizes != sizes[0]).any():
        raise DataError(f"{where} holds images of several sizes, expected one; resize them first.")
    content = b"".join(structs.field("data").to_pylist())
    return np.frombuffer(content, np.uint8).reshape(len(structs), *sizes[0])


def _refuse_nulls(column: Any, where: str) -> None:
    if column.null_count:
        raise DataError(f"{where} has {column.null_count} missing value(s); fill them in, or leave these rows out.")
