"""A dataset as an objective sees it: train, validation and test parts, split once for all trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpo_spark.errors import DataError

__all__ = ["Dataset", "Part", "Unsplit", "Validation", "as_dataset", "parse_validation", "split"]

# Tells the generator of the split from others that are seeded with the study's seed.
_SPLIT_STREAM = 0x5B11


@dataclass(frozen=True)
class Part:
    """Some rows of a dataset.

    Attributes:
        x: Array of inputs, rows first; or a ``tf.data.Dataset`` of batches, which is used as it comes. Trials share
            the arrays and can only read them: copy one to change it.
        y: Array of targets, as many rows; None for a ``tf.data.Dataset``, which holds them itself.
        sample_weight: Array of weights, one a row; None for equal weights.
        divisor: What inputs are divided by when a batch of them becomes floating numbers, such as 255 for images that
            are kept as bytes, a quarter of the memory; None for inputs that are used as they are.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None
    divisor: float | None = None

    @property
    def is_stream(self) -> bool:
        """Whether this is a ``tf.data.Dataset`` rather than arrays."""
        return self.y is None

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Any) -> Part:
        """Some rows of it."""
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        return Part(self.x[rows], self.y[rows], weight, self.divisor)

    def inputs(self, rows: Any = slice(None)) -> Any:
        """Inputs as a model takes them: some rows of ``x``, as float32 where there is a divisor."""
        x = self.x[rows]
        return x if self.divisor is None else x.astype(np.float32) / np.float32(self.divisor)

    def scaled(self) -> Part:
        """The same with ``x`` as a model takes it, and no divisor."""
        return self if self.divisor is None else Part(self.inputs(), self.y, self.sample_weight)

    def read_only(self) -> Part:
        """The same memory, to be read only."""
        if self.is_stream:
            return self
        x, y, weight = map(_read_only, (self.x, self.y, self.sample_weight))
        return Part(x, y, weight, self.divisor)

    def joined(self, other: Part) -> Part:
        """Its rows and those of another part.

        Raises:
            DataError: If only one of them is a stream.
        """
        if self.is_stream != other.is_stream:
            raise DataError("A tf.data.Dataset and arrays cannot be put together.")
        if self.is_stream:
            return Part(self.x.concatenate(other.x))
        if self.divisor != other.divisor:
            return self.scaled().joined(other.scaled())
        weights = [part.sample_weight for part in (self, other)]
        if any(weight is not None for weight in weights):
            parts = zip((self, other), weights, strict=True)
            weights = [np.ones(len(part)) if weight is None else weight for part, weight in parts]
        weight = None if weights[0] is None else np.concatenate(weights)
        return Part(np.concatenate([self.x, other.x]), np.concatenate([self.y, other.y]), weight, self.divisor)


