"""A search that goes on with a changed study: what may differ is said, what may not is refused, --force begins anew."""

import importlib
import json
import logging
import math
import re
import subprocess
import sys
import time
import types
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hpo_spark import Choice, Float, SearchSpace, SerialExecutor, Study
from hpo_spark.cli import main
from hpo_spark.control import request_stop
from hpo_spark.describing import describe_objective
from hpo_spark.errors import ConfigError
from hpo_spark.fingerprint import fingerprint
from hpo_spark.journal import Journal, StudyRecord, read_record
from hpo_spark.objectives.function import FunctionObjective
from hpo_spark.objectives.keras import KerasObjective
from hpo_spark.plain import as_json
from hpo_spark.resuming import changes
from hpo_spark.storage import open_storage
from hpo_spark.storage.local import LocalStorage

HPO_SPARK = Path(sys.executable).parent / "hpo-spark"
SPACE = {"x": Float(0.0, 1.0), "kind": Choice(["a", "b"])}


def height(params, *, scale=1.0):
    return scale * params["x"]


def other_height(params):
    return params["x"] + 1.0


def fails(params):
    raise ValueError("it never works")


def make(out, objective=height, space=SPACE, searcher="random", direction="maximize", seed=3, **options):
    return Study(SearchSpace(**space), objective, searcher, direction, seed, out, **options)


def go(study, n_trials):
    with SerialExecutor() as executor:
        return study.run(executor, n_trials)


@pytest.fixture
def begun(tmp_path):
    out = tmp_path / "run"
    go(make(out), 6)
    return out


@dataclass
class Height:
    """A height that is an object; one of the attributes is its own affair."""

    scale: float
    weights: dict[int, float] | None = None
    table: np.ndarray | None = None
    names: frozenset = frozenset("abc")
    _n_calls: int = 0

    def __call__(self, params):
        self._n_calls += 1
        return self.scale * params["x"]

    def method(self, params):
        return self(params)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (partial(height, scale=2.0), partial(height, scale=3.0), "objective.given.scale: 2.0 -> 3.0"),
        (Height(2.0), Height(3.0), "objective.given.scale: 2.0 -> 3.0"),
        (Height(2.0).method, Height(3.0).method, "objective.given.scale: 2.0 -> 3.0"),
        (partial(Height(2.0)), partial(Height(3.0)), "objective.given.scale: 2.0 -> 3.0"),
        (Height(2.0, {1: 2.0}), Height(2.0, {1: 3.0}), "objective.given.weights.1: 2.0 -> 3.0"),
        (Height(2.0, table=np.zeros(5000)), Height(2.0, table=np.ones(5000)), "objective.given.table: ndarray [5000]"),
        (FunctionObjective(Height(2.0)), FunctionObjective(Height(3.0)), "objective.given.scale: 2.0 -> 3.0"),
    ],
)
def test_what_an_objective_was_given_must_not_change(tmp_path, before, now, said):
    go(make(tmp_path, before), 2)
    assert len(go(make(tmp_path, before, resume=True), 3).trials) == 3
    with pytest.raises(ConfigError, match=re.escape(said)):
        go(make(tmp_path, now, resume=True), 4)


def test_the_options_of_an_objective_must_not_change():
    def described(**options):
        return {"objective": describe_objective(KerasObjective(height, "digits", **options))}

    plain = {"class_weight": {0: 2.0}, "callbacks": [{"early_stopping": {"patience": 1}}], "jit_compile": True}
    before = StudyRecord("journal", study=as_json(described(**plain)))
    assert not changes(before, described(**plain), {}).refused
    others = {"class_weight": {0: 3.0}, "callbacks": [], "jit_compile": None, "test_every_trial": True}
    for name, other in others.items():
        (refused,) = changes(before, described(**{**plain, name: other}), {}).refused
        assert refused.startswith(f"objective.{name}")


def test_a_path_that_trials_are_given_must_not_change(tmp_path):
    """While data may lie elsewhere, if it is the same."""
    go(make(tmp_path, fixed={"table": "/data/2025/table.csv"}), 2)
    with pytest.raises(ConfigError, match=r"fixed.table: /data/2025/table.csv -> /data/2026/table.csv"):
        go(make(tmp_path, fixed={"table": "/data/2026/table.csv"}, resume=True), 4)
    before = StudyRecord("journal", study={"objective": {"data": {"csv": "/here/table.csv"}}})
    assert not changes(before, {"objective": {"data": {"csv": "/there/table.csv"}}}, {}).refused


