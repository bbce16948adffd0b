"""What trials train on."""

from hpo_spark.data.dataset import Dataset, Part
from hpo_spark.data.source import DataSource

__all__ = ["DataSource", "Dataset", "Part"]
