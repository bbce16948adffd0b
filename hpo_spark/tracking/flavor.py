"""Writes a ``.keras`` or ``.joblib`` file as a model of MLflow: ``python -m hpo_spark.tracking.flavor FILE FOLDER``."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version


def main(model: str, folder: str) -> None:
    """Load a model and save it in MLflow's form.

    Args:
        model: The file.
        folder: Where to write; must not exist.
    """
    if model.endswith(".joblib"):
        _save_sklearn(model, folder)
    else:
        _save_keras(model, folder)


def _save_keras(model: str, folder: str) -> None:
    import keras
    import mlflow.keras

    loaded = keras.models.load_model(model, compile=False)
    mlflow.keras.save_model(loaded, folder, pip_requirements=_requirements("keras", "tensorflow"))


def _save_sklearn(model: str, folder: str) -> None:
    import joblib
    import mlflow.sklearn

    mlflow.sklearn.save_model(
        joblib.load(model), folder, serialization_format="cloudpickle",
        pip_requirements=_requirements("scikit-learn", "numpy", "cloudpickle"),
    )  # fmt: skip


def _requirements(*packages: str) -> list[str]:
    """Said here, since MLflow would find them out by loading the model once more."""
    return [f"{package}=={found}" for package in packages if (found := _version_of(package))]


def _version_of(package: str) -> str | None:
    for name in (package, f"{package}-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