@pytest.mark.parametrize("fixed", [math.inf, -math.inf, math.nan, {1: 2.0}, [1, (2, 3)]], ids=str)
def test_what_json_spells_in_another_way_is_the_same_still(tmp_path, fixed):
    for n_trials in (2, 4):
        result = go(make(tmp_path / "run", fixed={"clip": fixed}, resume=True), n_trials)
    assert len(result.trials) == 4


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("searcher", ["random", "evolution", "de"])
def test_a_larger_budget_goes_on(tmp_path, searcher, deterministic, caplog):
    caplog.set_level(logging.INFO, "hpo_spark")
    options = {"searcher": searcher, "deterministic": deterministic}
    before = go(make(tmp_path / "run", **options), 12)
    after = go(make(tmp_path / "run", **options, resume=True), 20)
    whole = go(make(tmp_path / "whole", **options), 20)
    assert len(after.trials) == 20
    assert after.trials[:12] == before.trials
    assert "study.max_trials: 12 -> 20" in caplog.text
    if deterministic:
        assert [trial.params for trial in after.trials] == [trial.params for trial in whole.trials]


def test_a_finished_search_that_is_resumed_runs_nothing(begun):
    journal = (begun / "journal.jsonl").read_text()
    result = go(make(begun, resume=True), 6)
    assert len(result.trials) == 6
    added = (begun / "journal.jsonl").read_text().removeprefix(journal)
    assert '"kind":"ask"' not in added and '"kind":"tell"' not in added


def test_a_search_that_has_given_up_says_how_to_go_on(tmp_path):
    go(make(tmp_path, fails), 12)
    again = go(make(tmp_path, fails, resume=True), 14)
    assert len(again.trials) == 10
    assert "resume with --set study.give_up_after=null" in again.reason
    with SerialExecutor() as executor:
        assert len(make(tmp_path, fails, resume=True).run(executor, 12, give_up_after=None).trials) == 12


def test_another_searcher_learns_from_what_was_done(begun, caplog):
    caplog.set_level(logging.INFO, "hpo_spark")
    result = go(make(begun, searcher="de", resume=True), 12)
    assert len(result.trials) == 12
    assert "searcher: random -> de" in caplog.text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"space": {**SPACE, "x": Float(0.0, 2.0)}}, "space.x"),
        ({"space": {"x": SPACE["x"]}}, "space.kind"),
        ({"space": dict(reversed(SPACE.items()))}, "space"),
        ({"direction": "minimize"}, "study.direction: maximize -> minimize"),
        ({"seed": 4}, "study.seed: 3 -> 4"),
        ({"deterministic": True}, "study.deterministic"),
        ({"fixed": {"units": 3}}, "fixed.units: none -> 3"),
        ({"objective": other_height}, "objective.function"),
        ({"objective": partial(height, scale=2.0)}, "objective.given: none -> {'scale': 2.0}"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_must_not_change_is_refused_and_the_folder_stays(begun, changed, said):
    for file in ("checkpoints/trial-7-attempt-1-step-3", "checkpoints/.trial-8", "live/trial-7-attempt-1.jsonl"):
        open_storage(begun).write(file, b"of a search that may run there")
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"differs in what must not change: .*--force") as caught:
        go(make(begun, **changed, resume=True), 9)
    assert said in str(caught.value)
    assert {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()} == before


def test_force_takes_the_old_trials_as_a_warm_start(begun):
    old = read_record(begun).ended
    best = max(old, key=lambda trial: trial.value)
    wider = {**SPACE, "x": Float(0.0, 2.0)}
    result = go(make(begun, space=wider, resume=True, force=True), 5)
    assert [trial.number for trial in result.trials] == [0, 1, 2, 3, 4]
    assert result.trials[0].params == best.params, "the best of the old ones is tried first"
    # It is now a study like any other.
    again = go(make(begun, space=wider, resume=True), 8)
    assert again.trials[:5] == result.trials
    assert len(again.trials) == 8


@pytest.mark.parametrize("is_path", [True, False])
def test_force_adds_a_new_warm_start_to_the_old_trials(begun, tmp_path, is_path):
    old = read_record(begun).ended
    other = go(make(tmp_path / "other", seed=9), 4).trials
    go(make(begun, seed=4, resume=True, force=True, warm_start=tmp_path / "other" if is_path else other), 1)
    known = read_record(begun).known
    assert [trial.params for trial in known] == [trial.params for trial in (*old, *other)]
    if is_path:  # what it has learned from already is not read again
        go(make(begun, seed=5, resume=True, force=True, warm_start=tmp_path / "other"), 1)
        assert len(read_record(begun).known) == len(known) + 1


def test_after_a_forced_change_of_the_seed_it_need_not_be_given_again(begun):
    go(make(begun, seed=4, resume=True, force=True), 2)
    study = make(begun, seed=None, resume=True)
    assert study.seed == 4
    assert len(go(study, 5).trials) == 5


def test_without_resume_a_folder_that_holds_a_study_is_refused(begun):
    with pytest.raises(ConfigError, match=r"holds a study already.*--resume"):
        go(make(begun), 6)


def test_what_was_enqueued_survives(tmp_path):
    class Stop:
        def on_trial_end(self, study, trial):
            if trial.number == 0:
                study.enqueue({"x": 0.123, "kind": "b"})
                study.stop()

    out = tmp_path / "run"
    go(make(out, callbacks=[Stop()]), 9)
    result = go(make(out, resume=True), 9)
    wanted = [trial for trial in result.trials if trial.params == {"x": 0.123, "kind": "b"}]
    assert len(wanted) == 1
    assert wanted[0].origin == {"by": "user"}


