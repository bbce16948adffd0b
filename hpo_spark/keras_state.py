"""What a task may have set for all of Keras in its process, put back before the next task."""

from __future__ import annotations

import gc
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hpo_spark.role import is_worker

__all__ = ["forget_models", "reset_keras", "spare_kernels"]


_spares_kernels = False


def spare_kernels() -> None:
    """Say that nothing in the present task can have drawn random numbers that TensorFlow counts.

    Otherwise its kernels are forgotten after each task, since they count what they have drawn; and without its kernel a
    compiled loop takes 0.1 s to begin anew.
    """
    global _spares_kernels
    _spares_kernels = True


def reset_keras() -> None:
    """Forget the models of a task, and what it set for all of Keras; nothing where Keras is not loaded."""
    global _spares_kernels
    spares, _spares_kernels = _spares_kernels, False
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
        context: Any = sys.modules["tensorflow.python.eager.context"]
        spares = spares and context.global_seed() is None
        if not spares:
            tensorflow.random.set_seed(None)
    forget_models(spares)


def forget_models(spares_kernels: bool = False) -> None:
    """Let go of the models that were built in this process, with their graphs and the names of their layers.

    Args:
        spares_kernels: Whether TensorFlow's kernels stay.
    """
    keras: Any = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "backend"):
        context: Any = sys.modules.get("tensorflow.python.eager.context")
        # Keras has TensorFlow forget its kernels too, but not outside of eager mode.
        with context.graph_mode() if spares_kernels and context is not None else nullcontext():
            keras.backend.clear_session(free_memory=False)
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
