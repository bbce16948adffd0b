"""Where an objective's data comes from: a recipe that travels with it, and is followed once in each process at most."""

from __future__ import annotations

import os
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from hpo_spark.data.columns import Columns
from hpo_spark.data.dataset import Dataset, Unsplit, Validation, as_dataset, parse_validation, split
from hpo_spark.data.files import CsvFile, NpyFiles, NpzFile
from hpo_spark.data.named import NAMES, Digits, Mnist
from hpo_spark.data.parquet import ParquetFiles
from hpo_spark.data.recipe import Recipe, digest_of_arrays
from hpo_spark.data.spark import FORMATS, SparkTable
from hpo_spark.data.streams import Rewound
from hpo_spark.errors import DataError
from hpo_spark.redaction import redact
from hpo_spark.symbols import load_symbol

__all__ = ["PATH_KEYS", "DataSource"]

# Datasets of this process, by source and seed: a source is unpickled for each trial, and what it loaded stays.
_ready: OrderedDict[tuple[str, int], Dataset | Rewound] = OrderedDict()
_MAX_READY = 2

# Keys of a mapping whose values are paths, or lists or mappings of paths.
PATH_KEYS = ("npz", "npy", "csv", "parquet", "path", "test", "validation", "mnist", "fashion_mnist")
_KINDS = ("npz", "npy", "csv", "parquet", "format", "mnist", "fashion_mnist")


