"""How many threads native libraries may start: as many as the task has cores, said before they are first imported."""

from __future__ import annotations

import os

__all__ = ["limit_threads", "thread_settings"]

_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


def thread_settings(cpus: int) -> dict[str, str]:
    """The environment variables that OpenMP, BLAS libraries and TensorFlow read when they load."""
    return dict.fromkeys(_VARIABLES, str(cpus))


def limit_threads(cpus: int) -> None:
    """Set them in this process, for what is not imported yet."""
    os.environ.update(thread_settings(cpus))
