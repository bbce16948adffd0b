"""What there is to do for a trial that trains a model."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_spark.data import Dataset, Part

__all__ = ["Work"]


@dataclass(frozen=True)
class Work:
    """What there is to do for a trial.

    Attributes:
        dataset: What to train and validate on.
        epochs: Passes over its training rows.
        batch_size: Rows to a step, unless there are fewer.
        test: What to evaluate on beside; None for nothing.
    """

    dataset: Dataset
    epochs: int
    batch_size: int
    test: Part | None

    @property
    def n_step_rows(self) -> int:
        """Rows to a step, of data that is no stream."""
        return min(self.batch_size, len(self.dataset.train))
