"""Many small models trained as one program.

A small Keras model spends over nine tenths of its training outside arithmetic. Here members of a group, each a trial of
its own, share that: their weights lie in common tensors, and a step is taken for all of them at once.

    evaluate      which trials go together, and what becomes of each: the way in
    lockstep      the epochs of a group: callbacks, pruning and early stopping of each member
    stack         what a group in training can do; there are two kinds
      perceptrons the built-in model, whatever its widths, depths, activations and optimizers
                  (mlp, member, inputs, layout, tensors, storage, network, rules, program)
      stacked     any Keras model, of members that differ in rates and seeds only
                  (template, scalars, matrix, models; vectorized on TensorFlow, mapped on JAX)
    load, gain    whether it is worth while: told from their size, or tried where no size tells
    memory        how many there is room for

The idea is HFTA's (Wang et al. 2021, "Horizontally Fused Training Array", MLSys).
"""

from hpo_spark.fused.evaluate import evaluate_many, fuse_bytes, fuse_key, why_alone
from hpo_spark.fused.models import forget_stacks
from hpo_spark.fused.program import forget_mlp_programs


def forget_fused_programs() -> None:
    """Let go of all compiled loops."""
    forget_mlp_programs()
    forget_stacks()


__all__ = ["evaluate_many", "forget_fused_programs", "fuse_bytes", "fuse_key", "why_alone"]
