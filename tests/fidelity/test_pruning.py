"""Trials that fall behind are stopped, by what came with them and by what is known since."""

import contextlib
import time

import objectives
import pytest

from hpo_spark import (
    Choice,
    Float,
    ProcessExecutor,
    SearchSpace,
    SerialExecutor,
    SparkExecutor,
    Study,
    Trial,
    TrialState,
)
from hpo_spark.errors import TrialPruned
from hpo_spark.exchange.optuna import from_optuna, to_optuna
from hpo_spark.midway import Midway
from hpo_spark.objectives.context import Context
from hpo_spark.pruners import Pruner, Thresholds, make_pruner
from hpo_spark.pruners.base import Curve
from hpo_spark.reporting import Reporter
from hpo_spark.searchers import make_searcher
from hpo_spark.storage.local import LocalStorage

SPACE = SearchSpace(x=Float(0.0, 1.0))


def curves(*values):
    return [Curve([[step, value] for step, value in enumerate(each, start=1)], 1.0) for each in values]


def reason(thresholds, *values):
    return thresholds.reason_to_stop([[step, value] for step, value in enumerate(values, start=1)])


def test_a_trial_is_measured_by_the_bound_of_the_last_step_that_it_has_passed():
    thresholds = Thresholds(True, [[2, 0.5], [4, 0.7]])
    assert reason(thresholds, 0.1) is None
    assert reason(thresholds, 0.1, 0.4)
    assert reason(thresholds, 0.6, 0.4) is None, "its best counts"
    assert reason(thresholds, 0.6, 0.6, 0.6) is None
    assert "at step 4 it had come to at best 0.6, which is worse than the threshold 0.7" in reason(
        thresholds, 0.6, 0.6, 0.6, 0.6
    )
    assert reason(thresholds, float("nan"), float("nan"))
    assert reason(Thresholds(False, [[1, 0.5]]), 0.6)
    assert reason(Thresholds(False, [[1, 0.5]]), 0.5) is None
    assert Thresholds.from_dict(thresholds.to_dict()) == thresholds


def test_median_is_of_the_best_values_of_those_that_came_so_far():
    pruner = make_pruner({"name": "median", "start": 3, "warmup": 2})
    assert pruner.thresholds(curves([1, 2], [2, 3]), True) is None
    found = pruner.thresholds(curves([1.0, 2.0, 9.0], [2.0, 1.0], [3.0, 4.0, 5.0]), True)
    assert found.bounds == [[2, 2.0]]


def test_asha_lets_the_best_share_of_each_rung_go_on():
    pruner = make_pruner({"name": "asha", "min": 2, "eta": 2})
    assert pruner.thresholds(curves([1, 1, 1]), True) is None
    found = pruner.thresholds(curves([1] * 9, [2] * 4, [3] * 4, [4] * 2), True)
    assert found.bounds == [[2, 3.0], [4, 3.0]]
    # Nobody need report at the first rungs.
    late = [Curve([[5, float(n)], [10, float(n)]], 1.0) for n in range(4)]
    assert pruner.thresholds(late, True).bounds == [[8, 2.0]]


def test_patience_spares_what_improves_and_what_leads():
    thresholds = make_pruner({"name": "patience", "steps": 2}).thresholds(curves([0.1, 0.8], [0.4]), True)
    assert reason(thresholds, 0.5, 0.5) is None
    assert reason(thresholds, 0.5, 0.5, 0.5)
    assert reason(thresholds, 0.5, 0.5, 0.6) is None
    assert reason(thresholds, 0.8, 0.8, 0.8) is None


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("medain", "Did you mean 'median'"),
        ({"name": "median", "begin": 3}, "'median' has no option 'begin'; it takes ['start', 'warmup']"),
        ({"name": "asha", "eta": 1}, "eta=1"),
        ({"name": "patience", "steps": 0}, "steps=0"),
        (3, "must be a name"),
    ],
)
def test_bad_choices_are_refused_with_a_sentence(choice, words):
    with pytest.raises(ValueError, match="pruner") as raised:
        make_pruner(choice)
    assert words in str(raised.value)


@pytest.mark.parametrize("pruner", [{"name": "median", "start": 3}, {"name": "asha", "eta": 2}])
def test_a_pruned_trial_says_why_and_is_never_the_best(pruner):
    with SerialExecutor() as pool:
        study = Study(SPACE, objectives.climbs, "random", "maximize", 0, pruner=pruner)
        result = study.run(pool, 20, max_failures=1, give_up_after=1)
    pruned = [trial for trial in result.trials if trial.state is TrialState.PRUNED]
    assert 3 < len(pruned) < 20
    assert len(result.trials) == 20, "it is no failure"
    for trial in pruned:
        assert trial.values is None
        assert trial.curve
        assert trial.reason.startswith(f"Pruned: at step {trial.curve[-1][0]} it had come to at best")
    assert result.best_trial.state is TrialState.COMPLETED
    assert result.epochs == 0, "nobody counts epochs here"


