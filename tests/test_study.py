import json
import logging
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from hpo_spark import (
    Callback,
    Choice,
    EvaluationError,
    Float,
    FunctionObjective,
    Int,
    ProcessExecutor,
    SearchSpace,
    SerialExecutor,
    Study,
    TrialState,
)
from hpo_spark.journal import read_trials

SPACE = SearchSpace(x=Float(-5.0, 5.0), n=Int(1, 3))


def sphere(params):
    return params["x"] ** 2 + params["n"]


def run(objective=sphere, space=SPACE, searcher="random", direction="minimize", seed=0, limits=None, **options):
    study = Study(space, objective, searcher, direction, seed, **options)
    with SerialExecutor() as executor:
        return study.run(executor, **({"max_trials": 12} if limits is None else limits))


def table(result):
    return [(t.number, t.params, t.fidelity, t.seed, t.state, t.values) for t in result.trials]


def test_the_best_is_found_in_either_direction():
    low, high = run(), run(direction="maximize")
    values = [sphere(trial.params) for trial in low.trials]
    assert low.best_trial.value == min(values)
    assert low.best_trial.params == low.trials[values.index(min(values))].params
    assert high.best_trial.value == max(sphere(trial.params) for trial in high.trials)
    assert low.best_trials == [low.best_trial]
    assert low.state == "finished"
    assert low.counts == {"COMPLETED": 12}


def test_numbers_count_and_seeds_follow_the_study():
    result = run()
    assert [trial.number for trial in result.trials] == list(range(12))
    assert len({trial.seed for trial in result.trials}) == 12
    assert table(run()) == table(result)
    assert table(run(seed=1)) != table(result)


def test_an_objective_may_take_a_context():
    def objective(params, context):
        for step in range(3):
            context.report(step, params["x"] * step)
        return {"value": context.number, "seed": context.seed, "fidelity": context.fidelity, "data": context.data}

    result = run(objective)
    for trial in result.trials:
        assert trial.values == [float(trial.number)]
        assert trial.metrics == {"seed": trial.seed, "fidelity": None, "data": None}
        assert trial.curve == [[step, pytest.approx(trial.params["x"] * step)] for step in range(3)]


def test_global_generators_follow_the_trials_seed():
    import random

    import numpy as np

    def objective(params):
        return {"value": random.random(), "numpy": np.random.rand()}

    random.seed(1)
    first = run(objective)
    assert random.random() == random.Random(1).random()
    random.seed(2)
    assert table(run(objective)) == table(first)
    assert len({trial.value for trial in first.trials}) == 12


def test_constants_are_passed_with_the_params():
    result = run(lambda params: params["x"] * 0 + params["offset"], fixed={"offset": 3})
    assert result.best_trial.value == 3
    assert "offset" not in result.best_trial.params


def test_several_objectives_give_a_pareto_front():
    def objective(params):
        return params["x"], params["x"] ** 2

    result = run(objective, direction=["minimize", "maximize"])
    points = [tuple(trial.values) for trial in result.trials]
    front = {(a, b) for a, b in points if not any(c <= a and d >= b and (c, d) != (a, b) for c, d in points)}
    assert {tuple(trial.values) for trial in result.best_trials} == front
    assert result.best_trial.values[0] == min(a for a, _ in points)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ("high", "'high'"),
        (None, "None"),
        (True, "True"),
        ({"loss": 1.0}, "key 'value'"),
        ((1.0, 2.0), "2 value(s)"),
        ([], "0 value(s)"),
        (1j, "1j"),
    ],
)
def test_what_is_no_value_fails_its_trial_with_a_reason(returned, words):
    result = run(lambda params: returned if params["n"] == 2 else 1.0)
    failed = [trial for trial in result.trials if trial.params["n"] == 2]
    assert failed
    assert all(trial.state is TrialState.FAILED and trial.values is None for trial in failed)
    assert all(words in trial.reason for trial in failed)
    assert len(result.trials) == 12
    assert result.state == "finished"


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(3), KeyError("boom"), AssertionError()])
def test_a_raise_fails_its_trial_with_its_traceback(error):
    def objective(params):
        if params["n"] == 2:
            raise error
        return 1.0

    result = run(objective)
    failed = [trial for trial in result.trials if trial.params["n"] == 2]
    assert all(trial.state is TrialState.FAILED for trial in failed)
    assert all(type(error).__name__ in trial.reason for trial in failed)
    assert all("in objective" in trial.error for trial in failed)
    assert len(result.trials) == 12


