"""A promoted trial goes on where its parent ended, and comes to the same as one that never stopped."""

import json
import os
import tempfile
import threading
from collections import Counter

import numpy as np
import objectives
import pytest

from hpo_spark import (
    ConfigError,
    Float,
    KerasObjective,
    ProcessExecutor,
    SearchSpace,
    SerialExecutor,
    SparkExecutor,
    Study,
    Trial,
)
from hpo_spark.checkpoints import Checkpoints, read_checkpoint, write_checkpoint
from hpo_spark.errors import TaskNotPicklable
from hpo_spark.midway import Midway
from hpo_spark.objectives.evaluate import Evaluation
from hpo_spark.place import Place
from hpo_spark.storage import open_storage
from hpo_spark.storage.local import LocalStorage
from hpo_spark.trial import TrialState

SPACE = SearchSpace(x=Float(0.0, 1.0))
RUNGS = {"min": 1, "max": 9}


@pytest.fixture(scope="module")
def pool():
    """One trial process, which imports TensorFlow once for these tests."""
    with ProcessExecutor(1) as executor:
        yield executor


def search(executor, searcher="asha", out=None, limits=None, objective=objectives.climbs, **options):
    study = Study(SPACE, objective, searcher, "maximize", 1, out=out, fidelity=RUNGS, **options)
    return study.run(executor, **(limits or {"max_epochs": 60}))


def epochs_in(log):
    return Counter(tuple(map(int, line.split())) for line in log.read_text().splitlines())


@pytest.mark.parametrize("build_model", ["network", "with_own_step", "without_graphs"])
def test_stopping_and_going_on_equals_one_run(pool, tmp_path, build_model):
    storage = LocalStorage(tmp_path)
    storage.write("live/probe", b"")
    place = Place(storage, "live/probe")
    objective = KerasObjective(getattr(objectives, build_model), "digits", batch_size=512)
    evaluation = Evaluation(objective, 3, {}, midway=place, full_fidelity=9)

    def trial(number, fidelity, parent=None):
        return Trial(number, {"rate": 0.01}, 77, fidelity=fidelity, parent=parent)

    first = pool.submit(evaluation, trial(0, 2)).result()
    second = pool.submit(evaluation, trial(1, 5, 0), (), first.checkpoint).result()
    whole = pool.submit(evaluation, trial(2, 5)).result()
    alone = pool.submit(evaluation, trial(3, 5, 0)).result()  # its parent's checkpoint has gone
    assert first.trial.error is second.trial.error is whole.trial.error is None
    assert [one.trial.metrics["epochs"] for one in (first, second, whole, alone)] == [2, 3, 5, 5]
    assert [step for step, _ in second.trial.curve] == [3, 4, 5]
    assert np.allclose([*first.trial.curve, *second.trial.curve], whole.trial.curve, rtol=0, atol=1e-6)
    assert alone.trial.values == whole.trial.values
    for name in ("loss", "val_loss", "val_accuracy"):
        assert second.trial.metrics[name] == pytest.approx(whole.trial.metrics[name], abs=1e-6)
    states = [objectives.arrays(read_checkpoint(place, one.checkpoint).content) for one in (second, whole)]
    assert len(states[0]) > 10
    for one, other in zip(*states, strict=True):
        assert np.allclose(one, other, rtol=0, atol=1e-6)


def test_a_checkpoint_that_does_not_fit_costs_time_only(pool, tmp_path):
    storage = LocalStorage(tmp_path)
    storage.write("live/probe", b"")
    objective = KerasObjective(objectives.grown, "digits", batch_size=256)
    evaluation = Evaluation(objective, 3, {}, midway=Place(storage, "live/probe"), full_fidelity=9)
    first = pool.submit(evaluation, Trial(0, {"rate": 0.01}, 77, fidelity=1)).result()
    second, whole = (
        pool.submit(evaluation, Trial(1, {"rate": 0.01}, 77, fidelity=2, parent=0), (), name).result().trial
        for name in (first.checkpoint, None)
    )
    assert first.checkpoint is not None
    assert (second.error, second.metrics["epochs"], second.values) == (None, 2, whole.values)


