"""What the tests of fused training do inside a trial process."""

import contextlib
from dataclasses import replace

import numpy as np

MLPS = [
    {"hidden_layers": 2, "hidden_units": [7, 3], "learning_rate": 0.01, "l2": 1e-3},
    {"hidden_layers": 0, "optimizer": "sgd", "learning_rate": 0.1},
    {"hidden_layers": 3, "hidden_units": 5, "activation": ["tanh", "sigmoid", "elu"], "optimizer": "rmsprop"},
    {"hidden_units": 4, "optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    {"hidden_units": 9, "optimizer": "sgd", "learning_rate": 0.02, "momentum": 0.5, "activation": "softplus"},
]


def in_trial_process(pool, function, *arguments, **options):
    """Have the trial process of a test do something, and return what comes of it."""
    return pool.submit(function, *arguments, **options).result(timeout=280)


def dataset(kind="classes", weighted=False, rows=260, n_features=6, dtype="uint8", n_empty=0):
    """Rows of six features or more, of which some before the last may be zero in the training part."""
    from hpo_spark.data import Dataset, Part

    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (rows, n_features)).astype("uint8")
    x[:200, n_features - 1 - n_empty : -1] = 0
    total = x[:, :4].sum(axis=1) / 255.0
    y = {
        "classes": (total * 0.999).astype("int64"),
        "shares": np.eye(4)[(total * 0.999).astype("int64")],
        "number": total - 2,
        "numbers": np.stack([total - 2, x[:, 0] / 255.0], axis=1),
    }[kind]
    weight = rng.uniform(0.5, 1.5, rows) if weighted else None
    whole = Part(x, y, weight, 255.0) if dtype == "uint8" else Part((x / 255.0).astype(dtype), y, weight)
    return Dataset(whole.take(slice(0, 200)), whole.take(slice(200, 230)), whole.take(slice(230, None)))


def objective(build_model=None, data=None, **options):
    from hpo_spark import KerasObjective
    from hpo_spark.objectives.mlp import build_model as mlp

    options = {"metric": "val_loss", "epochs": 10, "batch_size": 10, **options}
    return KerasObjective(build_model or mlp, data or dataset(), **options)


def context_of(objective, number, params, **options):
    from hpo_spark import Trial
    from hpo_spark.objectives.context import Context

    fidelity = options.pop("fidelity", None)
    return Context(Trial(number, params, seed=100 + number, fidelity=fidelity), 7, objective.data.load, **options)


@contextlib.contextmanager
def precision(floatx):
    import keras

    before = keras.config.floatx()
    keras.config.set_floatx(floatx)
    try:
        yield
    finally:
        keras.config.set_floatx(before)


def together(objective, members, **options):
    contexts = [context_of(objective, number, params, **options) for number, params in enumerate(members)]
    return objective.evaluate_many([dict(params) for params in members], contexts), contexts


def alone(objective, members, first=0, **options):
    """What the objective makes of each member by itself, counted from ``first``, and what its context has of it."""
    outcomes, contexts = [], []
    for number, params in enumerate(members, first):
        context = context_of(objective, number, params, **options)
        try:
            outcomes.append(objective(dict(params), context))
        except Exception as error:
            outcomes.append(error)
        contexts.append(context)
    return outcomes, contexts


def far(outcome, other):
    """The largest difference between two outcomes, relative to the second's numbers; accuracies as they are."""
    import keras

    assert outcome.keys() == other.keys(), (outcome, other)
    distance = 0.0
    for name, value in other.items():
        if "accuracy" in name and keras.config.floatx() == "float32":
            continue  # a row between two classes may fall to either
        one, two = np.atleast_1d(outcome[name]).astype(float), np.atleast_1d(value).astype(float)
        scale = 1.0 if "accuracy" in name else np.maximum(np.abs(two), 1e-12)
        same = (one == two) | (np.isnan(one) & np.isnan(two))
        distance = max(distance, float(np.max(np.where(same, 0.0, np.abs(one - two) / scale))))
    return distance


