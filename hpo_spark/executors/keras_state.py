"""What a task may have set for all of Keras in its process, put back before the next task."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["reset_keras"]


def reset_keras() -> None:
    """Forget the models of a task, and what it set for all of Keras; nothing where Keras is not loaded."""
    keras: Any = sys.modules.get("keras")
    if keras is None or not hasattr(keras, "config"):  # or half imported
        return
    config, own = keras.config, _users_settings()
    config.set_floatx(own.get("floatx", "float32"))
    config.set_epsilon(own.get("epsilon", 1e-7))
    config.set_image_data_format(own.get("image_data_format", "channels_last"))
    if config.dtype_policy().name != config.floatx():
        config.set_dtype_policy(config.floatx())
    config.enable_traceback_filtering()
    keras.backend.clear_session()
    tensorflow: Any = sys.modules.get("tensorflow")
    if tensorflow is not None and hasattr(tensorflow, "random"):
        tensorflow.config.run_functions_eagerly(False)
        tensorflow.random.set_seed(None)


def _users_settings() -> dict[str, Any]:
    """Keras' configuration file, which it reads when it is imported."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    try:
        settings: dict[str, Any] = json.loads((Path(home) / "keras.json").read_text())
    except (OSError, ValueError):
        return {}
    return settings
