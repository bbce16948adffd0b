"""Objectives for these tests, which run in trial processes."""

import os
import time

import numpy as np


def climbs(params, context):
    """Some epochs towards ``params["x"]``, from a checkpoint where there is one; each epoch leaves a line in a file."""
    start = context.checkpoint.step if context.checkpoint else 0
    epochs = context.fidelity or 9
    context.last_step = epochs
    for epoch in range(start + 1, epochs + 1):
        if "log" in params:
            with open(params["log"], "a") as file:
                file.write(f"{context.number} {epoch}\n")
        value = params["x"] * epoch / 9
        context.report(epoch, value)
    context.keep_checkpoint(epochs, b"x" * 100)
    return value


def dies(params, context):
    """Reports three epochs, and then ends in the way that it is told to."""
    for epoch in range(1, 4):
        context.report(epoch, epoch / 10)
    if params["how"] == "crash":
        os._exit(3)
    if params["how"] == "hang":
        time.sleep(60)
    if params["how"] == "raise":
        raise ValueError("no more")
    return 1.0


def slow_or_good(params, context):
    """A bad trial of many slow epochs, or good ones that come later and quickly."""
    if params["x"] == 0:
        for epoch in range(1, 200):
            context.report(epoch, 0.1)
            with open(params["log"], "a") as file:
                file.write(f"{epoch} {time.time()}\n")
            time.sleep(0.05)
        return 0.9  # better than the others in the end: it must not be the best
    if params["x"] == 1:
        while not os.path.exists(params["log"]):
            time.sleep(0.02)
    for epoch in range(1, 200):
        context.report(epoch, 0.5)
    return 0.5


def swallows(params, context):
    """Catches whatever is an exception, and goes on."""
    for epoch in range(1, 10):
        try:
            context.report(epoch, params["x"])
        except Exception:
            continue
    return params["x"]


def network(params):
    """A model with everything that has a state: dropout, batch normalisation and Adam."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            keras.layers.Flatten(),
            keras.layers.Dense(12, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(params["rate"]), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def with_own_step(params):
    """The same with a training step of its own."""
    import keras

    class Own(keras.Sequential):
        def train_step(self, data):
            logs = super().train_step(data)
            return {**logs, "doubled": 2 * logs["loss"]}

    return compiled(Own(network(params).layers), params)


def without_graphs(params):
    """A model that runs eagerly, and has no variables before its first batch."""
    import keras

    layers = [keras.layers.Flatten(), keras.layers.Dense(12), keras.layers.Dropout(0.2), keras.layers.Dense(10)]
    return compiled(keras.Sequential([*layers, keras.layers.Softmax()]), params, run_eagerly=True)


def compiled(model, params, **options):
    import keras

    optimizer = keras.optimizers.Adam(params["rate"])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    return model


def grown(params, context):
    """A model that has another unit at each fidelity, so that no checkpoint fits."""
    import keras

    layers = [keras.layers.Flatten(), keras.layers.Dense(10 + context.fidelity), keras.layers.Dense(10)]
    return compiled(keras.Sequential([*layers, keras.layers.Softmax()]), params)


def arrays(content):
    import io

    with np.load(io.BytesIO(content)) as found:
        return [found[name] for name in found.files]
