"""What these tests have trials do, in trial processes behind a Spark Connect server."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from hpo_spark.role import n_lost_attempts


def hang(path):
    """Say who this is, and stay."""
    Path(path).write_text(f"{os.getpid()} {os.getppid()}")
    time.sleep(300)


def kill_the_worker(path, n_times):
    """Kill the Spark worker that watches this process, so many times."""
    if n_lost_attempts() < n_times:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(300)
    Path(path).touch()
    return n_lost_attempts()


def reports_and_hangs(params, context):
    for step in range(1, 4):
        context.report(step, step / 10)
    time.sleep(300)


def imported_from(_):
    import hpo_spark

    return hpo_spark.__file__


def maps(params, context):
    x = context.data.train.x
    with open("/proc/self/maps") as mapped:
        files = {line.split()[-1] for line in mapped if line.endswith("train-x.npy\n")}
    return {"value": float(np.asarray(x).sum()), "files": sorted(files)}


def linear(params):
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
    optimizer = keras.optimizers.SGD(params["learning_rate"])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