def test_when_all_fail_the_first_cause_is_told():
    def objective(params):
        raise ValueError(f"no luck with {params['n']}")

    result = run(objective, limits={"max_trials": 8})
    assert result.state == "failed"
    with pytest.raises(EvaluationError, match="no luck") as raised:
        result.best_trial  # noqa: B018
    assert "8 of 8 trials failed" in str(raised.value)
    assert "Trial 0" in str(raised.value)


def test_a_configuration_is_never_evaluated_twice():
    space = SearchSpace(a=Choice([1, 2, 3]), b=Choice([True, False]))
    calls = []
    study = Study(space, lambda params: calls.append(params) or 1.0, "random", seed=0)
    study.enqueue({"a": 1, "b": True})
    study.enqueue({"a": 1, "b": True})
    with SerialExecutor() as executor:
        result = study.run(executor, max_trials=50)
    assert len(calls) == len(result.trials) == 6
    assert result.reason == "the searcher has finished"


def test_known_points_go_first():
    points = [{"x": 1.5, "n": 2}, {"x": -1.5, "n": 3}]
    result = run(x0=points)
    assert [trial.params for trial in result.trials[:2]] == points
    with pytest.raises(ValueError, match="'n'"):
        run(x0=[{"x": 1.0}])


def test_points_can_be_enqueued_while_it_runs():
    class Enqueue(Callback):
        def on_trial_end(self, study, trial):
            if trial.number == 3:
                study.enqueue({"x": 0.125, "n": 1})

    result = run(callbacks=[Enqueue()])
    assert result.trials[4].params == {"x": 0.125, "n": 1}


def test_it_can_be_stopped_from_a_callback_and_from_a_thread():
    def stop(study, trial):
        if trial.number == 4:
            study.stop()

    result = run(callbacks=[stop])
    assert len(result.trials) == 5
    assert result.reason == "stopped by the user"

    study = Study(SPACE, slow, "random", seed=0)
    threading.Timer(0.5, study.stop).start()
    with ProcessExecutor(2) as executor:
        result = study.run(executor, max_trials=1000)
    assert 0 < len(result.trials) < 100
    assert result.state == "finished"


def slow(params):
    time.sleep(0.1)
    return 1.0


def test_one_trial_can_be_cancelled():
    def cancel(study, trial):
        assert study.cancel(trial.number) is False  # it has ended
        if trial.number == 0:
            threading.Timer(0.5, study.cancel, [2]).start()

    study = Study(SPACE, sleep_in_the_third, "random", "minimize", 0, callbacks=[cancel])
    with ProcessExecutor(2) as executor:
        result = study.run(executor, max_trials=6)
    assert result.trials[2].state is TrialState.CANCELLED
    assert result.counts == {"COMPLETED": 5, "CANCELLED": 1}


def sleep_in_the_third(params, context):
    time.sleep(60 if context.number == 2 else 0)
    return 1.0


def exit_once(params, context):
    if context.number == 1:
        os._exit(5)
    return 1.0


def test_a_crash_is_tried_once_more_and_then_recorded():
    study = Study(SPACE, exit_once, "random", "minimize", 0)
    with ProcessExecutor(1) as executor:
        result = study.run(executor, max_trials=4)
    assert result.trials[1].state is TrialState.CRASHED
    assert result.trials[1].attempt == 2
    assert "exited with code 5" in result.trials[1].reason
    assert result.counts == {"COMPLETED": 3, "CRASHED": 1}


def test_a_trial_past_its_time_is_recorded():
    study = Study(SPACE, sleep_in_the_third, "random", "minimize", 0)
    with ProcessExecutor(2, task_timeout_s=1.0) as executor:
        result = study.run(executor, max_trials=4)
    assert result.trials[2].state is TrialState.TIMED_OUT
    assert result.counts == {"COMPLETED": 3, "TIMED_OUT": 1}


