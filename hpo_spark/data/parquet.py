"""Parquet files that the executors read themselves: never through the driver."""

from __future__ import annotations

from typing import Any

from hpo_spark.data.columns import Columns, import_arrow
from hpo_spark.data.dataset import Part
from hpo_spark.data.listing import listing, open_file_system
from hpo_spark.data.recipe import reason
from hpo_spark.data.table import TableFiles
from hpo_spark.errors import DataError
from hpo_spark.redaction import redact

__all__ = ["ParquetFiles"]


class ParquetFiles(TableFiles):
    """A Parquet file, or a folder of them, at a path or URL that driver and workers see.

    Only the chosen columns and rows are read. Values of folders such as ``year=2024`` are columns too.

    Args:
        url, columns, test: As for `TableFiles`.
    """

    where = "host"

    def prepare(self) -> None:
        """Look at the names of the columns, in the footer of a file."""
        super().prepare()
        for url in self._urls:
            self._open(url)

    def key(self) -> str | None:
        """Of its files, and of what of them is read."""
        return f"{self.digest()} {self._url} {self._test} {self._columns!r}"

    def n_bytes(self) -> int:
        """About how much memory its arrays take."""
        total = 0
        for url in self._urls:
            source, columns = self._open(url)
            total += max(4 * source.count_rows() * len(columns.names), sum(size for _, size, _ in listing(url)))
        return total

    def _part(self, url: str) -> Part:
        pa = import_arrow("Reading Parquet")
        source, columns = self._open(url)
        condition = pa.parquet.filters_to_expression([*columns.where]) if columns.where else None
        try:
            table = source.to_table(columns=columns.names, filter=condition)
        except Exception as error:
            raise DataError(f"{redact(url)} cannot be read: {reason(error)}") from None
        return columns.part(table, redact(url))

    def _open(self, url: str) -> tuple[Any, Columns]:
        pa = import_arrow("Reading Parquet")
        file_system, path = open_file_system(url)
        try:
            source = pa.dataset.dataset(path, filesystem=file_system, format="parquet", partitioning="hive")
        except Exception as error:
            raise DataError(f"{redact(url)} cannot be read as Parquet: {reason(error)}") from None
        return source, self._columns.resolved(source.schema.names, redact(url))
