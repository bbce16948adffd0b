"""Trials that are trained together: each is a trial of its own, whatever becomes of the others."""

import os
import signal
import threading
import time
from collections import Counter

import pytest

from hpo_spark import (
    CannotFuse,
    Choice,
    ConfigError,
    Float,
    Fuse,
    Int,
    ProcessExecutor,
    SearchSpace,
    SerialExecutor,
    SparkExecutor,
    Study,
    TrialState,
)
from hpo_spark.groups import Groups
from hpo_spark.journal import read_record
from hpo_spark.objectives.evaluate import Evaluation
from hpo_spark.report.slots import rows_of

SPACE = SearchSpace(x=Float(0, 1), kind=Choice(["a", "b"]))


class Squares:
    """Trials of one kind are evaluated together; `evaluate_one` says what becomes of each."""

    def __init__(self, refuses=()):
        self.refuses = refuses

    def __call__(self, params, context):
        return self.evaluate_one(params, context, 1)

    def fuse_key(self, params):
        return params["kind"]

    def evaluate_many(self, params_list, contexts):
        if params_list[0]["kind"] in self.refuses:
            raise CannotFuse(f"{params_list[0]['kind']} cannot be stacked")
        outcomes = []
        for params, context in zip(params_list, contexts, strict=True):
            try:
                outcomes.append(self.evaluate_one(params, context, len(params_list)))
            except BaseException as error:
                outcomes.append(error)
        return outcomes

    def evaluate_one(self, params, context, n):
        context.report(1, params["x"])
        return {"value": params["x"] ** 2, "together": n}


@pytest.fixture(scope="module")
def two():
    with ProcessExecutor(2) as executor:
        yield executor


def run(executor, objective=None, searcher="random", max_trials=20, **options):
    study = Study(SPACE, objective or Squares(), searcher, "minimize", 1, **options)
    return study.run(executor, max_trials)


def together(result):
    return [trial.metrics["together"] for trial in result.trials]


def test_members_are_trials_of_their_own(two):
    fused, alone = run(two), run(two, fuse="off")
    plain = [
        [(t.number, t.params, t.seed, t.values, t.curve, t.state, t.attempt) for t in result.trials]
        for result in (fused, alone)
    ]
    assert plain[0] == plain[1]
    assert set(together(alone)) == {1}
    assert min(together(fused)) > 1
    groups = Counter(tuple(trial.group) for trial in fused.trials)
    assert all(size == n for (_, size), n in groups.items())
    assert len({trial.params["kind"] for trial in fused.trials if trial.group == fused.trials[0].group}) == 1
    assert all(trial.group is None for trial in alone.trials)
    assert fused.best_trial.number == alone.best_trial.number


def test_the_time_of_a_group_is_shared_out(two):
    class Slow(Squares):
        def evaluate_many(self, params_list, contexts):
            time.sleep(0.2)
            return super().evaluate_many(params_list, contexts)

    result = run(two, Slow(), max_trials=8)
    for group in {tuple(trial.group) for trial in result.trials}:
        seconds = sum(trial.seconds for trial in result.trials if tuple(trial.group) == group)
        assert 0.2 <= seconds < 2
    assert len(rows_of(result.trials)) <= 2


def test_slots_and_window_count_tasks(two):
    result = run(two, max_trials=64)
    # Two kinds on two slots: a task for each.
    assert len({tuple(trial.group) for trial in result.trials}) == 2


def test_max_group_and_memory_bound_a_group(two):
    class Heavy(Squares):
        def fuse_bytes(self, params):
            return 100e6

    assert max(together(run(two, fuse={"max_group": 3}))) == 3
    assert max(together(run(two, Heavy(), fuse={"memory_mb": 500}))) == 5
    with ProcessExecutor(1, memory_mb=800) as small:
        assert max(together(run(small, Heavy()))) == 4


