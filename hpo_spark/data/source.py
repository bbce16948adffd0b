"""Where an objective's data comes from: a recipe that travels with it, and is followed once in each process."""

from __future__ import annotations

import inspect
import logging
import os
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpo_spark.data.dataset import Dataset, Unsplit, Validation, as_dataset, parse_validation, split
from hpo_spark.data.named import DATA_FOLDER_VARIABLE, NAMES, check_npz, load_digits, load_npz, locate
from hpo_spark.errors import DataError
from hpo_spark.symbols import load_symbol

__all__ = ["DataSource"]

logger = logging.getLogger(__name__)

# Datasets of this process, by source and seed: a source is unpickled for each trial, and what it loaded stays.
_ready: OrderedDict[tuple[str, int], Dataset] = OrderedDict()
_MAX_READY = 2


class DataSource:
    """A recipe for a `Dataset`.

    The dataset is loaded where it is used and kept for later trials of the same process; only the recipe is pickled.
    Arrays that are given directly travel with it, once for each worker.

    Args:
        load: Function of no arguments that returns what `as_dataset` takes; called on the worker.
        describe: How messages call it.
        validation: ``0.15`` for a share drawn with the study's seed, ``"last 0.15"``, or None: the validation part that
            the data brings, else a share of 0.15.
        prepare: Called on the driver before the search; raises where the data cannot be had.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        describe: str,
        validation: float | str | None = None,
        prepare: Callable[[], Any] | None = None,
    ) -> None:
        self._load = load
        self.describe = describe
        self._validation: Validation | Unsplit | None = parse_validation(validation)
        self._prepare = prepare
        self._identity = uuid.uuid4().hex

    @classmethod
    def of(cls, data: Any, validation: float | str | None = None) -> DataSource:
        """Understand what a user writes for data.

        Args:
            data: ``"digits"``, ``"mnist"`` or ``"fashion_mnist"``; the path of an ``.npz`` file; ``"my_data.py:load"``
                or ``"package.module:load"``, a function that is called on the worker; a mapping ``{"npz": path}`` or
                ``{"mnist": path}``; such a function itself; or what such a function may return.
            validation: As for the class.

        Raises:
            DataError: If it is none of these.
        """
        if isinstance(data, DataSource):
            return data if validation is None else cls(data._load, data.describe, validation, data._prepare)
        if isinstance(data, Mapping) and len(data) == 1 and isinstance(value := next(iter(data.values())), str | Path):
            kind = next(iter(data))
            if kind == "npz":
                return cls._of_file(str(value), validation)
            if kind in NAMES and kind != "digits":
                return cls._of_name(str(kind), os.path.abspath(value), validation)
            raise DataError(f"data: unknown kind {kind!r}; expected npz, mnist or fashion_mnist with a path.")
        if isinstance(data, str | Path):
            return cls._of_text(str(data), validation)
        if callable(data):
            return cls(data, getattr(data, "__qualname__", repr(data)), validation)
        dataset = as_dataset(data)
        return cls(_Constant(dataset), "the arrays given", validation)

    @classmethod
    def _of_text(cls, text: str, validation: float | str | None) -> DataSource:
        if text in NAMES:
            return cls._of_name(text, None, validation)
        if text.endswith(".npz"):
            return cls._of_file(text, validation)
        if ":" in text:
            function = load_symbol(text)
            if not callable(function):
                raise DataError(f"data: {text!r} is {type(function).__name__}, expected a function.")
            return cls(function, text, validation)
        raise DataError(
            f"data: {text!r} is neither one of {list(NAMES)}, nor the path of an .npz file, "
            "nor a loading function such as 'my_data.py:load'."
        )

    @classmethod
    def _of_name(cls, name: str, path: str | None, validation: float | str | None) -> DataSource:
        if name == "digits":
            return cls(load_digits, name, validation, prepare=load_digits)
        located = _Located(name, path, os.environ.get(DATA_FOLDER_VARIABLE))
        return cls(located, name, validation, prepare=located.find)

    @classmethod
    def _of_file(cls, path: str, validation: float | str | None) -> DataSource:
        file = _File(Path(os.path.abspath(path)))
        return cls(file, path, validation, prepare=file.check)

    def with_sample_weight(self, weight: Any) -> DataSource:
        """The same data with a weight for each training row, before the split."""
        source = DataSource(_Weighted(self._load, weight), self.describe, None, self._prepare)
        source._validation = self._validation
        return source

    def unsplit(self, all_rows: bool = False) -> DataSource:
        """The same data without a validation part, for an objective that cuts folds.

        Args:
            all_rows: Whether the rows of the test part are among the training rows too; nothing is left to test on.
        """
        source = DataSource(self._load, self.describe, None, self._prepare)
        source._validation = Unsplit(all_rows)
        return source

    @property
    def file(self) -> str | os.PathLike[str] | None:
        """The file that it is read from; None where it is none, or `prepare` has not looked for it yet."""
        path: str | os.PathLike[str] | None = getattr(self._load, "path", None)
        return path

    @property
    def function(self) -> Callable[[], Any] | None:
        """The user's loading function; None where it is none."""
        return self._load if inspect.isfunction(self._load) else None

    def prepare(self) -> None:
        """Find out on the driver, before the search, whether the data can be had.

        Raises:
            DataError: If it cannot.
        """
        if self._prepare is not None:
            self._prepare()

    def load(self, seed: int) -> Dataset:
        """The dataset, split with the study's seed; arrays come from memory if this process has loaded them before."""
        key = self._identity, seed
        if key in _ready:
            _ready.move_to_end(key)
            return _ready[key]
        dataset = split(as_dataset(self._load()), self._validation, seed)
        if not dataset.is_streamed:  # a stream that shuffles would go on from where the last trial left it
            _ready[key] = dataset
            if len(_ready) > _MAX_READY:
                _ready.popitem(last=False)
        logger.debug("loaded %s", self.describe)
        return dataset


class _Constant:
    """A dataset that travels with its source."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __call__(self) -> Dataset:
        return self._dataset


class _Weighted:
    """A dataset whose training rows get weights."""

    def __init__(self, load: Callable[[], Any], weight: Any) -> None:
        self._load, self._weight = load, weight

    def __call__(self) -> Dataset:
        dataset = as_dataset(self._load())
        train = dataset.train
        if train.is_stream or len(train) != len(self._weight):
            rows = "a stream" if train.is_stream else f"{len(train)} rows"
            raise DataError(f"sample_weight has {len(self._weight)} entries, but the training part is {rows}.")
        return replace(dataset, train=replace(train, sample_weight=self._weight))


class _File:
    """An ``.npz`` file at a path that driver and workers share."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> Dataset:
        return load_npz(self.path)

    def check(self) -> None:
        check_npz(self.path)


class _Located:
    """MNIST or Fashion-MNIST, wherever it is found."""

    def __init__(self, name: str, path: str | None, folder: str | None) -> None:
        self._name, self.path, self._folder = name, path, folder

    def __call__(self) -> Dataset:
        # A worker's own setting goes before the driver's.
        return load_npz(locate(self._name, self.path, os.environ.get(DATA_FOLDER_VARIABLE) or self._folder))

    def find(self) -> None:
        self.path = str(locate(self._name, self.path, self._folder))