def distances(members, floatx, data=None, with_xla=False, **options):
    """For each member how far its outcome together is from that alone, and what its loss came to alone."""
    import keras

    from hpo_spark.fused.program import _kept as programs

    with precision(floatx):
        content = dataset(**(data or {}))
        keras.backend.clear_session()
        outcomes, contexts = together(objective(data=content, jit_compile=with_xla, **options), members)
        refused = [program.is_refused for program in programs.values() if program.form.for_xla]
        assert not with_xla or (refused and not any(refused))
        expected, expected_contexts = alone(objective(data=content, **options), members)
        rows = []
        for one, other, context, its_context in zip(outcomes, expected, contexts, expected_contexts, strict=True):
            curve = far({"curve": [value for _, value in context.curve]}, {"curve": [v for _, v in its_context.curve]})
            rows.append((max(far(one, other), curve), other["loss"], its_context.curve[0][1]))
    return rows


def unsteadiness(number, member, floatx, data=None, **options):
    """How far a member's outcome alone lies from itself, where its inputs have a noise of a millionth of each.

    Args:
        number: Its place in its group, which its seed comes from.
        member: Its params.
        floatx: Precision.
        data: Arguments of `dataset`.
        **options: Of `objective`.
    """
    import keras

    content, rng = dataset(**(data or {})).scaled(), np.random.default_rng(0)

    def outcome(noise):
        parts = (content.train, content.validation, content.test)
        draws = (rng.standard_normal(part.x.shape) for part in parts)
        noisy = [
            replace(part, x=(part.x * (1 + noise * draw)).astype("float32"))
            for part, draw in zip(parts, draws, strict=True)
        ]
        (found,), (context,) = alone(objective(data=type(content)(*noisy), **options), [member], number)
        return {**found, "curve": [value for _, value in context.curve]}

    with precision(floatx):
        keras.backend.clear_session()
        expected = outcome(0.0)
        return max(far(outcome(1e-6), expected) for _ in range(3))


def draws_and_clearings():
    """What an operation with a seed of its own draws, and how often TensorFlow has forgotten its kernels by now."""
    import tensorflow as tf
    from tensorflow.python import pywrap_tfe

    own = pywrap_tfe.TFE_ContextClearCaches
    if not hasattr(own, "count"):

        def counted(handle):
            counted.count += 1
            return own(handle)

        counted.count = 0
        pywrap_tfe.TFE_ContextClearCaches = counted
    return tf.random.uniform((2,), seed=5).numpy().tolist(), pywrap_tfe.TFE_ContextClearCaches.count


def epochs_of_a_group(members):
    together(objective(epochs=1), members)


# --- models of a user's own