@dataclass(frozen=True)
class Dataset:
    """What trials train on, what they are compared by, and what the best one is judged by at the end.

    Attributes:
        train: Rows to fit.
        validation: Rows that the selection metric comes from; None before the split.
        test: Rows that only the best trial sees, once; None where there are none.
    """

    train: Part
    validation: Part | None = None
    test: Part | None = None

    @classmethod
    def from_spark(
        cls,
        frame: Any,
        features: str | Sequence[str] | None = None,
        label: str = "label",
        *,
        weight: str | None = None,
        test: Any = None,
        max_mb: float | None = None,
    ) -> Dataset:
        """Collect a Spark DataFrame: its rows are split, placed and trained on as arrays are.

        Columns may hold numbers, arrays of them, vectors of ``pyspark.ml``, or Spark's images. One feature column keeps
        its shape, as images do; several are put side by side into a matrix. Columns of double become float32; labels
        of a whole-number type are class numbers, all others are targets of a regression.

        Args:
            frame: The DataFrame. It is computed twice, first for its size.
            features: Names of the feature columns, in the order of the model's inputs; None for all other columns.
            label: Name of the label's column.
            weight: Name of the column of sample weights; None for equal weights.
            test: A DataFrame of the same columns for the test part.
            max_mb: How much data may come to the driver, in MB of 10^6 bytes; None for 2,000. Larger data is better
                read by the executors, from ``{"parquet": path}``.

        Raises:
            DataError: If there is too much, or a column cannot become an array.
        """
        from hpo_spark.data.spark import collect

        return collect(frame, features, label, weight, test, max_mb)

    def arrays(self) -> list[Any]:
        """All arrays of all parts."""
        parts = [part for part in (self.train, self.validation, self.test) if part is not None]
        return [array for part in parts for array in (part.x, part.y, part.sample_weight) if array is not None]

    def scaled(self) -> Dataset:
        """The same with all inputs as a model takes them."""
        return self._map(lambda part: part.scaled())

    def read_only(self) -> Dataset:
        """The same memory, to be read only: what one trial wrote into it the next would find."""
        return self._map(lambda part: part.read_only())

    def _map(self, change: Callable[[Part], Part]) -> Dataset:
        parts = (self.train, self.validation, self.test)
        train, *others = (None if part is None else change(part) for part in parts)
        assert train is not None
        return Dataset(train, *others)

    def without_validation(self) -> Dataset:
        """The same rows, with the validation part among those to fit."""
        train = self.train if self.validation is None else self.train.joined(self.validation)
        return Dataset(train, None, self.test)

    def without_test(self) -> Dataset:
        """The same rows, with the test part among those to fit."""
        train = self.train if self.test is None else self.train.joined(self.test)
        return Dataset(train, self.validation)

    @property
    def is_streamed(self) -> bool:
        """Whether any part is a ``tf.data.Dataset``."""
        return any(part is not None and part.is_stream for part in (self.train, self.validation, self.test))

    @property
    def input_shape(self) -> Any:
        """Shape of one input, without the batch; for a stream of several inputs a mapping of their shapes."""
        if not self.train.is_stream:
            return tuple(self.train.x.shape[1:])
        spec = self.train.x.element_spec
        spec = spec[0] if isinstance(spec, tuple) else spec
        if isinstance(spec, Mapping):
            return {name: tuple(one.shape[1:]) for name, one in spec.items()}
        return tuple(spec.shape[1:])

    @property
    def n_classes(self) -> int | None:
        """Number of classes where targets are class numbers or one-hot rows; None for other targets and streams."""
        if self.is_streamed:
            return None
        parts = (
            [self.train] if self.validation is None else [self.train, self.validation]
        )  # the test part is for the end
        y = self.train.y
        if y.ndim == 2 and y.shape[1] > 1 and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all():
            return int(y.shape[1])
        if np.issubdtype(y.dtype, np.integer) or y.dtype == bool:
            return int(max(part.y.max() for part in parts)) + 1
        return None


@dataclass(frozen=True)
class Validation:
    """Which share of the training rows becomes the validation part: the last ones, or some drawn with the seed."""

    share: float
    last: bool = False


@dataclass(frozen=True)
class Unsplit:
    """No row is a validation part, since the objective cuts folds: of the training rows, or of all rows."""

    all_rows: bool = False


def parse_validation(text: float | str | None) -> Validation | None:
    """Read ``0.15`` or ``"last 0.15"``.

    Raises:
        DataError: If it is neither, or the share is not between 0 and 1.
    """
    if text is None:
        return None
    words = str(text).split()
    try:
        last = words[0] == "last"
        share = float(words[1] if last else words[0])
        if len(words) != 1 + last or not 0 < share < 1 or isinstance(text, bool):
            raise ValueError
    except (ValueError, IndexError):
        raise DataError(f"validation must be a share such as 0.15, or 'last 0.15', got {text!r}.") from None
    return Validation(share, last)


def split(dataset: Dataset, validation: Validation | Unsplit | None, seed: int) -> Dataset:
    """Cut the validation part from the training rows, unless the dataset brings its own.

    Args:
        dataset: What to split.
        validation: Which rows to cut off; None for a share of 0.15, or the part that the dataset has. `Unsplit` joins
            that to the training rows.
        seed: The study's seed.

    Raises:
        DataError: If the dataset has a validation part and ``validation`` asks for another one, or if there is nothing
            to cut it from.
    """
    if isinstance(validation, Unsplit):
        if dataset.is_streamed:
            raise DataError("A tf.data.Dataset cannot be cut into folds: return arrays from the loading function.")
        whole = dataset.without_validation()
        return whole.without_test() if validation.all_rows else whole
    if dataset.validation is not None:
        if validation is not None:
            raise DataError("The data brings a validation part of its own; leave the option 'validation' out.")
        return dataset
    if dataset.train.is_stream:
        raise DataError(
            "A tf.data.Dataset cannot be split: return train and validation parts from the loading function."
        )
    rule = validation or Validation(0.15)
    n_rows = len(dataset.train)
    n_kept = int(n_rows * (1 - rule.share))
    if not 0 < n_kept < n_rows:
        raise DataError(f"{n_rows} training rows cannot be split with a validation share of {rule.share}.")
    order = np.arange(n_rows)
    if not rule.last:
        order = np.random.default_rng([seed, _SPLIT_STREAM]).permutation(n_rows)
    kept, cut = np.sort(order[:n_kept]), np.sort(order[n_kept:])
    return Dataset(dataset.train.take(kept), dataset.train.take(cut), dataset.test)