def test_searchers_that_learn_are_asked_for_few_trials_at_once(two):
    evaluation = Evaluation(Squares(), 1, {}, keeps_models=False)
    groups = Groups(two, evaluation, Fuse(max_group=20), None, {"x": 0.5, "kind": "a"})
    assert [groups.size(True, n_ended) for n_ended in (0, 1, 19, 20, 40, 400)] == [5, 4, 4, 5, 10, 20]
    assert groups.size(False, 0) == 20


def test_a_member_that_fails_is_alone_in_it(two):
    class Some(Squares):
        def evaluate_one(self, params, context, n):
            if params["x"] < 0.3:
                raise ValueError("too small")
            return super().evaluate_one(params, context, n)

    result = run(two, Some())
    failed = [trial for trial in result.trials if trial.state is TrialState.FAILED]
    assert {trial.number for trial in failed} == {t.number for t in result.trials if t.params["x"] < 0.3}
    assert all(trial.reason == "ValueError: too small" for trial in failed)
    assert all(trial.value is not None for trial in result.trials if trial not in failed)


def test_a_pruned_member_stops_alone(two):
    class Long(Squares):
        def evaluate_one(self, params, context, n):
            for step in range(1, 6):
                context.report(step, params["x"])
            return {"value": params["x"], "together": n}

    result = run(two, Long(), max_trials=40, pruner={"name": "median", "start": 4}, fuse={"max_group": 8})
    pruned = [trial for trial in result.trials if trial.state is TrialState.PRUNED]
    assert pruned
    assert any(trial.group is not None and len(trial.curve) < 5 for trial in pruned)
    assert result.best_trial.state is TrialState.COMPLETED


def test_what_cannot_be_fused_runs_alone_once_that_is_known(two, caplog):
    caplog.set_level("INFO")
    result = run(two, Squares(refuses=("a",)), max_trials=60, fuse={"max_group": 5})
    for trial in result.trials:
        assert (trial.metrics["together"] == 1) == (trial.params["kind"] == "a" or trial.group is None)
        assert trial.attempt == 1
        assert trial.value == trial.params["x"] ** 2
    assert caplog.text.count("a cannot be stacked") == 1


def test_a_member_can_be_refused_alone(two):
    class Picky(Squares):
        def evaluate_one(self, params, context, n):
            if n > 1 and params["x"] > 0.8:
                raise CannotFuse("too large to gain")
            return super().evaluate_one(params, context, n)

    result = run(two, Picky(), max_trials=10)
    assert [trial.value for trial in result.trials] == [trial.params["x"] ** 2 for trial in result.trials]


def test_a_wrong_number_of_outcomes_is_noticed(two):
    class Short(Squares):
        def evaluate_many(self, params_list, contexts):
            return super().evaluate_many(params_list, contexts)[1:]

    result = run(two, Short(), max_trials=10)
    assert set(together(result)) == {1}


def test_an_error_of_the_group_costs_no_trial(two):
    class Broken(Squares):
        def evaluate_many(self, params_list, contexts):
            raise RuntimeError("a bug in here")

    result = run(two, Broken(), max_trials=10)
    assert set(together(result)) == {1}
    assert all(trial.attempt == 1 for trial in result.trials)


def test_a_group_whose_worker_dies_costs_each_member_one_attempt(two):
    class Deadly(Squares):
        def evaluate_many(self, params_list, contexts):
            if params_list[0]["kind"] == "a":
                os.kill(os.getpid(), signal.SIGKILL)
            return super().evaluate_many(params_list, contexts)

    result = run(two, Deadly(), max_trials=12)
    for trial in result.trials:
        assert trial.value == trial.params["x"] ** 2
        assert trial.attempt == (2 if trial.params["kind"] == "a" else 1)
        assert (trial.metrics["together"] == 1) == (trial.params["kind"] == "a")


def test_a_group_that_takes_too_long_runs_apart():
    class Stuck(Squares):
        def evaluate_many(self, params_list, contexts):
            time.sleep(600)

    with ProcessExecutor(2, task_timeout_s=0.5) as executor:
        result = run(executor, Stuck(), max_trials=4)
    assert [trial.value for trial in result.trials] == [trial.params["x"] ** 2 for trial in result.trials]
    assert all(trial.attempt == 1 for trial in result.trials)