@pytest.mark.parametrize(
    ("limits", "n", "reason"),
    [
        ({"max_trials": 7}, 7, "max_trials=7"),
        ({"target": 2.0, "max_trials": 500}, None, "target=2"),
        ({"patience": 5, "max_trials": 500}, None, "patience=5"),
        ({"max_failures": 2, "max_trials": 500}, None, "max_failures=2"),
        ({"max_epochs": 30}, 10, "max_epochs=30"),
        ({"timeout_s": 0.3}, None, "timeout_s=0.3"),
        ({}, 60, "max_trials=60"),
    ],
)
def test_limits_end_the_study(limits, n, reason):
    def objective(params):
        if params["n"] == 2:
            raise ValueError("two")
        if "timeout_s" in limits:
            time.sleep(0.01)
        return {"value": sphere(params), "epochs": 3}

    def three_epochs(params):
        return {"value": sphere(params), "epochs": 3}

    result = run(three_epochs if "max_epochs" in limits else objective, limits=limits)
    assert reason in result.reason
    assert len(result.trials) == n or n is None
    if "target" in limits:
        assert result.best_trial.value <= 2.0
    if "max_failures" in limits:
        assert result.counts["FAILED"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"direction": "up"}, "'up'"),
        ({"direction": []}, "direction"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"fixed": {"x": 1}}, "'x'"),
        ({"space": {"x": 1}}, "SearchSpace"),
        ({"objective": 3}, "objective"),
        ({"limits": {"max_trials": 0}}, "max_trials=0"),
        ({"limits": {"max_trials": "7"}}, "max_trials"),
        ({"limits": {"timeout_s": -1}}, "timeout_s=-1"),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        run(**arguments)


def test_callbacks_hear_everything_and_may_fail(caplog):
    heard = []

    class Recorder(Callback):
        def on_study_start(self, study):
            heard.append("start")

        def on_trial_start(self, study, trial):
            assert trial.state is TrialState.RUNNING
            heard.append(f"ask {trial.number}")

        def on_trial_end(self, study, trial):
            assert trial in study.trials
            heard.append(f"tell {trial.number}")
            raise RuntimeError("a bad plot")

        def on_study_end(self, study, result):
            heard.append(result.state)

    class Partial:
        def on_trial_end(self, study, trial):
            heard.append("partial")

    with caplog.at_level(logging.ERROR):
        run(callbacks=[Recorder(), Partial()], limits={"max_trials": 2})
    assert heard == ["start", "ask 0", "tell 0", "partial", "ask 1", "tell 1", "partial", "finished"]
    assert "a bad plot" in caplog.text


def test_any_standard_pool_will_do():
    in_series = table(run(searcher={"name": "genetic", "population": 4}))
    for pool in (ThreadPoolExecutor(1), ProcessPoolExecutor(2)):
        with pool:
            study = Study(
                SPACE,
                lambda params: params["x"] ** 2 + params["n"],
                {"name": "genetic", "population": 4},
                "minimize",
                0,
            )
            assert table(study.run(pool, max_trials=12)) == in_series


def test_an_objective_that_cannot_travel_is_named_and_nothing_runs():
    lock = threading.Lock()

    def objective(params):
        with lock:
            return 1.0

    for executor in (ProcessExecutor(1), ProcessPoolExecutor(1)):
        study = Study(SPACE, objective, "random", seed=0)
        with executor, pytest.raises(TypeError, match="'lock'"):
            study.run(executor, max_trials=3)
        assert study.trials == []


def test_ctrl_c_ends_the_search_and_keeps_what_it_found(tmp_path):
    def interrupt(params, context):
        if context.number == 3:
            raise KeyboardInterrupt
        return 1.0

    result = run(interrupt, out=tmp_path / "run")
    assert result.state == "interrupted"
    assert result.counts == {"COMPLETED": 3, "CANCELLED": 1}
    assert result.seconds < 5
    assert json.loads((tmp_path / "run" / "result.json").read_text())["state"] == "interrupted"


def test_a_study_runs_once():
    study = Study(SPACE, sphere, "random", "minimize", 0)
    with SerialExecutor() as executor:
        study.run(executor, max_trials=1)
        with pytest.raises(RuntimeError, match="runs once"):
            study.run(executor, max_trials=1)


def test_the_run_folder_tells_the_story(tmp_path):
    def objective(params):
        if params["n"] == 2:
            raise ValueError("two is bad")
        return {"value": sphere(params), "loss": float("nan")}

    out = tmp_path / "deep" / "run"
    result = run(objective, out=out, name="a study", fixed={"k": 1})
    lines = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    assert [lines[0]["kind"], lines[0]["format"], lines[0]["seed"]] == ["study", 2, 0]
    assert [line["number"] for line in lines if line["kind"] == "ask"] == list(range(12))
    again = read_trials(out / "journal.jsonl")
    assert [str(trial) for trial in again] == [str(trial) for trial in result.trials]
    written = json.loads((out / "result.json").read_text())
    assert written["state"] == "finished"
    assert written["study"] == "a study"
    assert written["best_trial"]["params"] == result.best_trial.params
    assert written["best_trial"]["value"] == result.best_trial.value
    assert written["counts"] == result.counts
    assert written["trials"] == 12
    assert {"seconds", "slot_use", "epochs", "test", "versions", "best_trials"} <= written.keys()
    rows = (out / "trials.csv").read_text().splitlines()
    assert len(rows) == 13
    assert "param:x" in rows[0]
    assert "two is bad" in "".join(rows)
    from hpo_spark import yaml

    assert yaml.load((out / "best" / "params.yaml").read_text()) == {"k": 1, **result.best_trial.params}
    assert yaml.load((out / "study.yaml").read_text())["study"]["seed"] == 0
    failed = next(trial for trial in result.trials if trial.values is None)
    assert "two is bad" in (out / "logs" / f"trial-{failed.number}.log").read_text()