_PART_NAMES = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


def as_dataset(raw: Any) -> Dataset:
    """Understand what a loading function returned or a user passed.

    Args:
        raw: ``(x, y)``, ``(x, y, sample_weight)``, ``((x, y), (x, y))`` for train and test as Keras gives them, two
            ``tf.data.Dataset`` for train and validation, three pairs or datasets for train, validation and test, a
            mapping of ``train``, ``validation`` and ``test`` to these, or a mapping of ``x_train``, ``y_train``,
            ``w_train`` and so on (or ``x``, ``y``, ``w``).

    Raises:
        DataError: If it is none of these.
    """
    if isinstance(raw, Dataset):
        return raw
    if isinstance(raw, Mapping):
        return _from_mapping(raw)
    if _is_stream(raw):
        return Dataset(_part(raw))
    if isinstance(raw, Sequence) and not isinstance(raw, str):
        if 2 <= len(raw) <= 3 and all(_is_stream(item) or isinstance(item, tuple | Part) for item in raw):
            train, *others = (_part(item) for item in raw)
            if len(others) == 2:
                return Dataset(train, *others)
            return Dataset(train, validation=others[0]) if train.is_stream else Dataset(train, test=others[0])
        if 2 <= len(raw) <= 3:
            return Dataset(_part(raw))
    raise DataError(
        "Data must be (x, y), ((x_train, y_train), (x_test, y_test)), three such pairs, a mapping with x_train and "
        f"y_train or with train, or a tf.data.Dataset; got {type(raw).__name__}."
    )


def _from_mapping(raw: Mapping[str, Any]) -> Dataset:
    parts: dict[str, Part] = {}
    for name, target in _PART_NAMES.items():
        if name in raw:
            parts[target] = _part(raw[name])
        elif f"x_{name}" in raw and f"y_{name}" in raw:
            parts[target] = _part((raw[f"x_{name}"], raw[f"y_{name}"], raw.get(f"w_{name}")))
    if "train" not in parts and "x" in raw and "y" in raw:
        parts["train"] = _part((raw["x"], raw["y"], raw.get("w")))
    if "train" not in parts:
        raise DataError(f"Expected arrays named x_train and y_train (or x and y), found {sorted(raw)}.")
    return Dataset(**parts)


def _read_only(array: Any) -> Any:
    """A view that cannot be made writable again, as numpy's own can."""
    return None if array is None else np.asarray(memoryview(array).toreadonly())


def _is_numeric(array: Any) -> bool:
    return array.dtype.kind in "biuf"


def _is_stream(value: Any) -> bool:
    return hasattr(value, "element_spec")


def _part(raw: Any) -> Part:
    if isinstance(raw, Part):
        return raw
    if _is_stream(raw):
        return Part(raw)
    if not isinstance(raw, Sequence) or len(raw) not in (2, 3):
        raise DataError(f"A part of the data must be (x, y) or (x, y, sample_weight), got {type(raw).__name__}.")
    try:
        arrays = [None if array is None else np.asarray(array) for array in raw]
    except ValueError as error:
        raise DataError(f"x and y must be arrays of numbers with one row a sample: {error}") from None
    x, y, weight = (*arrays, None)[:3]
    if x is None or y is None or x.ndim == 0 or y.ndim == 0 or not _is_numeric(x) or not _is_numeric(y):
        raise DataError(
            "x and y must be arrays of numbers with one row a sample; encode text and categories as numbers."
        )
    if len(x) != len(y) or (weight is not None and len(weight) != len(x)):
        sizes = [len(array) for array in (x, y, weight) if array is not None]
        raise DataError(f"x, y and sample weights must have as many rows, got {sizes}.")
    return Part(x, y.reshape(-1) if y.ndim == 2 and y.shape[1] == 1 else y, weight)