def test_members_may_take_the_time_of_all_of_them():
    class Steady(Squares):
        def evaluate_one(self, params, context, n):
            time.sleep(0.3)
            return super().evaluate_one(params, context, n)

    with ProcessExecutor(1, task_timeout_s=0.8) as executor:
        result = run(executor, Steady(), max_trials=8)
    assert max(together(result)) > 2
    assert all(trial.state is TrialState.COMPLETED for trial in result.trials)


def test_cancelling_a_member_costs_the_others_nothing(tmp_path):
    class Endless(Squares):
        def evaluate_many(self, params_list, contexts):
            (tmp_path / "begun").touch()
            time.sleep(600)

    study = Study(SearchSpace(x=Float(0, 1), kind=Choice(["a"])), Endless(), "random", "minimize", 1)

    def cancel():
        while not (tmp_path / "begun").exists() or not study.cancel(1):
            time.sleep(0.02)

    thread = threading.Thread(target=cancel)
    thread.start()
    with ProcessExecutor(1) as one:
        result = study.run(one, 6)
    thread.join()
    assert result.trials[1].state is TrialState.CANCELLED
    others = [trial for trial in result.trials if trial.number != 1]
    assert all(trial.value == trial.params["x"] ** 2 and trial.attempt == 1 for trial in others)
    assert {trial.metrics["together"] for trial in others} == {1}


class Modelled(Squares):
    """Keeps models of members that no member beats, as far as it is told."""

    def evaluate_one(self, params, context, n):
        value = params["x"] ** 2 + context.seed % 1000 * 1e-3
        if n == 1 and context.keeps_model(value):
            context.keep_model(b"model of %d among 1" % context.number)
        return {"value": value, "together": n}

    def evaluate_many(self, params_list, contexts):
        outcomes = super().evaluate_many(params_list, contexts)
        pairs = [*zip(contexts, outcomes, strict=True)]
        leaders = [pair for pair in pairs if pair[0].keeps_model(pair[1]["value"])]
        for context, outcome in leaders:
            if context.keeps_model(outcome["value"]):
                context.keep_model(b"model of %d among %d" % (context.number, outcome["together"]))
        return outcomes


def test_only_the_best_member_sends_its_model(tmp_path):
    result = Study(SPACE, Modelled(), "random", "minimize", 1, tmp_path).run(SerialExecutor(), 12)
    assert result.trials[0].group is not None
    assert result.best_model == kept_of(result.best_trial)
    assert len(list((tmp_path / "best").glob("model*"))) == 1


def kept_of(trial):
    return b"model of %d among %d" % (trial.number, trial.metrics["together"])


def test_the_model_of_the_repeat_that_counts_is_kept_and_not_made_again():
    companies = set()
    for seed in range(6):
        study = Study(SPACE, Modelled(), "random", "minimize", seed, confirm={"top_k": 4, "repeats": 3})
        best = (result := study.run(SerialExecutor(), 12)).best_trial
        assert result.best_model == kept_of(best)
        companies.add(best.metrics["together"])
    assert max(companies) > 1


@pytest.mark.parametrize(
    "searcher", ["evolution", "de", {"name": "genetic", "population": 6}, {"name": "grid", "points": 20}], ids=str
)
def test_searchers_propose_distinct_points_at_once(searcher, two):
    space = SearchSpace(x=Int(0, 30), kind=Choice(["a", "b"]))
    result = Study(space, Squares(), searcher, "minimize", 2).run(two, 30)
    assert len({space.key(trial.params) for trial in result.trials}) == len(result.trials) == 30
    assert max(together(result)) > 1


def test_a_slow_searcher_waits_for_company_only_so_long(two):
    from hpo_spark.searchers.random import RandomSearcher

    class Slow(RandomSearcher):
        is_slow = True
        learns = True

        def _propose(self, rng):
            time.sleep(0.05)
            return super()._propose(rng)

    result = run(two, searcher=Slow(SPACE, ("minimize",), 1), max_trials=24, fuse=Fuse(max_group=8, wait_s=0.5))
    assert max(together(result)) > 1
    began = time.monotonic()
    run(two, searcher=Slow(SPACE, ("minimize",), 1), max_trials=3, fuse=Fuse(wait_s=0))
    assert time.monotonic() - began < 60


