"""The models that a search keeps: those of the leaders, each under its trial, whatever dies on the way."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from hpo_spark import ConfigError, Float, ProcessExecutor, SearchSpace, SerialExecutor, Study
from hpo_spark.journal import read_record
from hpo_spark.models import MAX_RETURNED_BYTES
from hpo_spark.storage.local import LocalStorage

SPACE = SearchSpace(x=Float(0.0, 1.0))
SMALL, LARGE = 1_000, MAX_RETURNED_BYTES + 1


def model_of(number, size):
    return b"PK" + b"%08d" % number + b"\0" * size


def trains(size):
    """An objective that trains nothing, and keeps a model that tells its trial."""

    def objective(params, context):
        context.keep_model(model_of(context.number, size))
        return params["x"]

    return objective


def two_goals(params, context):
    values = params["x"], 1 - params["x"] if params["x"] > 0.3 else 0.1
    if context.keeps_model(values):
        context.keep_model(model_of(context.number, SMALL))
    return values


@pytest.fixture(scope="module")
def pool():
    with ProcessExecutor(2) as executor:
        yield executor


def files(folder):
    return sorted(path.name for path in (folder / "models").glob("*")) if (folder / "models").exists() else []


def numbers(folder):
    return sorted(int(re.match(r"trial-(\d+)-", name)[1]) for name in files(folder))


def search(executor, out, objective=None, max_trials=12, direction="maximize", **options):
    objective = trains(SMALL) if objective is None else objective
    study = Study(SPACE, objective, "random", direction, 0, out=out, **options)
    return study.run(executor, max_trials)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_the_best_trials_model_is_kept_and_no_other(pool, tmp_path, size, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the folder is relative, and workers have working folders of their own
    result = search(pool, "run", trains(size))
    best, out = result.best_trial, tmp_path / "run"
    assert files(out) == [f"trial-{best.number}-attempt-1.keras"]
    assert result.best_model == result.model_of(best) == model_of(best.number, size)
    assert (out / "best" / "model.keras").read_bytes() == result.best_model
    assert (out / "best" / "model.keras").samefile(out / "models" / files(out)[0])
    said = json.loads((out / "result.json").read_text())
    assert said["best_trial"]["model"] == f"models/{files(out)[0]}"
    assert (said["model_error"], said["refit"]) == (None, None)


def test_without_a_folder_models_come_back(pool):
    result = search(pool, None, trains(LARGE), max_trials=4)
    assert result.best_model == model_of(result.best_trial.number, LARGE)


@pytest.fixture
def unshared(monkeypatch):
    """Workers see another mount, where the folder is empty."""
    monkeypatch.setattr(LocalStorage, "__reduce__", lambda self: (LocalStorage, (self.path.with_name("elsewhere"),)))


def test_where_workers_do_not_see_the_folder_that_is_said_once(pool, tmp_path, unshared, caplog):
    result = search(pool, tmp_path / "run", trains(LARGE))
    assert result.state == "finished"
    assert result.best_model is None
    assert not (tmp_path / "run" / "best" / "model.keras").exists()
    assert not (tmp_path / "elsewhere").exists()
    (said,) = [record.getMessage() for record in caplog.records if "left behind" in record.getMessage()]
    for words in ("4.0 MB", "does not see", "all workers share", f"hpo-spark refit {tmp_path / 'run'}"):
        assert words in said
    assert "does not see" in result.model_error


def test_small_models_need_no_shared_folder(pool, tmp_path, unshared):
    result = search(pool, tmp_path / "run")
    assert result.best_model == model_of(result.best_trial.number, SMALL)


def test_a_worker_that_cannot_write_says_so(pool, tmp_path):
    def objective(params, context):
        folder = tmp_path / "run" / "models"
        for path in folder.glob("trial-*"):
            path.unlink()
        (folder / f"trial-{context.number}-attempt-1.keras").mkdir()  # no file can be renamed onto it
        context.keep_model(model_of(context.number, LARGE))
        return params["x"]

    result = search(pool, tmp_path / "run", objective, max_trials=1)
    assert result.counts == {"COMPLETED": 1}
    assert "cannot write it" in result.model_error


@pytest.mark.parametrize("keep", [0, 2, 10])
def test_of_several_objectives_the_fronts_models_are_kept(pool, tmp_path, keep):
    result = search(pool, tmp_path, two_goals, 30, ["maximize", "maximize"], keep_models=keep)
    front = [trial.number for trial in result.best_trials]
    assert len(front) > 10
    assert numbers(tmp_path) == sorted(front[:keep])
    assert [result.model_of(trial) is not None for trial in result.best_trials] == [
        place < keep for place in range(len(front))
    ]
    assert (tmp_path / "best" / "model.keras").exists() == (keep > 0)


@pytest.mark.parametrize("keep", [-1, True, "all", 1.5])
def test_a_wrong_number_to_keep_is_refused(keep):
    with pytest.raises(ConfigError, match="keep_models"):
        Study(SPACE, trains(SMALL), keep_models=keep)


def test_early_results_keep_their_models_in_deterministic_mode(pool, tmp_path):
    def objective(params, context):
        import time

        time.sleep(0.3 if context.number == 0 else 0.0)  # all others of the batch end before it
        context.keep_model(model_of(context.number, LARGE))
        return params["x"]

    result = search(pool, tmp_path, objective, 8, deterministic=True)
    assert result.best_model == model_of(result.best_trial.number, LARGE)
    assert numbers(tmp_path) == [result.best_trial.number]


PROGRAM = """\
import os, signal, sys
from hpo_spark import ProcessExecutor, Study
from hpo_spark.winner import Winner
from test_models import SPACE, trains

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

