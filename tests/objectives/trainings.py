"""What the tests of training do inside a trial process."""

import numpy as np


def data(rows=200, dtype="float32", n_features=6):
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (rows, n_features)).astype("uint8")
    y = (x.sum(axis=1) > 128 * n_features).astype("int64")
    return (x if dtype == "uint8" else (x / np.float32(255)).astype(dtype)), y


def dataset(dtype="float32", divisor=None):
    from hpo_spark.data import Dataset, Part

    x, y = data(dtype=dtype)
    return Dataset(Part(x[:150], y[:150], divisor=divisor), Part(x[150:], y[150:], divisor=divisor))


def built(optimizer, seed=1, dropout=0.0, activation="relu", loss="sparse_categorical_crossentropy", **options):
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(8, activation), keras.layers.BatchNormalization(), keras.layers.Dropout(dropout)]
    model = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(2, "softmax")])
    model.compile(optimizer(keras.optimizers), loss, metrics=["accuracy"], **options)
    return model


OPTIMIZERS = {
    "SGD": lambda o: o.SGD(0.1),
    "SGD with momentum": lambda o: o.SGD(0.05, momentum=0.8, nesterov=True),
    "Adam": lambda o: o.Adam(0.01, beta_1=0.8, beta_2=0.95),
    "AdamW": lambda o: o.AdamW(0.02, weight_decay=0.1),
    "RMSprop": lambda o: o.RMSprop(0.01, rho=0.8, momentum=0.5, centered=True),
    "Adamax": lambda o: o.Adamax(0.01),
    "Adagrad": lambda o: o.Adagrad(0.1, weight_decay=0.01),
    "Adadelta": lambda o: o.Adadelta(1.0),
    "Lion": lambda o: o.Lion(0.003),
    "a schedule": lambda o: o.SGD(o.schedules.ExponentialDecay(0.2, 4, 0.9)),
    "averages": lambda o: o.Adam(0.01, use_ema=True, clipnorm=0.5),
    "Nadam": lambda o: o.Nadam(0.01),
}


def trained(model, epochs=2, callbacks=(), dataset=dataset, release=True, **plan):
    """State and history of a model after a training as the objective has it."""
    from hpo_spark.objectives.training import Plan, Trainer, state_of

    found = dataset()
    trainer = Trainer(model, found.train)
    trainer.fit(found, Plan(epochs, 32, 7, **plan), callbacks)
    outcome = state_of(trainer.model), trainer.model.history.history
    if release:
        trainer.release()
    return outcome


def trained_by_fit(model, epochs=2):
    """The same by `Model.fit`, an epoch at a time in the documented order."""
    from hpo_spark.objectives.training import batch_order, state_of

    found, history = dataset(), {}
    train, validation = found.train, (found.validation.x, found.validation.y)
    for epoch in range(epochs):
        order = batch_order(150, 7, epoch)
        x, y = train.x[order], train.y[order]
        logs = model.fit(x, y, batch_size=32, shuffle=False, verbose=0, validation_data=validation).history
        for name, values in logs.items():
            history.setdefault(name, []).extend(values)
    return state_of(model), history


def difference(one, other):
    """The largest, relative to 1, between two states with their histories."""
    (states, history), (other_states, other_history) = one, other
    assert history.keys() == other_history.keys()
    pairs = [*zip(states, other_states, strict=True), *((history[name], other_history[name]) for name in history)]
    return max(float(np.max(np.abs(np.subtract(a, b, dtype="float64")), initial=0.0)) for a, b in pairs)


def differences_from_fit():
    return {
        name: difference(trained(built(optimizer, dropout=0.3)), trained_by_fit(built(optimizer, dropout=0.3)))
        for name, optimizer in OPTIMIZERS.items()
        if name in ("AdamW", "RMSprop")
    }


# What takes another way through the rates; the others of Keras' are compared where there is time for it.
SOME = ("SGD with momentum", "AdamW", "RMSprop", "a schedule", "averages", "Nadam")


def reuse(names):
    """For each optimizer, what a trial after another one of its structure differs by from one alone; loops compiled."""
    from hpo_spark.objectives.program import Program
    from hpo_spark.objectives.reuse import forget_programs

    outcome = {}
    build, n_builds = Program.build, []
    Program.build = lambda self, part: n_builds.append(1) or build(self, part)
    try:
        for name in names:
            optimizer = OPTIMIZERS[name]
            forget_programs()
            alone = trained(built(optimizer, seed=2, dropout=0.3))
            forget_programs()
            n_builds.clear()
            other = scaled(optimizer)
            trained(built(other, seed=1, dropout=0.3))
            outcome[name] = difference(trained(built(optimizer, seed=2, dropout=0.3)), alone), len(n_builds)
    finally:
        Program.build = build
        forget_programs()
    return outcome


def scaled(optimizer):
    """The optimizer with other rates."""

    def make(optimizers):
        made = optimizer(optimizers)
        if not callable(made._learning_rate):
            made.learning_rate = 0.5 * float(made.learning_rate.numpy())
        for name in ("momentum", "beta_1", "rho", "weight_decay"):
            if getattr(made, name, None):
                setattr(made, name, 0.5 * getattr(made, name))
        return made

    return make


def kept_after(make):
    """How many programs are kept after a training."""
    from hpo_spark.objectives import reuse

    reuse.forget_programs()
    trained(make(), epochs=1)
    n_kept = len(reuse._kept)
    reuse.forget_programs()
    return n_kept