def test_repeats_are_trained_together(two):
    result = run(two, max_trials=12, confirm={"top_k": 4, "repeats": 2})
    repeats = [trial for trial in result.trials if trial.repeat is not None]
    assert len(repeats) == 8
    assert any(trial.group is not None for trial in repeats)
    for trial in repeats:
        company = [other.repeat for other in repeats if other.group == trial.group]
        assert trial.group is None or set(company) == {trial.repeat}


def table(result):
    return [(t.number, t.params, t.seed, t.state, t.values, t.group) for t in result.trials]


class Blended(Squares):
    """What a member comes to depends on its company a little, as sums of floats do."""

    def evaluate_many(self, params_list, contexts):
        shift = 1e-9 * sum(params["x"] for params in params_list)
        outcomes = super().evaluate_many(params_list, contexts)
        return [{**outcome, "value": outcome["value"] + shift} for outcome in outcomes]


@pytest.mark.parametrize("searcher", ["evolution", "random"])
def test_groups_are_fixed_in_deterministic_mode(searcher, two):
    tables = []
    with ProcessExecutor(5) as five:
        for executor in (SerialExecutor(), two, five):
            tables.append(table(run(executor, Blended(), searcher, 30, deterministic=True)))
    assert tables[0] == tables[1] == tables[2]
    assert any(row[-1] is not None for row in tables[0])


def test_a_deterministic_study_goes_on_with_its_groups_wherever_it_was_cut(tmp_path, two):
    options = {"searcher": "evolution", "max_trials": 20, "deterministic": True}
    run(SerialExecutor(), Blended(), out=tmp_path / "whole", **options)
    whole = read_record(tmp_path / "whole").trials
    lines = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for n_lines in range(1, len(lines)):
        out = tmp_path / f"cut-{n_lines}"
        out.mkdir()
        (out / "journal.jsonl").write_bytes(b"".join(lines[:n_lines]))
        run(SerialExecutor(), Blended(), out=out, resume=True, **options)
        assert [(t.number, t.params, t.values, t.group) for t in read_record(out).trials] == [
            (t.number, t.params, t.values, t.group) for t in whole
        ]


def test_a_study_that_was_cut_forms_new_groups(tmp_path, two):
    run(two, out=tmp_path, max_trials=30)
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    result = run(two, out=tmp_path, max_trials=30, resume=True)
    assert [trial.number for trial in result.trials] == list(range(30))
    assert all(trial.value == trial.params["x"] ** 2 for trial in result.trials)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("on", "auto, off"),
        ({"size": 3}, "no option 'size'"),
        ({"max_group": 1}, "2 or more"),
        ({"memory_mb": 0}, "above 0"),
        ({"wait_s": -1}, "0 or more"),
    ],
    ids=str,
)
def test_wrong_options_are_refused_in_words(choice, words):
    with pytest.raises(ConfigError, match=words):
        Study(SPACE, Squares(), fuse=choice)


def test_groups_are_tasks_of_spark(spark):
    with SparkExecutor(spark) as executor:
        result = run(executor, max_trials=30)
    assert min(together(result)) > 1
    assert [trial.value for trial in result.trials] == [trial.params["x"] ** 2 for trial in result.trials]


@pytest.mark.parametrize("searcher", ["evolution", "random"])
def test_trials_without_company_are_submitted_as_ever(two, caplog, searcher):
    class Loner(Squares):
        def fuse_key(self, params):
            return None

        def why_alone(self, params):
            return "it likes to be"

    caplog.set_level("INFO")
    most = 0

    def watch(study, trial):
        nonlocal most
        most = max(most, study.n_running)

    study = Study(SPACE, Loner(), searcher, "minimize", 1, callbacks=[watch])
    study.run(two, 20)
    assert most <= two.window
    assert caplog.text.count("it likes to be") == 1


