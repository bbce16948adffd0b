"""Models and objectives for the tests, which run them in trial processes: no test imports TensorFlow itself."""

import numpy as np


def tiny(params):
    import keras

    model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    model.compile(
        keras.optimizers.Adam(params["learning_rate"]), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def by_shape(params, context):
    import keras

    data = context.data
    layers = [keras.Input(data.input_shape), keras.layers.Flatten(), keras.layers.Dense(data.n_classes, "softmax")]
    model = keras.Sequential(layers)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def probe(params):
    """A linear model without bias that starts at zero: its weights tell what it was trained on, and in which order."""
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(params.get("learning_rate", 0.1)), "mean_squared_error")
    return model


def not_compiled(params):
    import keras

    return keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(10)])


def no_model(params):
    return "a model"


def explodes(params):
    import keras

    model = tiny(params)
    model.compile(keras.optimizers.SGD(float("nan")), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def streams():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x, y = rng.random((96, 8, 8)).astype("float32"), rng.integers(0, 10, 96)
    whole = tf.data.Dataset.from_tensor_slices((x, y))
    return whole.take(64).batch(16), whole.skip(64).take(16).batch(16), whole.skip(80).batch(16)


def describe(params):
    """The structure of the built-in model for params, as plain data."""
    from hpo_spark.objectives.mlp import build_model

    model = build_model(params)
    model.build((None, 8, 8))
    layers = []
    for layer in model.layers:
        config = layer.get_config()
        kind = type(layer).__name__
        if kind == "Dense":
            penalty = config["kernel_regularizer"]
            l2 = float(penalty["config"]["l2"]) if penalty else 0.0
            layers.append((kind, config["units"], config["activation"], round(l2, 6)))
        elif kind == "Dropout":
            layers.append((kind, config["rate"]))
    optimizer = model.optimizer.get_config()
    return layers, {key: optimizer.get(key) for key in ("name", "learning_rate", "momentum", "nesterov")}


def fingerprint(params):
    """What leaks from a trial to the next would show here: names of layers, and draws of Keras' generator."""
    import keras

    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    return {"value": float(np.sum(keras.ops.convert_to_numpy(layer.kernel))), "name": layer.name}


def threads(params):
    import tensorflow as tf

    keras_imported = __import__("keras") is not None
    return {
        "value": 1.0 if keras_imported else 0.0,
        "intra": tf.config.threading.get_intra_op_parallelism_threads(),
        "inter": tf.config.threading.get_inter_op_parallelism_threads(),
    }


def with_own_parts(params):
    """A layer, a loss and a metric that Keras cannot load without being told of them."""
    import keras

    class Doubled(keras.layers.Layer):
        def call(self, inputs):
            return inputs * 2.0

    def own_loss(y_true, y_pred):
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred)

    def own_metric(y_true, y_pred):
        return keras.ops.mean(y_pred, axis=-1)

    layers = [keras.Input((8, 8)), keras.layers.Flatten(), Doubled(), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.01), own_loss, metrics=["accuracy", own_metric])
    return model


def not_savable(params):
    """A subclassed model without ``get_config``."""
    import keras

    class Own(keras.Model):
        def __init__(self, units):
            super().__init__()
            self.flatten = keras.layers.Flatten()
            self.dense = keras.layers.Dense(units, "softmax")

        def call(self, inputs):
            return self.dense(self.flatten(inputs))

    model = Own(10)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def shuffled_streams():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x, y = rng.random((96, 8, 8)).astype("float32"), rng.integers(0, 10, 96)
    whole = tf.data.Dataset.from_tensor_slices((x, y))
    return whole.take(64).shuffle(64).batch(16), whole.skip(64).batch(16)


def counted():
    """Rows that know how often they were loaded in this process; what stays in a user's module is put back."""
    from hpo_spark.objectives import training

    training.n_loaded = getattr(training, "n_loaded", 0) + 1
    rng = np.random.default_rng(0)
    return rng.random((96, 8, 8)).astype("float32"), rng.integers(0, 10, 96)


def loads(params):
    from hpo_spark.objectives import training

    return float(training.n_loaded)