def with_normalization(params):
    import keras

    layers = keras.layers
    penalty = keras.regularizers.L2(params["l2"])
    model = keras.Sequential(
        [
            *(keras.Input((6,)), layers.Dense(12, "tanh"), layers.BatchNormalization()),
            *(layers.Dropout(params["dropout"]), layers.Dense(4, "softmax", kernel_regularizer=penalty)),
        ]
    )
    optimizer = keras.optimizers.AdamW(params["rate"], beta_1=params["beta"], weight_decay=params["decay"])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def with_embedding(params):
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            *(keras.Input((6,), dtype="int32"), layers.Embedding(256, 4), layers.GlobalAveragePooling1D()),
            *(layers.Dense(6, "tanh"), layers.Dense(4, "softmax")),
        ]
    )
    optimizer = keras.optimizers.SGD(params["rate"], momentum=params["beta"])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def residual(params):
    import keras

    layers = keras.layers
    inputs = keras.Input((6,))
    hidden = layers.Dense(10)(inputs)
    for _ in range(5):
        penalty = keras.regularizers.L1L2(params["l2"] / 100, params["l2"])
        inner = layers.Dense(10, "relu", kernel_regularizer=penalty)(layers.LayerNormalization()(hidden))
        hidden = layers.Add()([hidden, inner])
    model = keras.Model(inputs, layers.Dense(4, "softmax")(hidden))
    optimizer = keras.optimizers.SGD(params["rate"], params["beta"], nesterov=True, weight_decay=params["decay"])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def convolution(params):
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            *(keras.Input((6,)), layers.Reshape((3, 2, 1)), layers.Conv2D(2, 2, activation="relu")),
            *(layers.Flatten(), layers.Dense(4, "softmax")),
        ]
    )
    model.compile(keras.optimizers.SGD(params["rate"]), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


USERS = [
    {"rate": 0.01, "beta": 0.9, "l2": 1e-3, "dropout": 0.2, "decay": 0.01},
    {"rate": 0.02, "beta": 0.8, "l2": 1e-2, "dropout": 0.4, "decay": 0.1},
    {"rate": 0.004, "beta": 0.5, "l2": 1e-4, "dropout": 0.1, "decay": 0.02},
]
MODELS = {"normalization": with_normalization, "embedding": with_embedding, "residual": residual}


def distances_of_model(name, members, floatx):
    """The same for a user's model; with dropout the members that train alone draw what a stack draws."""
    from hpo_spark.fused import template

    build = MODELS[name]

    def seeded(params):
        model = build(params)
        states = [one for one in model.variables if one.path.endswith("seed_generator_state")]
        for layer, state in enumerate(states):
            state.assign([template.derive_seed(7, template._LAYER_STREAM, layer), 0])
        return model

    with precision(floatx):
        data = dataset(dtype="uint8" if name == "embedding" else floatx)
        if name == "embedding":
            data = dataset_of_numbers(data)
        found = objective(build, data)
        outcomes, _ = together(found, members)
        expected, _ = alone(objective(seeded, data), members)
        return [(far(one, other), other["loss"]) for one, other in zip(outcomes, expected, strict=True)]


def dataset_of_numbers(data):
    from dataclasses import replace

    parts = (replace(part, divisor=None, x=part.x.astype("int32")) for part in (data.train, data.validation, data.test))
    return type(data)(*parts)


def distances_with_dropout(members, floatx, with_xla):
    """For the built-in model: members that train alone drop what a group drops."""
    import keras
    import tensorflow as tf

    from hpo_spark.fused.network import dropout_seeds
    from hpo_spark.objectives import mlp

    class Shared(keras.layers.Dropout):
        seed_of_group = 0

        def build(self, shape):
            self.step = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False)

        def call(self, inputs, training=False):
            if not training:
                return inputs
            n_rows, n_units = tf.shape(inputs)[0], inputs.shape[1]
            seed = tf.stack([tf.constant(self.seed_of_group, tf.int64), self.step.value])
            drawn = tf.transpose(tf.random.stateless_uniform((n_units, n_rows), seed, dtype=inputs.dtype))
            self.step.assign_add(1)
            return tf.where(drawn >= self.rate, inputs / (1 - self.rate), 0.0)

    def build_model(params, context=None):
        seeds = dropout_seeds(7, 8)
        before = keras.layers.Dropout
        keras.layers.Dropout = Shared
        try:
            model = mlp.build_model(params, context)
        finally:
            keras.layers.Dropout = before
        layer = -1
        for one in model.layers:
            if isinstance(one, Shared):
                one.seed_of_group = seeds[layer]
            elif isinstance(one, keras.layers.Dense):
                layer += 1
        return model

    with precision(floatx):
        outcomes, _ = together(objective(jit_compile=with_xla), members)
        expected, _ = alone(objective(build_model), members)
        return [(far(one, other), other["loss"]) for one, other in zip(outcomes, expected, strict=True)]


# --- what becomes of each member


def callbacks_alone_and_together(callbacks, members, build_model=None, **options):
    """How far the outcomes are apart, and the epochs that each took together."""
    outcomes, _ = together(objective(build_model, callbacks=callbacks, epochs=12, **options), members)
    expected, _ = alone(objective(build_model, callbacks=callbacks, epochs=12), members)
    pairs = zip(outcomes, expected, strict=True)
    return [far(one, other) for one, other in pairs], [one["epochs"] for one in outcomes]


def with_troubles(members, pruned, failing):
    """Curves and ends of members of which one is pruned after two epochs, and another cannot report its third."""
    from hpo_spark.errors import TrialPruned

    found = objective(epochs=4)
    contexts = []
    for number, params in enumerate(members):

        def on_report(curve, number=number):
            if number == pruned and len(curve) == 2:
                raise TrialPruned("others are better")
            if number == failing and len(curve) == 3:
                raise OSError("no space left")

        contexts.append(context_of(found, number, params, on_report=on_report))
    outcomes = found.evaluate_many(members, contexts)
    expected, expected_contexts = together(found, members)
    pairs = zip(outcomes, expected, strict=True)
    ends = [type(one).__name__ if isinstance(one, BaseException) else far(one, other) for one, other in pairs]
    curves = [len(context.curve) for context in contexts]
    lengths = [len(context.curve) for context in expected_contexts]
    return ends, curves, contexts[pruned].pruned, lengths