@pytest.mark.parametrize("key", [lambda params: [], lambda params: 1 / 0], ids=["unhashable", "raises"])
def test_a_wrong_key_leaves_trials_alone(two, key):
    class Wrong(Squares):
        def fuse_key(self, params):
            return key(params)

    assert set(together(run(two, Wrong(), max_trials=6))) == {1}


@pytest.mark.parametrize("n_bytes", [lambda: 0, lambda: 1 / 0], ids=["nothing", "raises"])
def test_a_wrong_size_ends_nothing(two, n_bytes):
    class Wrong(Squares):
        def fuse_bytes(self, params):
            return n_bytes()

    assert len(run(two, Wrong(), max_trials=6).trials) == 6


def test_a_group_that_exits_ends_no_program():
    class Exits(Squares):
        def evaluate_many(self, params_list, contexts):
            raise SystemExit(3)

    assert set(together(run(SerialExecutor(), Exits(), max_trials=6))) == {1}


def test_stopping_while_a_cancelled_member_is_settled_ends_the_study(two):
    class Stops:
        def on_trial_start(self, study, trial):
            if trial.number == 0:
                study.cancel(0)

        def on_trial_end(self, study, trial):
            study.stop()

    study = Study(SPACE, Squares(), "random", "minimize", 1, callbacks=[Stops()])
    result = study.run(two, 12)
    assert len(result.trials) == 12
    assert result.trials[0].state is TrialState.CANCELLED


def test_cheap_groups_do_not_shorten_the_time_of_dear_ones():
    class Uneven(Squares):
        def evaluate_many(self, params_list, contexts):
            time.sleep(0.3 * len(params_list) if params_list[0]["kind"] == "b" else 0)
            return super().evaluate_many(params_list, contexts)

    with ProcessExecutor(1, task_timeout_s=0.8) as executor:
        result = run(executor, Uneven(), max_trials=30, fuse={"max_group": 4})
    dear = [trial for trial in result.trials if trial.params["kind"] == "b" and trial.group is not None]
    assert len(dear) > 4
    assert all(trial.metrics["together"] > 1 for trial in dear)


def test_a_trial_that_begins_again_has_reported_nothing_before(tmp_path):
    class Late(Squares):
        def evaluate_many(self, params_list, contexts):
            for context in contexts:
                for step in (1, 2, 3):
                    context.report(step, 0.9)
            raise CannotFuse("they are no company")

    result = run(SerialExecutor(), Late(), max_trials=6, out=tmp_path, pruner={"name": "median", "start": 100})
    assert [trial.curve for trial in result.trials] == [[[1, trial.params["x"]]] for trial in result.trials]


def test_waiting_proposals_do_not_exceed_the_limit(two):
    from hpo_spark.searchers.random import RandomSearcher

    class Slow(RandomSearcher):
        is_slow = learns = True

        def _propose(self, rng):
            time.sleep(0.02)
            return super()._propose(rng)

    study = Study(SPACE, Squares(), Slow(SPACE, ("minimize",), 1), "minimize", 1, fuse=Fuse(wait_s=5))
    stop = threading.Event()

    def enqueue():
        for n in range(4):
            stop.wait(0.03)
            study.enqueue({"x": n / 7, "kind": "a"})

    thread = threading.Thread(target=enqueue)
    thread.start()
    result = study.run(two, 10)
    thread.join()
    assert len(result.trials) == 10


def test_groups_that_have_no_company_again_and_again_are_not_tried_for_ever():
    tried = []

    class Strangers(Squares):
        def evaluate_many(self, params_list, contexts):
            tried.append(len(params_list))
            raise CannotFuse("no two of them are alike", for_key=False)

    space = SearchSpace(x=Float(0, 1), kind=Choice(["a"]))
    study = Study(space, Strangers(), "random", "minimize", 1, fuse={"max_group": 4})
    assert len(study.run(SerialExecutor(), 30).trials) == 30
    assert len(tried) == 2
