"""What the tests of gains do inside a trial process."""

import fusings


def too_little_gain(members):
    """Why large models are not trained together where no size tells and no gain suffices."""
    from hpo_spark.fused import gain

    before = gain._MIN_GAIN, gain.tells_gain
    gain._MIN_GAIN, gain.tells_gain = 1e9, lambda: False
    try:
        return fusings.reason_against(None, members, batch_size=100)
    finally:
        gain._MIN_GAIN, gain.tells_gain = before


def n_steps_taken(build_model, members, **options):
    """Why members are not trained together, and how often their stacks were told to take steps."""
    from hpo_spark.fused import models, perceptrons

    n_calls = 0
    kinds = models.KerasModels, perceptrons.Perceptrons
    before = [kind.train for kind in kinds]

    def counted(train):
        def counting(*arguments, **more):
            nonlocal n_calls
            n_calls += 1
            return train(*arguments, **more)

        return counting

    for kind in kinds:
        kind.train = counted(kind.train)
    try:
        found = fusings.refusal(build_model, members, epochs=1, **options)
    finally:
        for kind, train in zip(kinds, before, strict=True):
            kind.train = train
    return (str(found) if isinstance(found, Exception) else None), n_calls


def dense(params, context):
    """Layers as wide as a parameter says."""
    import keras
    from keras import layers

    hidden = [layers.Dense(params["units"], activation="relu") for _ in range(2)]
    model = keras.Sequential([keras.Input(context.data.input_shape), *hidden, layers.Dense(4, activation="softmax")])
    model.compile(keras.optimizers.Adam(params["rate"]), "sparse_categorical_crossentropy")
    return model


def products():
    """Products that a row takes in each of some models, of data whose inputs are 10 steps long."""
    import keras
    from keras import layers

    from hpo_spark.fused.template import _n_products

    steps, words, any_length = keras.Input((10, 20)), keras.Input((10,)), keras.Input((None, 20))
    models = [
        keras.Sequential([steps, layers.Dense(8)]),
        keras.Sequential([steps, layers.Flatten(), layers.Dense(8)]),
        keras.Sequential([words, layers.Embedding(100, 20), layers.SimpleRNN(3), layers.Dense(8)]),
        keras.Sequential([any_length, layers.TimeDistributed(layers.Dense(8)), keras.Sequential([layers.Dense(3)])]),
        keras.Sequential([steps, layers.Bidirectional(layers.SimpleRNN(3))]),
    ]
    return [_n_products(model, (10, 20)) for model in models]


def loads():
    """The load of ten weights and three rows in single and in double precision."""
    from hpo_spark.fused.load import load_of

    found = []
    for floatx in ("float32", "float64"):
        with fusings.precision(floatx):
            found.append(load_of(10, 3))
    return found