@pytest.mark.parametrize("searcher", ["asha", "hyperband", "dehb", "evolution"])
def test_no_epoch_is_trained_twice_and_the_limit_counts_those_that_are(tmp_path, searcher):
    # With two slots, one that starts late may keep a rung from being complete until all epochs are used elsewhere.
    with ProcessExecutor(1) as pool:
        result = search(pool, searcher, tmp_path / "run", fixed={"log": str(tmp_path / "log")})
    trained = epochs_in(tmp_path / "log")
    assert sum(trained.values()) == result.epochs == sum(t.metrics["epochs"] for t in result.trials) <= 60
    assert result.epochs > 60 - 9
    by_number = {trial.number: trial for trial in result.trials}
    climbed = [trial for trial in result.trials if trial.parent is not None]
    assert climbed
    for trial in climbed:
        parent = by_number[trial.parent]
        assert (trial.params, trial.seed) == (parent.params, parent.seed)
        assert trial.metrics["epochs"] == trial.fidelity - parent.fidelity
    assert result.best_trial.fidelity == max(trial.fidelity for trial in result.trials)
    assert result.best_trial.value == max(t.value for t in result.trials if t.fidelity == result.best_trial.fidelity)
    assert not list((tmp_path / "run").glob("checkpoints/*"))
    assert not list((tmp_path / "run").glob("live/*"))


def test_on_spark_a_trial_goes_on_too(spark, tmp_path):
    with SparkExecutor(spark) as pool:
        result = search(pool, out=tmp_path / "run", limits={"max_epochs": 30}, fixed={"log": str(tmp_path / "log")})
    assert sum(epochs_in(tmp_path / "log").values()) == result.epochs <= 30
    assert any(trial.parent is not None for trial in result.trials)


def test_a_run_folder_may_lie_on_any_file_system():
    url = f"memory://fidelity-{os.getpid()}/run"
    with SerialExecutor() as pool:
        # In deterministic mode, for else the clock decides when thresholds are renewed.
        options = {"limits": {"max_trials": 20}, "pruner": "median", "deterministic": True}
        result = search(pool, "hyperband", url, **options)
        table_here = table(search(pool, "hyperband", None, **options))
    assert table(result) == table_here
    climbed = [trial for trial in result.trials if trial.parent is not None and trial.state is TrialState.COMPLETED]
    assert climbed
    assert all(len(trial.curve) == trial.fidelity - result.trials[trial.parent].fidelity for trial in climbed)
    storage = open_storage(url)
    assert not storage.names("live")
    assert not storage.names("checkpoints")


def test_without_a_run_folder_there_is_one_while_the_search_lasts(tmp_path):
    with ProcessExecutor(2) as pool:
        result = search(pool, fixed={"log": str(tmp_path / "log")})
    assert sum(epochs_in(tmp_path / "log").values()) == result.epochs
    assert any(trial.parent is not None for trial in result.trials)