out, size, where = sys.argv[1], int(sys.argv[2]), sys.argv[3]
study = Study(SPACE, trains(size), "random", "maximize", 0, out=out)
if where == "before tell":
    tell = type(study)._on_result
    def on_result(self, evaluated):
        self._winner.models.receive(evaluated.trial, evaluated.sent, True)
        die()
    type(study)._on_result = on_result
elif where == "before promotion":
    Winner._promote = die
with ProcessExecutor(1) as executor:
    study.run(executor, max_trials=6)
"""


@pytest.mark.parametrize("where", ["before tell", "before promotion"])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_driver_that_is_killed_loses_no_model(tmp_path, size, where):
    out = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, os.path.dirname(__file__)])}
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(out), str(size), where], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (out / "best").exists()
    assert len(read_record(out).ended) == (where == "before promotion")
    (out / "models" / "trial-99-attempt-1.keras").write_bytes(b"PK of a worker that nobody waits for")
    (out / "models" / ".trial-3-attempt-1.keras.12.abcd").write_bytes(b"half of one")
    (out / "models" / "mine.txt").write_text("of the user")
    with SerialExecutor() as executor:
        # Where one trial has ended nothing new is run: what the killed driver left is enough.
        n_trials = 1 if where == "before promotion" else 6
        result = search(executor, out, trains(size), n_trials, resume=True)
    best = result.best_trial
    assert result.best_model == model_of(best.number, size)
    assert (out / "best" / "model.keras").read_bytes() == result.best_model
    assert files(out) == ["mine.txt", f"trial-{best.number}-attempt-{best.attempt}.keras"]


def test_a_study_that_begins_anew_removes_the_old_ones_models(tmp_path):
    with SerialExecutor() as executor:
        first = search(executor, tmp_path)
        assert first.best_model is not None
        wider = SearchSpace(x=Float(0.0, 2.0))
        study = Study(wider, lambda p: p["x"], "random", seed=0, out=tmp_path, resume=True, force=True)
        result = study.run(executor, max_trials=3)
    assert files(tmp_path) == []
    assert result.best_model is None
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["params.yaml"]


def test_an_interrupted_search_leaves_no_losers(pool, tmp_path):
    stopping = [lambda study, trial: os.kill(os.getpid(), signal.SIGINT) if trial.number == 5 else None]
    result = search(pool, tmp_path, trains(LARGE), 100, callbacks=stopping)
    assert result.state == "interrupted"
    assert numbers(tmp_path) == [result.best_trial.number]


def test_a_model_that_cannot_be_written_is_a_warning(pool, tmp_path, monkeypatch, caplog):
    def fail(self, source, target):
        raise OSError("the disk is full")

    monkeypatch.setattr(LocalStorage, "copy", fail)
    result = search(pool, tmp_path)
    assert result.state == "finished"
    assert "the disk is full" in caplog.text
    assert result.best_model == model_of(result.best_trial.number, SMALL)
