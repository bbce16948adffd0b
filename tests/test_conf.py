"""The study files in ``conf/``: each is right as it stands, and its models train."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import mnist
from hpo_spark import ProcessExecutor
from hpo_spark.config import read_study_file

CONF = Path(__file__).parents[1] / "conf"
FILES = sorted(CONF.glob("*.yaml"))


@pytest.fixture(autouse=True)
def few_images(tmp_path, monkeypatch):
    """An MNIST of 60 images of noise."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 28, 28), np.uint8), np.tile(np.arange(10, dtype=np.uint8), 6)
    np.savez(tmp_path / "mnist.npz", x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    monkeypatch.setenv("HPO_SPARK_DATA", str(tmp_path))


@pytest.fixture(scope="module")
def pool():
    with ProcessExecutor(1) as executor:
        yield executor


def the_file(name, *overrides):
    return read_study_file(CONF / f"{name}.yaml", overrides)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_study_files_are_right(path):
    study = read_study_file(path).study(None)
    assert study.searcher.name
    assert study.searcher.ask(1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_their_models_train(pool, path):
    """With the first points if the file has some, and others of its space."""
    is_keras = "keras:" in path.read_text()
    file = read_study_file(path, ["searcher=random", *(["objective.epochs=1"] if is_keras else [])])
    result = file.study(None).run(pool, max_trials=3)
    assert result.counts == {"COMPLETED": 3}, result.first_cause()
    assert [trial.params for trial in result.trials][: len(file.model.x0)] == file.model.x0
    assert result.test or file.model.objective.all_rows


def test_the_grid_has_the_tutorials_points(pool):
    file = the_file("mnist_grid")
    searcher = file.study(None).searcher
    points = [proposal.params for proposal in searcher.ask(100)]
    assert searcher.ask(1) == []
    assert sorted((p["hidden_layers"], p["hidden_units"], p["optimizer"], p["learning_rate"]) for p in points) == [
        (layers, units, optimizer, rate)
        for layers in (1, 2, 3)
        for units in (5, 10, 15)
        for optimizer in ("adam", "sgd")
        for rate in (1e-3, 1e-2, 1e-1)
    ]


def test_the_benchmark_tells_the_choice_by_validation_from_the_best_of_all_tests(pool, tmp_path):
    result = the_file("mnist_grid", "objective.epochs=1").study(tmp_path / "run").run(pool, max_trials=6)
    found = mnist.outcome(tmp_path / "run")
    best = result.best_trial
    assert found["validation"] == best.value == max(trial.metrics["val_accuracy"] for trial in result.trials)
    assert found["test"] == pytest.approx(best.metrics["test_accuracy"])
    assert found["best test"] == max(trial.metrics["test_accuracy"] for trial in result.trials)


def test_the_benchmarks_table_says_what_is_below_the_goal():
    search = mnist.SEARCHES["bayes"]
    runs = [{"test": 0.1, "best test": None, "validation": value} for value in (0.90, search.goal, 0.99)]
    assert not mnist.is_missed(search, runs)
    assert mnist.is_missed(search, runs[:2])
    shared = {"trials": 12, "minutes": 1.0, "slot_use": 0.9}
    table = mnist.table({"bayes": {str(seed): {**one, **shared} for seed, one in enumerate(runs)}})
    assert table.row_count == 1
    assert [*table.columns[4].cells] == ["0.9493 (0.9000-0.9900)"]


def test_forests_take_the_place_of_gaussian_processes():
    study = the_file("mnist_bayes_40", "searcher.model=forest").study(None)
    assert study.searcher.name == "bayes"


def test_lower_confidence_bounds_take_the_place_of_expected_improvement():
    study = the_file("mnist_bayes", "searcher.acquisition=LCB").study(None)
    assert study.searcher.name == "bayes"


def test_the_benchmark_has_every_study_file_of_mnist():
    assert {search.file for search in mnist.SEARCHES.values()} == {path.name for path in CONF.glob("mnist*.yaml")}


def test_six_genes_stand_for_a_network_of_scikit_learn():
    objective = the_file("mnist_sklearn_mlp").objective
    genes = {"layer_1": 6.6, "layer_2": 11.2, "layer_3": 0.4, "layer_4": 9.0, "learning_rate_exponent": -2.0}
    assert objective.data.load(0).test is None
    assert len(objective.data.load(0).train) == 80
    for solver, name in ((0.99, "sgd"), (1.0, "adam"), (1.999, "adam")):
        network = objective.estimator({**genes, "solver": solver})
        assert (network.hidden_layer_sizes, network.solver, network.max_iter) == ([7, 11], name, 10)
        assert network.learning_rate_init == pytest.approx(0.01)