FILE = """\
study: {seed: 1, max_trials: 5}
report: false
space:
  x: {float: [0.0, 1.0]}
objective: {function: objective.py:height}
executor: serial
"""


def hpo(*words, cwd):
    return subprocess.run([HPO_SPARK, *words], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_the_code_in_a_zip_must_not_change_either(tmp_path, monkeypatch):
    def code_of(name, text):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(f"{name}.py", text)
        monkeypatch.syspath_prepend(tmp_path / f"{name}.zip")
        return fingerprint(FunctionObjective(importlib.import_module(name).objective))["code"]

    one = code_of("zipped_one", "def objective(params):\n    return params['x']\n")
    assert one == code_of("zipped_same", "def objective(params):\n    return params['x']  # as before\n")
    assert one != code_of("zipped_other", "def objective(params):\n    return -params['x']\n")


def test_the_code_of_a_module_that_was_made_by_hand_counts(tmp_path, monkeypatch):
    path = tmp_path / "by_hand.py"
    path.write_text("def objective(params):\n    return params['x']\n")
    module = types.ModuleType("by_hand")
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "by_hand", module)
    exec(path.read_text(), vars(module))
    before = fingerprint(FunctionObjective(module.objective))
    path.write_text("def objective(params):\n    return -params['x']\n")
    assert fingerprint(FunctionObjective(module.objective))["code"] != before["code"]


def test_the_command_says_what_changed(tmp_path):
    (tmp_path / "study.yaml").write_text(FILE)
    (tmp_path / "objective.py").write_text("def height(params):\n    return params['x']\n")
    first = hpo("run", "study.yaml", "--out", "run", "--resume", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    again = hpo("run", "study.yaml", "--out", "run", cwd=tmp_path)
    assert again.returncode == 2
    assert "hpo-spark resume run" in again.stderr
    more = hpo("resume", "run", "--set", "study.max_trials=8", cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    assert "study.max_trials: 5 -> 8" in more.stdout
    assert json.loads((tmp_path / "run" / "result.json").read_text())["trials"] == 8
    (tmp_path / "objective.py").write_text("def height(params):\n    return 2 * params['x']\n")
    refused = hpo("resume", "run", cwd=tmp_path)
    assert refused.returncode == 2
    assert "the objective's code" in refused.stderr and "--force" in refused.stderr
    assert "Traceback" not in refused.stderr
    anew = hpo("resume", "run", "--force", cwd=tmp_path)
    assert anew.returncode == 0, anew.stderr
    assert "8 trials are a warm start" in anew.stdout


def test_what_was_written_without_its_secrets_is_not_run_with_what_is_left(tmp_path, monkeypatch, capsys):
    """What it has learned from is not read again, and may lack its own."""
    monkeypatch.chdir(tmp_path)
    secret = "https://host/x?token=abcdefgh"
    go(make(tmp_path / "earlier-***", space={"x": SPACE["x"]}), 2)
    height = "def height(params):\n    assert '=abc' in params['urls'][1]\n    return params['x']\n"
    Path("objective.py").write_text(height)
    Path("study.yaml").write_text(f"{FILE}fixed: {{urls: [1, '{secret}']}}\nwarm_start: earlier-***\n")
    assert main(["run", "study.yaml", "--out", "run", "--quiet"]) == 0
    assert main(["resume", "run"]) == 2
    assert "and fixed.urls had one. Go on with the study file" in capsys.readouterr().err
    more = ["--set", "study.max_trials=7", "--quiet"]
    assert main(["resume", "run", "--set", f"fixed.urls=[1, '{secret}']", *more]) == 0
    assert len(read_record(tmp_path / "run").ended) == 7
    assert "abcdefgh" not in Path("run/study.yaml").read_text()


def test_what_was_asked_of_an_earlier_search_does_not_end_this_one(begun, monkeypatch):
    monkeypatch.setattr(LocalStorage, "look_every_s", 0.01)
    for letter in ("stop", "cancel-7"):
        open_storage(begun).write(f"control/{letter}", b"")

    def wait(study, trial):
        time.sleep(0.03)

    assert len(go(make(begun, resume=True, callbacks=[wait]), 12).trials) == 12
    assert open_storage(begun).names("control") == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_whoever_gives_up_asking_for_the_end_takes_that_back(tmp_path, monkeypatch, error):
    """Else the next search there would end at once."""
    storage = open_storage(tmp_path)
    journal = Journal(storage)
    journal.begin({"seed": 0})  # of a search that was killed
    journal.close()

    def interrupted(_):
        raise error

    monkeypatch.setattr("hpo_spark.control.time", types.SimpleNamespace(sleep=interrupted, monotonic=time.monotonic))
    with pytest.raises(error):
        request_stop(tmp_path)
    assert storage.names("control") == []