class DataSource:
    """A recipe for a `Dataset`, and how its validation part is cut off.

    A search follows the recipe once, puts the arrays into the cache of each host, and trial processes map them there. A
    loading function runs in each trial process instead, once. Whoever runs an objective without a search has the recipe
    followed where it is used.

    Args:
        recipe: How the data is had.
        validation: ``0.15`` for a share drawn with the study's seed, ``"last 0.15"``, or None: the validation part that
            the data brings, else a share of 0.15.
        keep_bytes: Whether images of bytes stay uint8 until the batch, with `Part.divisor`; else they are float32.
    """

    def __init__(self, recipe: Recipe, validation: float | str | None = None, keep_bytes: bool = False) -> None:
        self.recipe = recipe
        self._validation: Validation | Unsplit | None = parse_validation(validation)
        self._keeps_bytes = keep_bytes
        self._identity = uuid.uuid4().hex

    @classmethod
    def of(cls, data: Any, validation: float | str | None = None, keep_bytes: bool = False) -> DataSource:
        """Understand what a user writes for data.

        Args:
            data: One of

                - ``"digits"``, ``"mnist"`` or ``"fashion_mnist"``, or ``{"mnist": path}``;
                - the path of an ``.npz`` file, or ``{"npz": path}``;
                - ``{"npy": [x_path, y_path]}``, with ``test`` and ``validation`` for more such pairs;
                - ``{"csv": path_or_url, "label": name}``, with ``features``, ``weight``, ``where`` and ``test``;
                - ``{"parquet": path_or_url, "label": name}`` with the same keys, which the executors read themselves;
                - ``{"format": "parquet" | "delta", "path": url}`` or ``{"format": "table", "table": name}`` with the
                  same keys, ``options`` and ``max_mb``, which Spark reads and the driver collects;
                - ``"my_data.py:load"`` or ``"package.module:load"``, a function that is called on the worker, or such a
                  function itself;
                - what such a function may return, see `as_dataset`, or `Dataset.from_spark`.
            validation, keep_bytes: As for the class.

        Raises:
            DataError: If it is none of these.
        """
        if isinstance(data, DataSource):
            source = cls(data.recipe, validation, keep_bytes)
            source._validation = source._validation or data._validation
            return source
        if isinstance(data, Mapping) and (kinds := [key for key in _KINDS if key in data]):
            return cls(_recipe_of(kinds, dict(data)), validation, keep_bytes)
        if isinstance(data, Mapping) and all(isinstance(value, str | Path) for value in data.values()):
            raise DataError(f"data: unknown kind {next(iter(data), None)!r}; expected one of {list(_KINDS)}.")
        if isinstance(data, str | Path):
            return cls(_recipe_of_text(str(data)), validation, keep_bytes)
        if callable(data):
            return cls(_Function(data), validation, keep_bytes)
        if hasattr(data, "toDF") or hasattr(data, "toPandas"):
            raise DataError("A DataFrame does not tell its label: give Dataset.from_spark(frame, label=...) as data.")
        return cls(_Constant(as_dataset(data)), validation, keep_bytes)

    @property
    def describe(self) -> str:
        """How messages call it."""
        return self.recipe.describe

    def with_sample_weight(self, weight: Any) -> DataSource:
        """The same data with a weight for each training row, before the split."""
        return self.with_recipe(_Weighted(self.recipe, weight))

    def with_recipe(self, recipe: Recipe) -> DataSource:
        """The same with another recipe."""
        source = DataSource(recipe, None, self._keeps_bytes)
        source._validation = self._validation
        return source

    def unsplit(self, all_rows: bool = False) -> DataSource:
        """The same data without a validation part, for an objective that cuts folds.

        Args:
            all_rows: Whether the rows of the test part are among the training rows too; nothing is left to test on.
        """
        source = DataSource(self.recipe, None, self._keeps_bytes)
        source._validation = Unsplit(all_rows)
        return source

    @property
    def function(self) -> Callable[[], Any] | None:
        """The user's loading function; None where it is none."""
        return self.recipe.function if isinstance(self.recipe, _Function) else None

    def digest(self) -> str | None:
        """Tells the data from what it was at another time, as a search that goes on must know; None for unknown."""
        return self.recipe.digest()

    def key(self, seed: int) -> str:
        """Tells what `follow` gives from what it gives of other data, another seed, or another split."""
        parts = (self.recipe.key(), self._validation, self._keeps_bytes, seed)
        return blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    def prepare(self) -> None:
        """Find out on the driver, before the search, whether the data can be had.

        Raises:
            DataError: If it cannot.
        """
        self.recipe.prepare()

    def follow(self, seed: int) -> Dataset:
        """Follow the recipe now, and split what it gives with the study's seed."""
        dataset = as_dataset(self.recipe.load())
        if not self.recipe.is_split:
            dataset = split(dataset, self._validation, seed)
        return dataset if self._keeps_bytes else dataset.scaled()

    def load(self, seed: int) -> Dataset:
        """The dataset, split with the study's seed: from memory, if this process has had it before.

        Its arrays can only be read, since the next trial gets the same ones. A stream begins anew each time, though
        what made it ran once.
        """
        key = self._identity, seed
        if key not in _ready:
            dataset = self.follow(seed).read_only()
            _ready[key] = Rewound(dataset, lambda: self.follow(seed)) if dataset.is_streamed else dataset
            if len(_ready) > _MAX_READY:
                _ready.popitem(last=False)
        _ready.move_to_end(key)
        known = _ready[key]
        return known.dataset() if isinstance(known, Rewound) else known


