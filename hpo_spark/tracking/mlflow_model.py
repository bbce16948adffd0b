"""The best model in MLflow: as one that MLflow loads and registers where its library can, else as a plain file."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from hpo_spark.redaction import redact
from hpo_spark.tracking.base import MODELS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["log_best_model"]

logger = logging.getLogger(__name__)

_DIGEST, _FLAVOR = "hpo_spark.model", "hpo_spark.model_flavor"
_FOLDER = "model"
_PLAIN = "file"
# By the end of a file's name: what MLflow calls such models, and the packages that turn the file into one.
_FLAVORS = {".keras": ("keras", ("keras", "tensorflow")), ".joblib": ("sklearn", ("sklearn", "pandas"))}
# Seconds to import TensorFlow and load a model.
_CONVERSION_S = 300.0


def log_best_model(
    client: MlflowClient, parent: Run, read: Callable[[str], bytes | None], register: str | None
) -> None:
    """Upload the best model to the study's run, unless it is there, and register it, unless it is.

    Args:
        client: Of the server.
        parent: The study's run.
        read: The content of a run folder's file; None where there is none.
        register: Name in the registry; None not to register it.
    """
    name, content = next(((name, content) for name in MODELS if (content := read(name)) is not None), (None, None))
    if name is None or content is None:
        if register is not None:
            logger.warning("tracking: there is no model to register as %r: no trial has left one", register)
        return
    run_id, tags = parent.info.run_id, parent.data.tags
    digest = blake2b(content, digest_size=16).hexdigest()
    flavor = tags.get(_FLAVOR) if tags.get(_DIGEST) == digest else None
    if flavor is None:
        flavor = _upload(client, run_id, name, content)
        client.set_tag(run_id, _FLAVOR, flavor)
        client.set_tag(run_id, _DIGEST, digest)
    if register is None:
        return
    if flavor != _PLAIN:
        _register(client, parent, register, digest)
    else:
        logger.warning(
            "tracking: the best model is not registered as %r, since it is a plain file there: %s", register, _why(name)
        )


def _upload(client: MlflowClient, run_id: str, name: str, content: bytes) -> str:
    """Upload a model; the flavor that it has there, ``"file"`` for none."""
    flavor = next((flavor for suffix, (flavor, _) in _FLAVORS.items() if name.endswith(suffix)), _PLAIN)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name.rpartition("/")[2]
        path.write_bytes(content)
        if _can_convert(name) and _convert(path, Path(folder) / _FOLDER):
            client.log_artifacts(run_id, str(Path(folder) / _FOLDER), _FOLDER)
            return flavor
        client.log_artifact(run_id, str(path), "best")
        return _PLAIN


def _missing(name: str) -> list[str]:
    """The packages that are not installed here and without which MLflow cannot have a model as more than a file."""
    needed = next((needed for suffix, (_, needed) in _FLAVORS.items() if name.endswith(suffix)), ())
    return [package for package in needed if find_spec(package) is None]


def _can_convert(name: str) -> bool:
    return name.endswith(tuple(_FLAVORS)) and not _missing(name)


def _why(name: str) -> str:
    """Why a model is a plain file."""
    if missing := _missing(name):
        return f"its form in MLflow needs {', '.join(missing)} where the search is started"
    return "its form in MLflow could not be made" if name.endswith(tuple(_FLAVORS)) else "Keras could not save it whole"


def _convert(model: Path, target: Path) -> bool:
    """Make MLflow's form of a model, in a process of its own: the driver never imports TensorFlow."""
    command = [sys.executable, "-m", "hpo_spark.tracking.flavor", str(model), str(target)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TF_CPP_MIN_LOG_LEVEL": "2"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", timeout=_CONVERSION_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("tracking: the best model goes to MLflow as a plain file: %s", error)
        return False
    if done.returncode != 0:
        reason = next(iter(reversed(done.stderr.strip().splitlines())), f"exit code {done.returncode}")
        logger.warning("tracking: the best model goes to MLflow as a plain file: %s", redact(reason))
    return done.returncode == 0


def _register(client: MlflowClient, parent: Run, name: str, digest: str) -> None:
    """Make a version of the model in the registry, unless this one is there."""
    from mlflow.exceptions import MlflowException

    run_id = parent.info.run_id
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        if version.name == name and version.tags.get(_DIGEST) == digest:
            return
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{parent.info.artifact_uri}/{_FOLDER}"
    made = client.create_model_version(name, source, run_id, tags={_DIGEST: digest}, await_creation_for=0)
    logger.info("tracking: the best model is version %s of %r", made.version, name)
