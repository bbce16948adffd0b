"""What a task may have set for all of Keras in its process, put back before the next task."""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

from hpo_spark.role import is_worker

__all__ = ["forget_models", "reset_keras"]


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
    tensorflow: Any = sys.modules.get("tensorflow")
    if tensorflow is not None and hasattr(tensorflow, "random"):
        tensorflow.config.run_functions_eagerly(False)
        tensorflow.random.set_seed(None)
    forget_models()


def forget_models() -> None:
    """Let go of the models that were built in this process, with their graphs and the names of their layers."""
    keras: Any = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "backend"):
        keras.backend.clear_session()
    # TensorFlow 2.21 registers a gradient for each graph that uses a custom one, as Keras' losses do, and never removes
    # it: with the graphs that hang on it, some 3 MB for each `Model.fit`.
    if is_worker():  # elsewhere another thread may be training
        ops: Any = sys.modules.get("tensorflow.python.framework.ops")
        gradients = getattr(getattr(ops, "gradient_registry", None), "_registry", {})
        for name in [name for name in gradients if name.startswith("CustomGradient-")]:
            del gradients[name]
    gc.collect()


def _users_settings() -> dict[str, Any]:
    """Keras' configuration file, which it reads when it is imported."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    try:
        settings: dict[str, Any] = json.loads((Path(home) / "keras.json").read_text())
    except (OSError, ValueError):
        return {}
    return settings