def test_without_a_run_folder_nothing_is_left_of_a_search_that_cannot_begin(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lock = threading.Lock()
    with ProcessExecutor(1) as pool, pytest.raises(TaskNotPicklable, match="lock"):
        search(pool, objective=lambda params: float(lock.locked()))
    assert not list(tmp_path.glob("hpo_spark-*"))


def test_what_can_no_longer_be_promoted_is_removed_as_the_search_goes(tmp_path):
    kept = []

    def look(study, trial):
        kept.append(len(list((tmp_path / "run").glob("checkpoints/*"))))

    with SerialExecutor() as pool:
        search(pool, "hyperband", tmp_path / "run", {"max_trials": 100}, callbacks=[look])
    assert 3 <= max(kept) <= 10


def test_a_search_that_is_cut_short_keeps_what_may_be_promoted_and_goes_on_from_there(tmp_path):
    class Interrupt:
        def on_trial_end(self, study, trial):
            if len(study.trials) == 7:
                raise KeyboardInterrupt

    log = {"log": str(tmp_path / "log")}
    with SerialExecutor() as pool:
        cut = search(pool, "hyperband", tmp_path / "run", {"max_trials": 40}, fixed=log, callbacks=[Interrupt()])
        assert cut.state == "interrupted"
        assert list((tmp_path / "run").glob("checkpoints/*"))
        done = search(pool, "hyperband", tmp_path / "run", {"max_trials": 40}, fixed=log, resume=True)
    with SerialExecutor() as pool:
        whole = search(
            pool, "hyperband", tmp_path / "whole", {"max_trials": 40}, fixed={"log": str(tmp_path / "other")}
        )
    assert table(done) == table(whole)
    assert max(epochs_in(tmp_path / "log").values()) == 1, "an epoch was trained again"
    assert any(trial.parent is not None and trial.parent < 7 <= trial.number for trial in done.trials)


def table(result):
    return [(t.number, t.params, t.fidelity, t.parent, t.seed, t.state, t.values) for t in result.trials]


def test_a_checkpoint_of_another_attempt_is_nobodys(tmp_path):
    storage = LocalStorage(tmp_path)
    for name in ("trial-1-attempt-1-step-3", "trial-1-attempt-2-step-3", "trial-2-attempt-1-step-1"):
        storage.write(f"checkpoints/{name}", b"")
    checkpoints = Checkpoints(storage)
    checkpoints.open({1: 2})
    assert checkpoints.name_of(1) == "checkpoints/trial-1-attempt-2-step-3"
    assert checkpoints.step_of(1) == 3
    assert storage.names("checkpoints") == ["trial-1-attempt-2-step-3"]
    assert (checkpoints.name_of(2), checkpoints.step_of(2), checkpoints.name_of(None)) == (None, 0, None)


def test_a_checkpoint_of_too_many_epochs_is_none(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.write("checkpoints/trial-1-attempt-1-step-3", b"")
    midway = Midway(storage, None, True, 9, renews=True)
    midway.open([], {1: 1})
    try:
        epochs = [midway.epochs_of(Trial(2, {}, 0, fidelity=fidelity, parent=1)) for fidelity in (2, 3, 4, 9)]
    finally:
        midway.close(is_finished=True, is_ours=True)
    assert epochs == [2, 3, 1, 6]


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_search_may_go_on_with_other_fidelities(tmp_path, deterministic):
    options = {"objective": objectives.climbs, "searcher": "asha", "direction": "maximize", "seed": 1}
    options |= {"out": tmp_path / "run", "deterministic": deterministic}
    with SerialExecutor() as pool:
        Study(SPACE, fidelity={"min": 3, "max": 27}, **options).run(pool, 20)
        again = Study(SPACE, fidelity={"min": 1, "max": 27}, resume=True, **options)
        if deterministic:
            with pytest.raises(ConfigError, match="fidelity.min"):
                again.run(pool, 60)
            return
        result = again.run(pool, 60)
    assert {trial.fidelity for trial in result.trials[:20]} == {3, 9, 27}
    assert {trial.fidelity for trial in result.trials} == {1, 3, 9, 27}
    climbed = [trial for trial in result.trials if trial.parent is not None]
    assert all(result.trials[trial.parent].fidelity < trial.fidelity for trial in climbed)
    assert any(trial.number >= 20 for trial in climbed)


def test_a_checkpoint_that_is_damaged_or_out_of_sight_is_none(tmp_path, caplog):
    storage = LocalStorage(tmp_path)
    place = Place(storage, "live/probe")
    trial = Trial(1, {}, 0)
    assert write_checkpoint(place, trial, 3, b"state") is None
    storage.write("live/probe", b"")
    name = write_checkpoint(place, trial, 3, b"state")
    assert (read_checkpoint(place, name).step, read_checkpoint(place, name).content) == (3, b"state")
    storage.write(name, storage.read(name)[:-1])
    assert read_checkpoint(place, name) is None
    assert "is damaged" in caplog.text
    storage.remove(name)
    assert read_checkpoint(place, name) is None


def test_configurations_of_the_user_begin_on_the_lowest_rung_and_known_values_count_as_full(tmp_path):
    with SerialExecutor() as pool:
        result = search(pool, x0=[{"x": 0.99}, {"params": {"x": 0.5}, "value": 0.5}], limits={"max_trials": 30})
    given = next(trial for trial in result.trials if trial.params == {"x": 0.5})
    tried = [trial for trial in result.trials if trial.params == {"x": 0.99}]
    assert given.fidelity == 9
    assert [trial.fidelity for trial in tried] == [1, 3, 9]
    assert result.best_trial == tried[-1]


def test_the_journal_knows_fidelities_and_parents(tmp_path):
    with SerialExecutor() as pool:
        search(pool, out=tmp_path / "run", limits={"max_trials": 20})
    lines = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    asked = {line["number"]: line for line in lines if line["kind"] == "ask"}
    climbed = [line for line in asked.values() if line["parent"] is not None]
    assert climbed
    assert all(asked[line["parent"]]["fidelity"] < line["fidelity"] for line in climbed)
