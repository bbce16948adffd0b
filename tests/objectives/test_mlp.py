import models
import numpy as np
import pytest

from hpo_spark import KerasObjective, ProcessExecutor, Trial, TrialState
from hpo_spark.objectives.evaluate import Evaluation
from hpo_spark.objectives.mlp import build_model


@pytest.fixture(scope="module")
def pool():
    with ProcessExecutor(1) as executor:
        yield executor


OUTPUT = ("Dense", 10, "softmax", 0.0)


@pytest.mark.parametrize(
    ("params", "layers"),
    [
        ({}, [("Dense", 64, "relu", 0.0), OUTPUT]),
        ({"hidden_layers": 0}, [OUTPUT]),
        ({"hidden_layers": 2, "hidden_units": 5}, [("Dense", 5, "relu", 0.0)] * 2 + [OUTPUT]),
        ({"hidden_units": [7, 3]}, [("Dense", 7, "relu", 0.0), ("Dense", 3, "relu", 0.0), OUTPUT]),
        ({"hidden_layers": 1, "hidden_units": [7, 3]}, [("Dense", 7, "relu", 0.0), OUTPUT]),
        (
            {"hidden_layers": 2, "hidden_units": 4, "activation": ["tanh", "elu"], "dropout": [0.0, 0.5]},
            [("Dense", 4, "tanh", 0.0), ("Dense", 4, "elu", 0.0), ("Dropout", 0.5), OUTPUT],
        ),
        (
            {"hidden_units": 4, "dropout": 0.25, "l2": 0.01},
            [("Dense", 4, "relu", 0.01), ("Dropout", 0.25), ("Dense", 10, "softmax", 0.01)],
        ),
        (
            {"hidden_layers": 2, "hidden_units": 4, "hidden_units_2": 9, "activation_1": "tanh"},
            [("Dense", 4, "tanh", 0.0), ("Dense", 9, "relu", 0.0), OUTPUT],
        ),
        ({"hidden_units_1": 4, "hidden_units_2": 9}, [("Dense", 4, "relu", 0.0), ("Dense", 9, "relu", 0.0), OUTPUT]),
        ({"n_classes": 3, "epochs": 5, "batch_size": 8}, [("Dense", 64, "relu", 0.0), ("Dense", 3, "softmax", 0.0)]),
    ],
)
def test_the_structure_follows_the_params(pool, params, layers):
    found, _ = pool.submit(models.describe, params).result(timeout=120)
    assert found == layers


@pytest.mark.parametrize(
    ("params", "optimizer"),
    [
        ({"optimizer": "sgd", "learning_rate": 0.5, "momentum": 0.9, "nesterov": True}, (0.5, 0.9, True)),
        ({"optimizer": "sgd"}, (0.001, 0.0, False)),
        ({"optimizer": "adam", "learning_rate": 0.25, "momentum": 0.9}, (0.25, None, None)),
        ({"optimizer": "rmsprop", "learning_rate": 0.125, "momentum": 0.9}, (0.125, 0.0, None)),
    ],
)
def test_the_optimizer_follows_the_params(pool, params, optimizer):
    _, found = pool.submit(models.describe, params).result(timeout=120)
    assert found.pop("name").lower().replace("_", "").startswith(params["optimizer"])
    rate, momentum, nesterov = found.values()
    assert (pytest.approx(rate), momentum, nesterov) == optimizer


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"hidden_unit": 3}, "no parameter 'hidden_unit'"),
        ({"hidden_layers": -1}, "hidden_layers"),
        ({"hidden_layers": 1.5}, "1.5"),
        ({"hidden_units": 0}, "hidden_units"),
        ({"hidden_layers": 3, "hidden_units": [7, 3]}, "too few for layer 3"),
        ({"hidden_units": [7, 3], "dropout": [0.1]}, "unequal length"),
        ({"dropout": 1.0}, "dropout"),
        ({"l2": "much"}, "'much'"),
        ({"optimizer": "adagrad"}, "'adagrad'"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"activation": "rely"}, "rely"),
    ],
)
def test_impossible_params_are_named(pool, params, words):
    with pytest.raises(ValueError, match=words):
        pool.submit(models.describe, params).result(timeout=120)


@pytest.mark.parametrize("kind", ["classes", "one-hot", "regression", "vectors"])
def test_the_output_follows_the_targets(pool, kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5)).astype("float32")
    classes = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    y = {
        "classes": classes,
        "one-hot": np.eye(3)[classes],
        "regression": x[:, 0] * 2,
        "vectors": np.stack([x[:, 0], x[:, 1] - 1.5], axis=1),
    }[kind]
    metric = "val_accuracy" if kind in ("classes", "one-hot") else "val_loss"
    objective = KerasObjective(build_model, (x, y), epochs=30, metric=metric)
    evaluation = Evaluation(objective, 0, {})
    trial = pool.submit(evaluation, Trial(0, {"learning_rate": 0.01}, 1)).result(timeout=120).trial
    assert trial.state is TrialState.COMPLETED, trial.error
    assert trial.value > 0.85 if metric == "val_accuracy" else trial.value < 0.3