def _recipe_of(kinds: list[str], data: dict[str, Any]) -> Recipe:
    """The recipe of a mapping, as a study file has it."""
    if len(kinds) > 1:
        raise DataError(f"data: expected one of {list(_KINDS)}, got {kinds}.")
    kind = kinds[0]
    value = data.pop(kind)
    if kind == "npy":
        parts: dict[str, Any] = {"train": value}
        parts |= {name: data.pop(name) for name in ("validation", "test") if name in data}
        return _nothing_left(data, kind, NpyFiles(parts))
    if not isinstance(value, str | Path):
        raise DataError(f"data: {kind} must be a {'word' if kind == 'format' else 'path'}, got {value!r}.")
    if kind == "npz":
        return _nothing_left(data, kind, NpzFile(str(value)))
    if kind in NAMES:
        return _nothing_left(data, kind, Mnist(kind, os.path.abspath(value)))
    columns, rest = Columns.parse(data)
    place: Any
    test = rest.pop("test", None)
    if test is not None and not isinstance(test, str | Path):
        raise DataError(f"data: test must be the place of another such table, got {test!r}.")
    other = None if test is None else str(test)
    if kind == "csv":
        return _nothing_left(rest, kind, CsvFile(str(value), columns, other))
    if kind == "parquet":
        return _nothing_left(rest, kind, ParquetFiles(str(value), columns, other))
    if value not in FORMATS:
        raise DataError(f"data: format must be one of {list(FORMATS)}, got {value!r}.")
    place_key = "table" if value == "table" else "path"
    place = rest.pop(place_key, None)
    options, max_mb = rest.pop("options", None), rest.pop("max_mb", None)
    if not isinstance(place, str | Path):
        raise DataError(f"data: format: {value} needs the key {place_key}, got {place!r}.")
    if options is not None and not isinstance(options, Mapping):
        raise DataError(f"data: options must map names of options of Spark's reader to values, got {options!r}.")
    if max_mb is not None and (isinstance(max_mb, bool) or not isinstance(max_mb, int | float) or max_mb <= 0):
        raise DataError(f"data: max_mb must be a number above 0, got {max_mb!r}.")
    return _nothing_left(rest, f"format: {value}", SparkTable(str(value), str(place), columns, other, options, max_mb))


def _nothing_left(rest: Mapping[str, Any], kind: str, recipe: Recipe) -> Recipe:
    if rest:
        raise DataError(f"data: unknown key {next(iter(rest))!r} beside {kind}.")
    return recipe


def _recipe_of_text(text: str) -> Recipe:
    if text in NAMES:
        return Digits() if text == "digits" else Mnist(text)
    if text.endswith(".npz"):
        return NpzFile(text)
    if ":" in text and "://" not in text:
        function = load_symbol(text)
        if not callable(function):
            raise DataError(f"data: {text!r} is {type(function).__name__}, expected a function.")
        return _Function(function, text)
    raise DataError(
        f"data: {redact(text)!r} is neither one of {list(NAMES)}, nor the path of an .npz file, nor a loading function "
        "such as 'my_data.py:load'; other files need a mapping, such as {parquet: path, label: y}."
    )


class _Function(Recipe):
    """A user's function, which each process calls for itself."""

    def __init__(self, function: Callable[[], Any], describe: str | None = None) -> None:
        self.function = function
        self.describe = str(describe or getattr(function, "__qualname__", repr(function)))
        self.where = "process"

    def load(self) -> Any:
        return self.function()


class _Constant(Recipe):
    """A dataset that is here."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.describe = "the arrays given"
        if dataset.is_streamed:
            self.where = "process"

    def load(self) -> Dataset:
        return self._dataset

    def digest(self) -> str | None:
        return None if self.where == "process" else digest_of_arrays(self._dataset.arrays())


class _Weighted(Recipe):
    """A dataset whose training rows get weights."""

    def __init__(self, recipe: Recipe, weight: Any) -> None:
        self._recipe, self._weight = recipe, weight
        self.describe, self.where = recipe.describe, recipe.where

    def load(self) -> Dataset:
        dataset = as_dataset(self._recipe.load())
        train = dataset.train
        if train.is_stream or len(train) != len(self._weight):
            rows = "a stream" if train.is_stream else f"{len(train)} rows"
            raise DataError(f"sample_weight has {len(self._weight)} entries, but the training part is {rows}.")
        return replace(dataset, train=replace(train, sample_weight=self._weight))

    def prepare(self) -> None:
        self._recipe.prepare()

    def digest(self) -> str | None:
        return self._with_weight(self._recipe.digest())

    def key(self) -> str | None:
        return self._with_weight(self._recipe.key())

    def n_bytes(self) -> int:
        return self._recipe.n_bytes()

    def _with_weight(self, inner: str | None) -> str | None:
        content = np.ascontiguousarray(self._weight).tobytes()
        return None if inner is None else f"{inner},{blake2b(content, digest_size=8).hexdigest()}"