@pytest.mark.parametrize("options", [{"fidelity": {"min": 3, "max": 9}}, {}], ids=["fidelity", "epochs"])
def test_nothing_is_stopped_at_its_last_step_since_all_of_it_is_paid_for(options):
    """Without fidelities the objective says which step is the last."""
    with SerialExecutor() as pool:
        study = Study(SPACE, objectives.climbs, "random", seed=0, pruner={"name": "median", "start": 2}, **options)
        result = study.run(pool, 40)
    pruned = [trial for trial in result.trials if trial.state is TrialState.PRUNED]
    assert pruned
    assert all(trial.curve[-1][0] < (trial.fidelity or 9) for trial in pruned)
    late = Context(Trial(0, {}, 0), 0, on_report=stop)
    late.last_step = 3
    with pytest.raises(TrialPruned):
        late.report(2, 0.1)
    late.report(3, 0.1)


def stop(curve):
    raise TrialPruned("it is behind")


def test_reports_are_read_only_where_something_hangs_on_them(tmp_path, monkeypatch):
    reads, read = [], LocalStorage.read
    monkeypatch.setattr(LocalStorage, "read", lambda storage, name: reads.append(name) or read(storage, name))
    for pruner, renews in ((None, True), (make_pruner("median"), False)):
        midway = Midway(LocalStorage(tmp_path), pruner, True, 9, renews)
        midway.open([], {})
        Reporter(midway.place, Trial(1, {}, 0), renews)([[1, 0.5]])
        midway._live._wake.set()
        midway.end(Trial(2, {}, 0), [])
        assert not midway._live._thread.is_alive()
        assert midway.curve_of(Trial(1, {}, 0)) == [[1, 0.5]]
        midway.close(is_finished=True, is_ours=True)
    assert reads == ["live/trial-1-attempt-1.jsonl"] * 2, "only when a trial was asked for that left no result"


def test_thresholds_take_a_small_share_of_the_time_however_many_curves_there_are():
    class Slow(Pruner):
        name = "slow"
        n_made = 0

        def thresholds(self, curves, maximize):
            self.n_made += 1
            began = time.thread_time()
            while time.thread_time() < began + 0.05:
                pass
            return Thresholds(maximize, [[1, float(self.n_made)]])

    for renews, n_made in ((True, 1), (False, 5)):
        midway = Midway(None, pruner := Slow(), True, None, renews)
        try:
            began = time.monotonic()
            found = []
            for number in range(5):
                midway._learn(number, [[1, 0.5]])
                found.append(midway.thresholds()["bounds"][0][1])
            # Twenty times as long as they took they are left as they are, but in deterministic mode.
            assert pruner.n_made == n_made or time.monotonic() > began + 1.0
            assert found[-1] == pruner.n_made
        finally:
            midway.close(is_finished=True, is_ours=True)


def test_an_objective_that_catches_exceptions_is_stopped_all_the_same():
    with SerialExecutor() as pool:
        result = Study(SPACE, objectives.swallows, "random", pruner={"name": "median", "start": 2}, seed=0).run(pool, 8)
    pruned = [trial for trial in result.trials if trial.state is TrialState.PRUNED]
    assert pruned
    assert all(len(trial.curve) < 9 for trial in pruned)


@contextlib.contextmanager
def processes(spark):
    with ProcessExecutor(2) as pool:
        yield pool


@contextlib.contextmanager
def on_spark(spark):
    with SparkExecutor(spark) as pool:
        yield pool


@pytest.mark.parametrize("opened", [processes, on_spark])
@pytest.mark.parametrize("has_folder", [True, False])
def test_a_threshold_that_is_renewed_stops_a_running_trial_at_its_next_epoch(spark, tmp_path, opened, has_folder):
    """The bad trial begins before any other, and has no threshold of its own."""
    log, renewed = tmp_path / "log", []
    space = SearchSpace(x=Choice([0, 1]))

    class Watch:
        def on_trial_end(self, study, trial):
            if trial.state is TrialState.COMPLETED:
                renewed.append(time.time())

    study = Study(
        space, objectives.slow_or_good, "grid", pruner={"name": "median", "start": 2}, seed=0, callbacks=[Watch()],
        out=tmp_path / "run" if has_folder else None, fixed={"log": str(log)},
    )  # fmt: skip
    with opened(spark) as pool:
        result = study.run(pool)
    bad, good = result.trials
    assert (bad.state, good.state) == (TrialState.PRUNED, TrialState.COMPLETED)
    assert result.best_trial == good
    times = [float(line.split()[1]) for line in log.read_text().splitlines()]
    # The driver looks ten times a second; a stalled machine may take longer, but not all of the ten seconds.
    assert sum(when > renewed[0] + 2 for when in times) <= 2
    assert len(bad.curve) <= len(times) + 1


