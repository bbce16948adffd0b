import io
import json

import numpy as np
import pytest
from rich.console import Console

from hpo_spark import ConfigError, KerasObjective, SerialExecutor
from hpo_spark.config import read_study_file
from hpo_spark.results.tables import summary

MINIMAL = """\
space:
  x: {float: [-1.0, 1.0]}
objective:
  function: my_objective.py:score
"""


@pytest.fixture
def write(tmp_path):
    (tmp_path / "my_objective.py").write_text("def score(params):\n    return params['x'] ** 2\nnumber = 3\n")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(5)\n")
    np.savez(tmp_path / "empty.npz", a=np.zeros(3))
    (tmp_path / "my_data.py").write_text("import numpy as np\ndef load():\n    return np.zeros((9, 2)), np.zeros(9)\n")

    def write(text, name="study.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_all_but_space_and_objective_have_defaults(write, monkeypatch, tmp_path):
    monkeypatch.chdir("/")  # files are found beside the study file
    file = read_study_file(write(MINIMAL))
    study = file.study(None)
    assert (study.name, study.directions, file.model.executor, study.searcher.name) == (
        "study",
        ("maximize",),
        "spark",
        "evolution",
    )
    with SerialExecutor() as executor:
        result = study.run(executor, **vars(file.limits))
    assert len(result.trials) == 60
    assert result.best_trial.value > 0.9


def test_the_shape_of_the_design_is_read(write):
    text = """\
study:
  name: mnist-mlp
  direction: maximize
  seed: 7
  max_trials: 60
  max_epochs: null
  timeout_s: null
  target: null
  patience: null
  max_failures: null
  deterministic: false
space:
  learning_rate: {float: [1.0e-4, 1e-1], log: true}
  hidden_layers: {int: [1, 3]}
  optimizer: {choice: [sgd, adam]}
  momentum: {float: [0.0, 0.99], when: {optimizer: sgd}}
fixed: {hidden_units: 15}
x0: [{learning_rate: 0.01, hidden_layers: 1, optimizer: adam}]
searcher: {name: genetic, population: 6}
objective:
  keras: hpo_spark.objectives.mlp:build_model
  data: digits
  epochs: 10
  batch_size: 32
  metric: val_accuracy
  validation: last 0.15
pruner: null
fidelity: null
confirm: null
executor: processes
resources: {cpus: 1, gpus: 0, memory_mb: null, timeout_s: null}
fuse: auto
tracking: []
"""
    file = read_study_file(write(text), ["searcher.population=20", "study.max_trials=5", "fixed.dropout=1e-1"])
    study = file.study(None)
    assert study.fixed == {"hidden_units": 15, "dropout": 0.1}
    assert file.model.searcher["population"] == 20
    assert file.limits.max_trials == 5
    assert isinstance(file.objective, KerasObjective)
    assert study.space.names == ["learning_rate", "hidden_layers", "optimizer", "momentum"]


def test_the_resolved_file_runs_again_elsewhere(write, tmp_path, monkeypatch):
    out = tmp_path / "runs" / "one"
    path = write(MINIMAL + "  data: my_data.py:load\n" + "study: {max_trials: 4}\n")

    def run(path, out):
        file = read_study_file(path)
        with SerialExecutor() as executor:
            return file.study(out).run(executor, **vars(file.limits))

    first = run(path, out)
    monkeypatch.chdir("/")
    again = run(out / "study.yaml", None)
    assert [trial.params for trial in again.trials] == [trial.params for trial in first.trials]
    assert [trial.seed for trial in again.trials] == [trial.seed for trial in first.trials]


def test_a_short_searcher_can_be_overridden(write):
    file = read_study_file(write(MINIMAL + "searcher: genetic\n"), ["searcher.population=8"])
    assert file.model.searcher == {"name": "genetic", "population": 8}
    study = read_study_file(write(MINIMAL), ["searcher.population=8"]).study(None)
    assert study.searcher.name == "evolution"


@pytest.mark.parametrize(("metric", "direction"), [("val_loss", "minimize"), ("val_accuracy", "maximize")])
def test_the_metric_tells_the_direction(write, metric, direction):
    text = (
        "space: {hidden_units: {int: [1, 2]}}\n"
        + "objective: {keras: 'hpo_spark.objectives.mlp:build_model', data: digits"
    )
    assert read_study_file(write(f"{text}, metric: {metric}}}\n")).study(None).directions == (direction,)


KERAS = """\
space:
  learning_rate: {float: [0.1, 1.0]}
objective:
  keras: hpo_spark.objectives.mlp:build_model
  data: digits
"""


def replaced(old, new):
    assert old in MINIMAL
    return MINIMAL.replace(old, new)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MINIMAL + "studdy: {}\n", ["line 5", "studdy", "unknown key", "Did you mean 'study'"]),
        (MINIMAL + "study:\n  max_trial: 3\n", ["line 6", "study.max_trial", "Did you mean 'max_trials'"]),
        (MINIMAL + "study: {max_trials: many}\n", ["line 5", "study.max_trials", "integer", "'many'"]),
        (MINIMAL + "study: {max_trials: 0}\n", ["study.max_trials", "greater than 0", "got 0"]),
        (MINIMAL + "study: {max_trials: '3'}\n", ["study.max_trials", "'3'"]),
        (MINIMAL + "study: {seed: -1}\n", ["study.seed", "-1"]),
        (MINIMAL + "study: {direction: up}\n", ["study.direction", "'minimize' or 'maximize'", "'up'"]),
        (MINIMAL + "executor: yarn\n", ["executor", "'spark', 'connect', 'processes' or 'serial'", "'yarn'"]),
        (MINIMAL + "searcher: genetics\n", ["line 5", "searcher", "Did you mean 'genetic'"]),
        (MINIMAL + "searcher: {name: genetic, popul: 3}\n", ["searcher", "'popul'", "population"]),
        (MINIMAL + "searcher: {name: genetic, population: 0}\n", ["searcher", "population=0"]),
        (MINIMAL + "x0: [{x: 0.5}, {x: 3}]\n", ["line 5", "x0.1", "'x'", "3"]),
        (MINIMAL + "x0: [{params: {x: 0.5}, value: high}]\n", ["line 5", "x0.0", "finite number", "'high'"]),
        (MINIMAL + "warm_start: runs/none\n", ["line 5", "warm_start", "journal.jsonl", "runs/none"]),
        (MINIMAL + "study: {deterministic: true, timeout_s: 5.0}\n", ["line 5", "study.timeout_s", "clock"]),
        (MINIMAL + "study: {deterministic: true}\nresources: {timeout_s: 5.0}\n", ["resources.timeout_s", "clock"]),
        (MINIMAL + "study: {lookahead: 4}\n", ["line 5", "study.lookahead", "deterministic: true"]),
        (MINIMAL + "fixed: {x: 3}\n", ["fixed", "'x'"]),
        (MINIMAL + "study: {direction: []}\n", ["study.direction"]),
        (MINIMAL + "fixed: &a {b: *a}\n", ["alias"]),
        (MINIMAL + "? [a, b]\n: 1\n", ["line 5", "key"]),
        (MINIMAL + "fuse: on\n", ["line 5", "fuse", "'auto' or 'off'"]),
        (MINIMAL + "tracking: [wandb]\n", ["tracking", "no tracker 'wandb'"]),
        (MINIMAL + "searcher: {name: genetic, toolbox: 5}\n", ["searcher", "toolbox=5"]),
        (MINIMAL + "searcher: {name: genetic, eta: .nan}\n", ["searcher", "eta=nan"]),
        (MINIMAL + "  data: missing.npz\n", ["line 5", "objective.data", "missing.npz"]),
        (MINIMAL + "  data: empty.npz\n", ["line 5", "objective.data", "x_train"]),
        (KERAS + "  metric: accuracy\n", ["objective", "validation part", "'accuracy'"]),
        (KERAS + "  metric: []\n", ["objective", "metric"]),
        (
            KERAS + "  metric: [val_loss, val_accuracy]\nstudy: {direction: minimize}\n",
            ["objective.metric", "2 metric"],
        ),
        (KERAS + "fixed: {lr: 3}\n", ["objective", "no parameter 'lr'"]),
        (replaced("[-1.0, 1.0]}", "[0, 1], step: 1.0e-320}"), ["line 2", "step=1e-320"]),
        (replaced("float: [-1.0, 1.0]", "int: [1, 1" + "0" * 400 + "]"), ["line 2", "2**50"]),
        (replaced("my_objective.py", "exits.py"), ["line 4", "SystemExit"]),
        (MINIMAL + "  epochs: 3\n", ["line 5", "objective.epochs", "keras"]),
        (MINIMAL + "  test_every_trial: true\n", ["line 5", "objective.test_every_trial", "keras"]),
        (KERAS + "  test_every_trial: yes please\n", ["line 6", "objective.test_every_trial", "boolean"]),
        (MINIMAL + "  data: mnits\n", ["line 5", "objective.data", "mnits", "digits"]),
        (MINIMAL + "  data: digits\n  validation: 2.0\n", ["objective", "validation", "2.0"]),
        (MINIMAL + "  keras: a:b\n", ["line 3", "exactly one", "keras", "function"]),
        (MINIMAL + "resources: {cpus: 0}\n", ["resources.cpus", "0"]),
        (replaced("[-1.0, 1.0]", "[1.0, -1.0]"), ["line 2", "space.x", "low=1.0", "high=-1.0"]),
        (replaced("x: {float: [-1.0, 1.0]}", "x: {flot: [1, 2]}"), ["line 2", "space.x", "exactly one"]),
        (replaced("[-1.0, 1.0]}", "[-1.0, 1.0], when: {y: 1}}"), ["line 2", "names no parameter"]),
        (replaced("  x: ", "  x: {int: [1, 2]}\n  x: "), ["line 3", "'x'", "twice", "line 2"]),
        (replaced("score", "scor"), ["line 4", "objective.function", "no 'scor'", "score"]),
        (replaced("score", "number"), ["line 4", "expected a function"]),
        (replaced("my_objective.py", "other.py"), ["line 4", "other.py", "does not exist"]),
        (replaced("my_objective.py:score", "no.such.module:f"), ["line 4", "no.such.module"]),
        (replaced("my_objective.py:score", "score"), ["line 4", "package.module:function"]),
        ("space: {x: {int: [1, 2]}}\n", ["objective", "is missing"]),
        ("- 1\n", ["mapping"]),
        ("", ["mapping"]),
        ("space: [1\n", ["line", "not valid YAML"]),
    ],
)
def test_what_is_wrong_is_said_with_its_place(write, text, words):
    path = write(text)
    with pytest.raises(ValueError, match=".") as raised:
        read_study_file(path).study(None)
    message = str(raised.value)
    assert str(path) in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("study.max_trials", ["key=value"]),
        ("=3", ["key=value"]),
        ("study.max_trials=many", ["--set", "study.max_trials", "'many'"]),
        ("study.nothing=1", ["--set", "unknown key"]),
        ("objective.function.deeper=1", ["has no keys"]),
        ("space.x={float: [2, 1]}", ["--set", "space.x", "low=2"]),
        ("space.x=[1", ["--set space.x", "YAML"]),
    ],
)
def test_bad_overrides_are_refused(write, override, words):
    with pytest.raises(ValueError, match=".") as raised:
        read_study_file(write(MINIMAL), [override]).study(None)
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere.yaml"):
        read_study_file(tmp_path / "nowhere.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="UTF-8"):
        read_study_file(tmp_path / "binary.yaml")


def test_several_objectives_have_a_front_and_a_hypervolume(write, tmp_path):
    (tmp_path / "two.py").write_text("def two(params):\n    return params['x'], 1 - params['x']\n")
    text = (
        "study: {direction: [minimize, minimize], seed: 1, max_trials: 8, reference_point: [1, 2.0]}\n"
        + "space: {x: {float: [0.0, 1.0]}}\nsearcher: nsga2\nobjective: {function: 'two.py:two'}\n"
    )
    study = read_study_file(write(text)).study(tmp_path / "run")
    with SerialExecutor() as executor:
        result = study.run(executor, max_trials=8)
    assert study.reference_point == (1.0, 2.0)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["hypervolume"] == result.hypervolume > 0
    assert "reference_point" in (tmp_path / "run" / "study.yaml").read_text()
    console = Console(file=io.StringIO(), width=100)
    console.print(summary(result))
    assert f"{len(result.best_trials)} trial(s), hypervolume" in console.file.getvalue()
    with pytest.raises(ConfigError, match=r"line 1: study.reference_point: .*must be 2 finite numbers.*\[1.0\]"):
        read_study_file(write(text.replace("[1, 2.0]", "[1]"))).study(None)
