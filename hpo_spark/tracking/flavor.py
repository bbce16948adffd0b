"""Writes a ``.keras`` file as a model of MLflow: ``python -m hpo_spark.tracking.flavor FILE FOLDER``."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version


def main(model: str, folder: str) -> None:
    """Load a model and save it in MLflow's form.

    Args:
        model: The file.
        folder: Where to write; must not exist.
    """
    import keras
    import mlflow.keras

    # Said here, since MLflow would find them out by loading the model once more.
    requirements = [f"{package}=={found}" for package in ("keras", "tensorflow") if (found := _version_of(package))]
    mlflow.keras.save_model(keras.models.load_model(model, compile=False), folder, pip_requirements=requirements)


def _version_of(package: str) -> str | None:
    for name in (package, f"{package}-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
