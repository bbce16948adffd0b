"""What can go wrong before a search, or beside it, without a server."""

import os
import sys
import threading

import pytest

from hpo_spark import ConfigError, Float, SearchSpace, SerialExecutor, Study
from hpo_spark.cli import main
from hpo_spark.tracking import Tracker, make_trackers
from hpo_spark.tracking.names import keys_of

SPACE = SearchSpace(x=Float(0.0, 1.0))
FILE = """\
study: {seed: 1, max_trials: 2}
space: {x: {float: [0.0, 1.0]}}
searcher: random
executor: serial
objective: {function: my_objective.py:score}
tracking: TRACKING
"""


@pytest.fixture
def study_file(tmp_path):
    (tmp_path / "my_objective.py").write_text("def score(params):\n    return params['x']\n")

    def write(tracking):
        (tmp_path / "study.yaml").write_text(FILE.replace("TRACKING", tracking))
        return str(tmp_path / "study.yaml")

    return write


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("tensorbord", "there is no tracker 'tensorbord'. Did you mean 'tensorboard'?"),
        ({"mlflow": {"url": "x"}}, "mlflow has no option 'url'; expected one of ['uri', 'experiment', 'register']"),
        ({"tensorboard": {"dir": "x"}}, "tensorboard has no option 'dir'; it has none"),
        ({"mlflow": {"uri": 5}}, "mlflow.uri must be text, got 5"),
        ({"mlflow": {}, "tensorboard": {}}, "expected one of ['mlflow', 'tensorboard'], or one of them with"),
        (["mlflow", {"mlflow": {}}], "mlflow stands twice"),
        (7, "expected one of"),
    ],
)
def test_a_wrong_choice_is_an_error_in_words(choice, message):
    with pytest.raises(ConfigError) as error:
        make_trackers(choice)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("package", "tracking"), [("tensorboard", "tensorboard"), ("mlflow", "[{mlflow: {uri: 'http://127.0.0.1:1'}}]")]
)
def test_a_missing_extra_is_said_before_the_search(package, tracking, study_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    for words in (["run", study_file(tracking), "--out", str(tmp_path / "run")], ["check", study_file(tracking)]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert f'tracking: {package} needs {package}. Install it with: pip install "hpo_spark[{package}]"' in said
    assert not (tmp_path / "run").exists()


def test_a_server_must_be_named(study_file, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["run", study_file("mlflow"), "--out", str(tmp_path / "run")]) == 2
    assert "study.yaml, line 6: tracking: mlflow needs the URI of a tracking server" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_study_file_has_it_and_so_has_the_run_folder(study_file, tmp_path):
    from hpo_spark import yaml

    uri = "http://ann:secret!word@127.0.0.1:1/"
    file, out = study_file(f"[tensorboard, {{mlflow: {{uri: '{uri}'}}}}]"), tmp_path / "run"
    assert main(["run", file, "--out", str(out), "--quiet"]) == 0  # whatever becomes of the server that is not there
    written = yaml.load((out / "study.yaml").read_text())
    assert written["tracking"] == ["tensorboard", {"mlflow": {"uri": "http://ann:***@127.0.0.1:1/"}}]
    assert len(list((out / "tensorboard").glob("trial-*"))) == 2
    for path in (path for path in out.rglob("*") if path.is_file()):
        assert b"secret!word" not in path.read_bytes()


class Stuck(Tracker):
    """One that never comes back."""

    name = "stuck"

    def __init__(self):
        self.released = threading.Event()

    def check(self):
        pass

    def describe(self):
        return self.name

    def open(self, facts, folder, goes_on):
        self.released.wait()

    def write(self, trial):
        raise AssertionError

    def close(self, outcome):
        raise AssertionError


def test_a_tracker_that_hangs_delays_no_trial_and_ends_no_search(tmp_path, monkeypatch, caplog):
    from hpo_spark.tracking import follower

    monkeypatch.setattr(follower, "_PATIENCE_S", 0.1)
    stuck = Stuck()
    study = Study(SPACE, lambda params: params["x"], "random", out=tmp_path / "run", tracking=stuck)
    with SerialExecutor() as executor:
        result = study.run(executor, max_trials=3)
    assert result.counts == {"COMPLETED": 3}
    assert "stuck lacks 3 trial(s) and the end of the search; write what is missing with:" in caplog.text
    stuck.released.set()


def test_keys_are_what_mlflow_takes_and_differ():
    names = ["a", "a b", "ä", "a/b", "a//b", "../a", "/a", ".", "", "a\n", "a:b", "a;b", "a?b"]
    names += ["x" * 250, "x" * 300, "x" * 301]
    keys = keys_of(names)
    assert keys["a"] == "a"
    assert keys["a/b"] == "a/b"
    assert len(set(keys.values())) == len(names)
    if "mlflow" not in os.sys.modules:
        return
    from mlflow.utils.validation import _validate_metric_name

    for key in keys.values():
        _validate_metric_name(key)
        assert len(key) <= 250