def test_a_renewed_threshold_is_heeded_at_the_very_next_report(tmp_path):
    from hpo_spark.live import Live

    now, heard = {}, []
    live = Live(LocalStorage(tmp_path), lambda number, curve: heard.append((number, curve)), lambda: now or None, True)
    live.open()
    try:
        reporter = Reporter(live.place, Trial(4, {}, 0), renews=True)
        reporter([[1, 0.1]])
        now.update(Thresholds(True, [[2, 0.5]]).to_dict())
        deadline = time.monotonic() + 30
        while not (heard and (tmp_path / "live" / "thresholds.json").exists()) and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(TrialPruned, match="threshold 0.5"):
            reporter([[1, 0.1], [2, 0.2]])
        assert live.curve_of(4) == [[1, 0.1], [2, 0.2]]
        fixed = Reporter(live.place, Trial(5, {}, 0), renews=False)
        fixed([[2, 0.1]])
    finally:
        live.close(sweeps=True)
    assert heard[0][0] == 4
    assert not (tmp_path / "live").exists()


@pytest.mark.parametrize("opened", [processes, on_spark])
def test_the_curve_of_a_trial_that_dies_is_kept(spark, tmp_path, opened):
    space = SearchSpace(how=Choice(["crash", "raise"]))
    with opened(spark) as pool:
        result = Study(space, objectives.dies, "grid", seed=0, out=tmp_path / "run").run(pool, give_up_after=None)
    assert [trial.state for trial in result.trials] == [TrialState.CRASHED, TrialState.FAILED]
    for trial in result.trials:
        assert trial.curve == [[1, 0.1], [2, 0.2], [3, 0.3]]


def test_the_curve_of_a_trial_that_runs_too_long_is_kept(tmp_path):
    with ProcessExecutor(1, task_timeout_s=1.0) as pool:
        space = SearchSpace(how=Choice(["hang", "end"]))
        result = Study(space, objectives.dies, "grid", seed=0, out=tmp_path / "run").run(pool)
    assert [trial.state for trial in result.trials] == [TrialState.TIMED_OUT, TrialState.COMPLETED]
    assert result.trials[0].curve == [[1, 0.1], [2, 0.2], [3, 0.3]]


@pytest.mark.parametrize("pruner", ["median", "asha", {"name": "patience", "steps": 2}], ids=str)
def test_deterministic_searches_prune_alike_whatever_runs_them(tmp_path, pruner):
    def search(pool, out=None):
        study = Study(SPACE, objectives.climbs, "random", seed=2, pruner=pruner, deterministic=True, out=out)
        return [(t.number, t.params, t.state, t.values, t.curve) for t in study.run(pool, 24).trials]

    with SerialExecutor() as serial, ProcessExecutor(2) as processes:
        tables = [search(serial), search(serial, tmp_path / "run"), search(processes)]
    assert tables[0] == tables[1] == tables[2]
    assert any(row[2] is TrialState.PRUNED for row in tables[0]) == (pruner in ("median", "asha")), "none stands still"


def test_pruning_and_fidelities_go_together(tmp_path):
    with ProcessExecutor(2) as pool:
        study = Study(
            SPACE, objectives.climbs, "asha", seed=0, out=tmp_path / "run", pruner="median", fidelity={"max": 9}
        )
        result = study.run(pool, max_epochs=80)
    assert TrialState.PRUNED in {trial.state for trial in result.trials}
    assert result.best_trial.fidelity == 9
    assert result.epochs <= 80


def test_optuna_knows_what_was_pruned_where():
    optuna = pytest.importorskip("optuna")
    curve = [[1, 0.3], [2, 0.4]]
    pruned = Trial(0, {"x": 0.5}, 0, state=TrialState.PRUNED, curve=curve, error="Pruned: at step 2.")
    study = to_optuna([pruned], SPACE, ["maximize"], "pruned")
    assert study.trials[0].state is optuna.trial.TrialState.PRUNED
    assert study.trials[0].intermediate_values == {1: 0.3, 2: 0.4}
    assert from_optuna(study, SPACE) == [pruned]
    searcher = make_searcher("optuna:TPESampler", SPACE, ("maximize",), 0)
    searcher.tell(pruned)
    (entry,) = searcher._timeline.entries
    frozen = searcher._frozen_trial(1, entry)
    assert (frozen.state, frozen.value, frozen.intermediate_values) == (optuna.trial.TrialState.PRUNED, 0.4, {2: 0.4})


def test_for_other_searchers_a_pruned_trial_is_worse_than_all_that_have_a_value():
    searcher = make_searcher("evolution", SPACE, ("maximize",), 0)
    searcher.tell(Trial(0, {"x": 0.1}, 0, state=TrialState.PRUNED, curve=[[1, 9.0]]))
    searcher.tell(Trial(1, {"x": 0.2}, 0, state=TrialState.COMPLETED, values=[0.1]))
    assert [known.trial.number for known in searcher.history.ranked] == [1, 0]
