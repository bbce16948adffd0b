"""What is known before a search begins: points, with or without their values, and earlier searches."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hpo_spark import Choice, ConfigError, Float, Int, SearchSpace, SerialExecutor, Study, Trial, TrialState, yaml
from hpo_spark.journal import read_trials

SPACE = SearchSpace(x=Float(-5.0, 5.0), n=Int(1, 3))


def sphere(params):
    return params["x"] ** 2 + params["n"]


def run(out=None, objective=sphere, space=SPACE, searcher="evolution", direction="minimize", max_trials=15, **options):
    study = Study(space, objective, searcher, direction, 0, out, **options)
    with SerialExecutor() as executor:
        return study.run(executor, max_trials)


def test_a_point_without_a_value_is_tried_first():
    result = run(x0=[{"x": 0.5, "n": 1}, {"params": {"x": 1.5, "n": 2}}])
    assert [trial.params for trial in result.trials[:2]] == [{"x": 0.5, "n": 1}, {"x": 1.5, "n": 2}]
    assert len(result.trials) == 15


def test_a_point_with_its_value_is_a_trial_that_is_not_run(tmp_path):
    calls = []

    def counted(params):
        calls.append(params)
        return sphere(params)

    x0 = [{"params": {"x": 0.0, "n": 1}, "value": 0.25}, {"x": 3.0, "n": 3}]
    result = run(tmp_path / "run", counted, x0=x0)
    known = result.trials[0]
    assert (known.params, known.values, known.state, known.seconds) == ({"x": 0.0, "n": 1}, [0.25], "COMPLETED", None)
    assert known.params not in calls
    assert len(calls) == 15
    assert calls[0] == {"x": 3.0, "n": 3}
    assert len(result.trials) == 16
    assert result.best_trial.number == 0
    assert [trial.number for trial in read_trials(tmp_path / "run" / "journal.jsonl")] == list(range(16))


def test_known_values_guide_the_search():
    """The start counts as done, and the children are near what is known to be good."""
    x0 = [{"params": {"x": x / 10, "n": 1}, "value": abs(x - 43) / 10} for x in range(-50, 51, 10)]
    near = [trial.params["x"] for trial in run(objective=lambda p: abs(p["x"] - 4.3), x0=x0).trials[11:]]
    assert sum(x > 2 for x in near) > len(near) / 2


def test_several_objectives_have_several_values():
    result = run(
        objective=lambda p: (p["x"] ** 2, p["n"]),
        direction=["minimize", "minimize"],
        searcher="random",
        x0=[{"params": {"x": 0.0, "n": 1}, "values": [0.0, 1.0]}],
    )
    assert result.best_trials == [result.trials[0]]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"x": 9.0, "n": 1}, "between -5.0 and 5.0"),
        ({"params": {"x": 9.0, "n": 1}, "value": 1.0}, "between -5.0 and 5.0"),
        ({"params": {"x": 1.0, "n": 1}, "value": float("nan")}, "finite number, got value=nan"),
        ({"params": {"x": 1.0, "n": 1}, "value": "good"}, "finite number, got value='good'"),
        ({"params": {"x": 1.0, "n": 1}, "values": [1.0, 2.0]}, "1 objective"),
        ({"params": {"x": 1.0, "n": 1}, "value": 1.0, "values": [1.0]}, "one of value and values"),
        ({"params": {"x": 1.0, "n": 1}, "loss": 1.0}, "one of value and values"),
        ({"params": [1.0, 1]}, "params must be a configuration"),
        ("x=1", "mappings of parameter names"),
    ],
)
def test_bad_points_are_refused_with_a_sentence(entry, words):
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        run(x0=[entry])


@pytest.fixture
def earlier(tmp_path):
    return run(tmp_path / "earlier", max_trials=25)


def test_a_warm_start_learns_from_an_earlier_run_and_tries_its_best_again(tmp_path, earlier):
    result = run(tmp_path / "later", warm_start=tmp_path / "earlier", max_trials=10)
    assert result.trials[0].params == earlier.best_trial.params
    assert len(result.trials) == 10
    tried = [trial.params for trial in earlier.trials]
    assert not any(trial.params in tried for trial in result.trials[1:])
    assert result.best_trial.value <= earlier.best_trial.value
    lines = [json.loads(line) for line in (tmp_path / "later" / "journal.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "known" for line in lines) == 25
    again = run(warm_start=earlier.trials, max_trials=10)
    assert [trial.params for trial in again.trials] == [trial.params for trial in result.trials]


def test_what_says_nothing_is_left_out(caplog):
    trials = [
        Trial(0, {"x": 1.0, "n": 1}, 0, state=TrialState.COMPLETED, values=[2.0]),
        Trial(1, {"x": 2.0, "n": 1}, 0, state=TrialState.CRASHED, error="ExecutorLost: its executor was lost"),
        Trial(2, {"x": 3.0, "n": 1}, 0, state=TrialState.CANCELLED),
        Trial(3, {"x": 99.0, "n": 1}, 0, state=TrialState.COMPLETED, values=[5.0]),
    ]
    with caplog.at_level("INFO"):
        result = run(warm_start=trials, max_trials=3)
    assert "1 of 4 trials are of use" in caplog.text
    assert result.trials[0].params == {"x": 1.0, "n": 1}


def test_a_warm_start_that_cannot_help_is_refused(tmp_path, earlier):
    with pytest.raises(ConfigError, match=r"warm_start: expected a run folder .* got '.*nowhere'"):
        run(warm_start=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"direction=\['minimize'\], this one has \['maximize'\]"):
        run(warm_start=tmp_path / "earlier", direction="maximize")
    with pytest.raises(ConfigError, match=r"list of Trial, got \[\{"):
        run(warm_start=[{"x": 1.0}])
    with pytest.raises(ConfigError, match="there is none"):
        run(warm_start=[])
    with pytest.raises(ConfigError, match=r"they have 2 value\(s\)"):
        run(warm_start=[Trial(0, {"x": 1.0, "n": 1}, 0, state=TrialState.COMPLETED, values=[1.0, 2.0])])
    with pytest.raises(ConfigError, match="none of its 25 trial"):
        run(warm_start=tmp_path / "earlier", space=SearchSpace(other=Choice(["a", "b"])))


def test_the_searcher_knows_what_runs_that_it_did_not_propose():
    """Else it could propose the same, and a restored search would differ from this one."""
    seen = []

    class Watch:
        def on_trial_start(self, study, trial):
            seen.append([SPACE.key(params) for params in study.searcher.history.pending])

    x0 = [{"x": float(x), "n": 1} for x in range(4)]
    with ThreadPoolExecutor(6) as executor:
        Study(SPACE, sphere, "evolution", "minimize", 0, x0=x0, callbacks=[Watch()]).run(executor, 6)
    assert set(seen[3]) >= {SPACE.key(params) for params in x0[3:]}


def test_a_study_file_is_written_from_options_of_every_kind(tmp_path):
    members = [{"name": "evolution", "indpb": np.float64(0.3)}, "de"]
    run(tmp_path / "run", searcher={"name": "ensemble", "members": members}, max_trials=3)
    searcher = yaml.load((tmp_path / "run" / "study.yaml").read_text())["searcher"]
    assert searcher == {"name": "ensemble", "members": [{"name": "evolution", "indpb": 0.3}, "de"]}