def test_a_folder_that_holds_a_study_is_not_overwritten(tmp_path):
    run(out=tmp_path)
    before = (tmp_path / "journal.jsonl").read_bytes()
    with pytest.raises(ValueError, match="holds a study already"):
        run(out=tmp_path)
    assert (tmp_path / "journal.jsonl").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"file/run cannot be written"):
        run(out=tmp_path / "file" / "run")


def test_a_function_may_have_data():
    def objective(params, context):
        assert context.data.train.x.shape == (85, 2)
        return float(len(context.data.validation))

    import numpy as np

    data = (np.zeros((100, 2)), np.zeros(100))
    result = run(FunctionObjective(objective, data=data, validation=0.15))
    assert result.best_trial.value == 15


def test_what_a_failed_trial_printed_is_in_its_record(tmp_path):
    study = Study(SPACE, print_and_raise, "random", "minimize", 0, tmp_path / "run")
    with ProcessExecutor(1) as executor:
        result = study.run(executor, max_trials=3)
    for trial in result.trials:
        assert trial.reason == "ValueError: after the words"
        assert trial.error.count("words of trial") == 1
        assert f"words of trial {trial.number}" in trial.error
        assert "from below" in trial.error
        assert f"words of trial {trial.number}" in (tmp_path / "run" / "logs" / f"trial-{trial.number}.log").read_text()


def print_and_raise(params, context):
    print(f"words of trial {context.number}")
    os.write(2, b"from below\n")
    raise ValueError("after the words")


def test_the_last_trials_too_run_again_after_a_crash(tmp_path):
    study = Study(SPACE, CrashesOnce(str(tmp_path)), "random", "minimize", 0)
    with ProcessExecutor(2) as executor:
        result = study.run(executor, max_trials=3)
    assert result.counts == {"COMPLETED": 3}
    assert [trial.attempt for trial in result.trials] == [2, 2, 2]


class CrashesOnce:
    def __init__(self, folder):
        self.folder = folder

    def __call__(self, params, context):
        mark = os.path.join(self.folder, str(context.number))
        if not os.path.exists(mark):
            open(mark, "w").close()
            os._exit(1)
        return 1.0


def test_stopping_in_the_middle_of_a_batch_stops_the_rest_of_it():
    class StopAtOnce(Callback):
        def on_trial_start(self, study, trial):
            study.stop()

    study = Study(SPACE, slow, "random", "minimize", 0, callbacks=[StopAtOnce()])
    with ProcessExecutor(4) as executor:
        result = study.run(executor, max_trials=20)
    assert result.counts == {"CANCELLED": 1}
    with pytest.raises(EvaluationError, match="cancelled"):
        result.best_trial  # noqa: B018


def test_a_study_that_was_stopped_before_it_ran_runs_nothing():
    study = Study(SPACE, sphere, "random", "minimize", 0)
    study.stop()
    with SerialExecutor() as executor:
        assert study.run(executor, max_trials=5).trials == []


def test_a_keyboard_interrupt_of_the_objectives_own_fails_its_trial():
    def objective(params, context):
        if context.number == 1:
            raise KeyboardInterrupt
        return 1.0

    study = Study(SPACE, objective, "random", "minimize", 0)
    with ProcessExecutor(1) as executor:
        result = study.run(executor, max_trials=3)
    assert result.counts == {"COMPLETED": 2, "FAILED": 1}
    assert "KeyboardInterrupt" in result.trials[1].reason


def test_names_that_no_file_can_be_written_with_are_recorded(tmp_path):
    def objective(params):
        raise ValueError("no file \udcff.npz")

    result = run(objective, out=tmp_path / "run", limits={"max_trials": 8})
    assert "\\udcff" in result.trials[0].reason
    assert len(read_trials(tmp_path / "run" / "journal.jsonl")) == 8