def adam(optimizers):
    return optimizers.Adam(0.01)


def with_own_activation():
    import keras

    def relu(x):
        return keras.ops.tanh(x)

    return built(adam, activation=relu)


def with_own_loss():
    import keras

    def sparse_categorical_crossentropy(y, p):
        return 2 * keras.losses.sparse_categorical_crossentropy(y, p)

    return built(adam, loss=sparse_categorical_crossentropy)


def with_own_layer():
    import keras

    class Dense(keras.layers.Dense):
        def call(self, inputs, training=None):
            return 2 * super().call(inputs, training=training)

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), Dense(4, "relu"), keras.layers.Dense(2, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def with_a_lambda():
    import keras

    keras.utils.set_random_seed(1)
    layers = [keras.layers.Lambda(lambda x: 3 * x), keras.layers.Dense(2, "softmax")]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def with_own_step():
    import keras

    class Own(keras.Sequential):
        def train_step(self, data):
            logs = super().train_step(data)
            return {**logs, "doubled": 2 * logs["loss"]}

    keras.utils.set_random_seed(1)
    model = Own([keras.Input((6,)), keras.layers.Dense(2, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def without_input():
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(2, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def functional():
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    x = keras.layers.LSTM(3)(keras.layers.Reshape((3, 2))(inputs * 2.0))
    model = keras.Model(inputs, keras.layers.Dense(2, "softmax")(x))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    return model


def jitted():
    return built(adam, jit_compile=True)


SHARED = {"without input": without_input, "functional": functional}
NOT_SHARED = {
    "own activation": with_own_activation,
    "own loss": with_own_loss,
    "own layer": with_own_layer,
    "lambda": with_a_lambda,
    "own step": with_own_step,
}


def kept():
    return {name: kept_after(make) for name, make in {**SHARED, **NOT_SHARED}.items()}


def other_models():
    """The same for models that are built or compiled in other ways."""
    makes = (functional, jitted, with_own_step, with_own_layer)
    return {make.__name__: difference(trained(make()), trained_by_fit(make())) for make in makes}


def going_on():
    """One run of four epochs against two and two, from the state that was taken between."""
    from hpo_spark.objectives.training import Plan, Trainer, state_of

    whole = trained(built(adam, dropout=0.3), epochs=4)
    state, first = trained(built(adam, dropout=0.3), epochs=2)
    found = dataset()
    trainer = Trainer(built(adam, seed=9, dropout=0.3), found.train)
    trainer.load_state(state)
    trainer.fit(found, Plan(4, 32, 7, first_epoch=2))
    second = trainer.model.history.history
    history = {name: first[name] + second[name] for name in first}
    return difference(whole, (state_of(trainer.model), history))


def bytes_and_floats():
    as_bytes = trained(built(adam), dataset=lambda: dataset("uint8", 255.0))
    by_keras = trained(built(adam, run_eagerly=True), dataset=lambda: dataset("uint8", 255.0))
    as_floats = trained(built(adam))
    return difference(as_bytes, as_floats), difference(by_keras, as_floats)


def other_arrays():
    """Double precision, arrays that can only be read, and rows with gaps between, against plain ones."""
    from hpo_spark.data import Dataset, Part

    plain = dataset()
    read_only = plain.train.x.copy()
    read_only.flags.writeable = False
    gaps = np.repeat(plain.train.x, 2, axis=1)[:, ::2]
    expected = trained(built(adam))
    return [
        difference(
            trained(built(adam), dataset=lambda x=x: Dataset(Part(x, plain.train.y), plain.validation)), expected
        )
        for x in (plain.train.x.astype("float64"), read_only, gaps)
    ]


def heard(at_each_batch):
    """What callbacks hear of a training of two epochs."""
    import keras

    events = []

    class Listener(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            events.append(("train begins", dict(self.params)))

        def on_epoch_begin(self, epoch, logs=None):
            events.append(("epoch begins", epoch))

        def on_epoch_end(self, epoch, logs=None):
            events.append(("epoch ends", epoch, sorted(logs)))

        def on_test_begin(self, logs=None):
            events.append(("test begins",))

        def on_train_end(self, logs=None):
            events.append(("train ends", sorted(logs)))

    class BatchListener(Listener):
        def on_train_batch_end(self, batch, logs=None):
            events.append(("batch ends", batch, sorted(logs)))

    heard_here, heard_by_fit = [], []
    for heard_so_far, run in ((heard_here, False), (heard_by_fit, True)):
        events.clear()
        listener = BatchListener() if at_each_batch else Listener()
        model, found = built(adam), dataset()
        if run:
            validation = (found.validation.x, found.validation.y)
            options = {"batch_size": 32, "epochs": 2, "verbose": 0, "validation_data": validation}
            model.fit(found.train.x, found.train.y, callbacks=[listener], **options)
        else:
            trained(model, epochs=2, callbacks=[listener])
        heard_so_far += events
    return heard_here, heard_by_fit


def meddling():
    """Whether a callback that changes its model leaves it to the next trial."""
    import keras

    from hpo_spark.objectives import reuse

    class Meddler(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.layers[0].trainable = False

    reuse.forget_programs()
    trained(built(adam), callbacks=[Meddler()])
    return len(reuse._kept)