def models_and_checkpoints(build_model, members, **options):
    """How far predictions of kept models and states of checkpoints are from those of models that trained alone."""
    import io
    import tempfile

    import keras

    from hpo_spark.objectives.training import read_state

    found = objective(build_model, **options)
    keeps = {"keeps": lambda values: True, "keeps_checkpoint": True, "fidelity": 5}
    outcomes, contexts = together(found, members, **keeps)
    _, expected = alone(found, members, **keeps)
    distance = []
    for outcome, context, its in zip(outcomes, contexts, expected, strict=True):
        assert context.kept_checkpoint.step == its.kept_checkpoint.step == 5
        states = zip(*(read_state(one.kept_checkpoint.content) for one in (context, its)), strict=True)
        pairs = [(one.astype(float), other.astype(float)) for one, other in states]
        with tempfile.TemporaryDirectory() as folder:
            predictions = []
            for number, content in enumerate((context.model, its.model)):
                path = f"{folder}/{number}.keras"
                io.FileIO(path, "w").write(content)
                model = keras.models.load_model(path)
                part = context.data.test
                predictions.append(model.predict(part.inputs(), verbose=0))
                loss = model.evaluate(part.inputs(), part.y, verbose=0)[0]
                if "test_loss" in outcome:
                    pairs.append((np.array(loss), np.array(outcome["test_loss"])))
        pairs.append(tuple(predictions))
        distance.append(max(float(np.max(np.abs(one - other), initial=0)) for one, other in pairs))
    return distance


def keeps_few(members):
    """Each member's value, and whether its model is made, where one that an earlier beats is not kept."""
    found = objective(epochs=2)
    known = []

    def keeps(values):
        if known and min(known) < values[0]:
            return False
        known.append(values[0])
        return True

    outcomes, contexts = together(found, members, keeps=keeps)
    return [outcome["val_loss"] for outcome in outcomes], [context.model is not None for context in contexts]


def reason_against(build_model, members, **options):
    return str(refusal(build_model, members, **options))


def refusal(build_model, members, **options):
    """Why members are not trained together, as it comes back to those that asked."""
    from hpo_spark.errors import CannotFuse

    try:
        outcomes, _ = together(objective(build_model, **options), members)
    except CannotFuse as error:
        return error
    return outcomes


def mixed(members):
    """How far the first and the last member are from each alone, and ends of the others together and alone."""
    import keras

    def build_model(params):
        if params["depth"] == 0:
            raise ArithmeticError("no layers")
        model = keras.Sequential([keras.Input((6,)), *(keras.layers.Dense(4) for _ in range(int(params["depth"])))])
        bounded = keras.constraints.MaxNorm() if params.get("bounded") else None
        model.add(keras.layers.Dense(4, "softmax", kernel_constraint=bounded))
        if params.get("raw"):
            return model
        model.compile(keras.optimizers.SGD(params["rate"]), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    found = objective(build_model, epochs=2)
    outcomes, _ = together(found, members)
    expected, _ = alone(found, members)
    same = [far(outcomes[number], expected[number]) for number in (0, -1)]
    return same, outcomes[1:-1], expected[1:-1]


def widest_layer(build_model, params):
    from hpo_spark.fused.template import Template

    return Template(build_model(params), dataset().train).widest


def programs_of(*groups, build_model=None):
    """How many loops are compiled for each of some groups, one after the other."""
    from hpo_spark import fused
    from hpo_spark.fused import models, program

    fused.forget_fused_programs()
    counts = []
    for members in groups:
        before = {id(one) for one in [*program._kept.values(), *models._kept.values()]}
        together(objective(build_model, epochs=1), members)
        after = {id(one) for one in [*program._kept.values(), *models._kept.values()]}
        counts.append(len(after - before))
    return counts