def test_what_goes_wrong_before_the_start_leaves_no_study_behind(tmp_path):
    lock = threading.Lock()
    with ProcessExecutor(1) as executor:
        with pytest.raises(TypeError, match="'lock'"):
            Study(SPACE, lambda params: lock, "random", seed=0, out=tmp_path / "run").run(executor, max_trials=2)
        Study(SPACE, sphere, "random", seed=0, out=tmp_path / "run").run(executor, max_trials=2)


def test_an_executor_that_breaks_ends_the_study_with_what_it_found(tmp_path):
    study = Study(SPACE, exit_once, "random", "minimize", 0, tmp_path / "run")
    with ProcessPoolExecutor(1) as pool, pytest.raises(Exception, match="terminated abruptly"):
        study.run(pool, max_trials=5)
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert written["state"] == "interrupted", "a search that can be resumed"
    assert "BrokenProcessPool" in written["reason"]
    assert written["counts"]["COMPLETED"] == 1


def test_a_searcher_made_by_hand_must_fit():
    from hpo_spark.searchers.random import RandomSearcher

    searcher = RandomSearcher(SPACE, ("maximize",), 5)
    with pytest.raises(ValueError, match="made for directions"):
        run(searcher=searcher)
    assert len(run(searcher=searcher, direction="maximize").trials) == 12


def test_epochs_that_nobody_counts_end_the_study():
    result = run(limits={"max_epochs": 10})
    assert "reports no metric 'epochs'" in result.reason
    assert len(result.trials) == 1


def test_a_context_may_be_asked_for_by_name():
    def objective(params, *, context):
        return float(context.number)

    assert run(objective).best_trial.value == 0.0


def test_a_running_serial_trial_can_be_marked_from_its_own_start():
    class CancelSecond(Callback):
        def on_trial_start(self, study, trial):
            if trial.number == 1:
                assert study.cancel(1)

    result = run(callbacks=[CancelSecond()], limits={"max_trials": 3})
    assert result.trials[1].state is TrialState.CANCELLED
    assert result.counts == {"COMPLETED": 2, "CANCELLED": 1}


def test_a_study_in_which_all_fails_alike_is_given_up():
    def broken(params):
        raise ValueError(f"{params['x']} is not allowed")

    result = run(broken, limits={"max_trials": 500})
    assert len(result.trials) == 10
    assert result.reason.startswith("give_up_after=10")
    assert "is not allowed" in result.first_cause()
    assert len(run(broken, limits={"max_trials": 500, "give_up_after": 3}).trials) == 3
    assert len(run(broken, limits={"max_trials": 30, "give_up_after": None}).trials) == 30


def test_different_errors_or_one_success_keep_a_study_going():
    def differently(params, context):
        raise (ValueError, KeyError)[context.number % 2]("bad")

    def but_one(params, context):
        if context.number != 4:
            raise ValueError("bad")
        return 1.0

    assert len(run(differently, limits={"max_trials": 30}).trials) == 30
    assert len(run(but_one, limits={"max_trials": 30}).trials) == 30


def hoard_in_the_third(params, context):
    if context.number == 2:
        kept = bytearray(b"x") * 700_000_000
        time.sleep(60)
        return float(len(kept))
    return 1.0


def test_a_trial_that_uses_too_much_memory_fails_with_that_reason():
    study = Study(SPACE, hoard_in_the_third, "random", "minimize", 0)
    with ProcessExecutor(2, memory_mb=500) as executor:
        result = study.run(executor, max_trials=4)
    bad = result.trials[2]
    assert bad.state is TrialState.FAILED
    assert "memory_mb=500" in bad.reason
    assert bad.attempt == 1
    assert bad.host
    assert bad.seconds > 0
    assert result.counts == {"COMPLETED": 3, "FAILED": 1}


def print_and_hang(params):
    for n in range(2000):
        print("line", n, flush=True)
    time.sleep(60)


def test_the_whole_output_of_a_failed_trial_is_in_its_log_and_the_end_in_its_record(tmp_path):
    study = Study(SPACE, print_and_hang, "random", "minimize", 0, out=tmp_path / "run")
    with ProcessExecutor(1, task_timeout_s=1.5) as executor:
        (trial,) = study.run(executor, max_trials=1).trials
    log = (tmp_path / "run" / "logs" / "trial-0.log").read_text()
    assert trial.host
    assert trial.seconds >= 1.5
    assert "line 1999" in trial.error
    assert "line 0\n" not in trial.error
    assert "line 0\n" in log
    assert "line 1999" in log
