"""A Keras model as the content of a file."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["model_bytes"]

logger = logging.getLogger(__name__)


def model_bytes(model: Any) -> bytes | None:
    """The model as a file's content: whole, or its weights where a part of it cannot be saved; None for neither."""
    with tempfile.TemporaryDirectory() as folder:
        for name, save in (("model.keras", model.save), ("model.weights.h5", model.save_weights)):
            try:
                save(Path(folder) / name)
                return (Path(folder) / name).read_bytes()
            except Exception as error:  # a model that cannot be saved is no failed trial
                logger.warning("the model cannot be saved as %s: %s: %s", name, type(error).__name__, error)
    return None
