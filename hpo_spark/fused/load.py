"""How much a model computes at a step, and above what training it among others surely gains nothing.

A small model spends nearly all of its time outside arithmetic, which a group shares. A large one keeps the processor
busy by itself: then a group takes as long as its members one after the other, or longer, since their weights together
do not stay in the processor's caches.
"""

from __future__ import annotations

from hpo_spark.errors import CannotFuse

__all__ = ["load_of", "too_large"]

# An optimizer takes as long for a weight as the products of so many rows.
_ROWS_TO_UPDATE = 64


def load_of(n_weights: int, batch_size: int, n_products: int | None = None) -> int:
    """How much there is to do for one member at a step, beside what a group shares: in products of two numbers.

    Args:
        n_weights: Numbers that it learns.
        batch_size: Rows to a step.
        n_products: For each row on the way forwards; None where each weight is in one.
    """
    return (n_weights if n_products is None else n_products) * batch_size + n_weights * _ROWS_TO_UPDATE


def too_large(load: int, most: int) -> CannotFuse | None:
    """Why models are not trained together that are so large that a group gains nothing; None for others.

    Args:
        load: Of one of them at a step.
        most: With which some have gained.
    """
    if load <= most or not _on_cpu():
        return None
    return CannotFuse(
        f"a model of this size keeps the processor busy by itself: a step takes as long as {load / 1e6:.1f} "
        f"million products, and nothing is gained above {most / 1e6:.0f} million"
    )


def _on_cpu() -> bool:
    """Whether the sizes hold that were measured: those of TensorFlow without an accelerator."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")
