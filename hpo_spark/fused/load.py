"""How much a model computes at a step, and above what training it among others gains nothing.

A small model spends nearly all of its time outside arithmetic, which a group shares. A large one keeps the processor
busy by itself: then a group takes as long as its members one after the other, or longer, since their weights together
do not stay in the processor's caches. Of 72 perceptrons of 20 to 784 inputs, 32 to 256 units and batches of 16 to 256,
with all cores busy, this one number told within a quarter how much groups of four gained.
"""

from __future__ import annotations

from hpo_spark.errors import CannotFuse
from hpo_spark.fused.memory import item_size

__all__ = ["load_of", "tells_gain", "too_large"]

# An optimizer takes as long for a weight as the products of so many rows.
_ROWS_TO_UPDATE = 64
_BYTES_OF_SINGLE = 4


def load_of(n_weights: int, batch_size: int, n_products: int | None = None) -> int:
    """How much there is to do for one member at a step, beside what a group shares.

    Args:
        n_weights: Numbers that it learns.
        batch_size: Rows to a step.
        n_products: Products of a weight and a number for each row on the way forwards; None for one a weight.

    Returns:
        Such products, as many as would take as long in single precision.
    """
    n_forward = n_weights if n_products is None else n_products
    return (n_forward * batch_size + n_weights * _ROWS_TO_UPDATE) * item_size() // _BYTES_OF_SINGLE


def too_large(load: int, most: int) -> CannotFuse | None:
    """Why models are not trained together that are so large that a group gains nothing; None for others.

    Args:
        load: Of one of them at a step.
        most: The largest with which groups gain.
    """
    if load <= most or not tells_gain():
        return None
    return CannotFuse(
        f"a model of this size keeps the processor busy by itself: a step takes as long as {load / 1e6:.1f} "
        f"million products, and nothing is gained above {most / 1e6:.0f} million"
    )


def tells_gain() -> bool:
    """Whether a load tells what a group gains: on TensorFlow without an accelerator, where that was measured."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_logical_devices("GPU")
