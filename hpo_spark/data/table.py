"""What recipes for tables in files have in common."""

from __future__ import annotations

from abc import abstractmethod

from hpo_spark.data.columns import Columns
from hpo_spark.data.dataset import Dataset, Part
from hpo_spark.data.listing import absolute, digest_of, listing
from hpo_spark.data.recipe import Recipe
from hpo_spark.redaction import redact

__all__ = ["TableFiles"]


class TableFiles(Recipe):
    """A table in a file, or in a folder of them, at a path or URL.

    Args:
        url: Where it is.
        columns: What of it is the data.
        test: Another one for the test part.
    """

    def __init__(self, url: str, columns: Columns, test: str | None = None) -> None:
        self._url, self._columns = absolute(url), columns
        self._test = None if test is None else absolute(test)
        self.describe = redact(url)

    @property
    def _urls(self) -> list[str]:
        return [self._url] if self._test is None else [self._url, self._test]

    def load(self) -> Dataset:
        """Read what is selected."""
        return Dataset(self._part(self._url), test=None if self._test is None else self._part(self._test))

    def prepare(self) -> None:
        """Find out whether there are files."""
        for url in self._urls:
            listing(url)

    def digest(self) -> str | None:
        """Of its files."""
        return digest_of(*self._urls)

    @abstractmethod
    def _part(self, url: str) -> Part:
        """What is selected of one of the tables."""
