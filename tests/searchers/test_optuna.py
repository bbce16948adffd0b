"""Optuna's samplers: what they are told, what travels in tokens, and what they cannot do."""

import copy
import json
import logging
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import optuna
import pytest

from hpo_spark import Choice, Float, Int, SearchSpace, Trial, TrialState
from hpo_spark.searchers import NAMES, make_searcher

SAMPLERS = [
    {"name": "optuna", "n_startup_trials": 5},
    {"name": "optuna:CmaEsSampler", "popsize": 5},
    {"name": "optuna:CmaEsSampler", "popsize": 5, "with_margin": True},
    {"name": "optuna:NSGAIISampler", "population_size": 6},
    {"name": "optuna:QMCSampler"},
    {"name": "optuna:QMCSampler", "scramble": True},
    {"name": "optuna:RandomSampler"},
]


def make(choice, space=None, directions=("minimize",), seed=0):
    return make_searcher(choice, space or plain_space(), directions, seed)


def plain_space():
    return SearchSpace(x=Float(0.0, 1.0), rate=Float(1e-4, 1e-1, log=True), n=Int(1, 50))


def loss(params):
    return (params["x"] - 0.3) ** 2 + (np.log10(params["rate"]) + 2) ** 2 + params["n"] / 50


def ended(proposal, number, values, state=TrialState.COMPLETED):
    return Trial(number, proposal.params, 0, token=proposal.token, state=state, values=values)


def drive(searcher, n, values=lambda params: [float(loss(params))], first=0):
    history = []
    while len(history) < n:
        for proposal in searcher.ask(3):
            history.append(ended(proposal, first + len(history), values(proposal.params)))
        for trial in history[-3:]:
            searcher.tell(trial)
    return history


@pytest.fixture
def studies(monkeypatch):
    """The studies that were made, the last one last."""
    made = []
    create = optuna.create_study

    def spy(**options):
        made.append(create(**options))
        return made[-1]

    monkeypatch.setattr(optuna, "create_study", spy)
    return made


@pytest.mark.parametrize("choice", SAMPLERS, ids=lambda choice: "-".join(map(str, choice.values())))
def test_what_a_sampler_keeps_is_restored_from_tokens(choice):
    """Through JSON, as a journal would have it, and in another order."""
    straight, restored = make(choice), make(choice)
    history = drive(straight, 40)
    records = json.loads(json.dumps([trial.to_record() for trial in history]))
    restored.restore([Trial.from_record(record) for record in reversed(records)])
    twin = pickle.loads(pickle.dumps(straight))
    after = [[trial.params for trial in drive(one, 24, first=40)] for one in (straight, restored, twin)]
    assert after[0] == after[1] == after[2]


def test_cmaes_goes_on_from_its_distribution():
    searcher = make({"name": "optuna:CmaEsSampler", "popsize": 6}, seed=3)
    history = drive(searcher, 120)
    assert any("cma:optimizer:0" in trial.token.get("trial", {}) for trial in history)
    assert max(trial.token["trial"]["cma:generation"] for trial in history[10:]) > 10
    early, late = ([trial.value for trial in part] for part in (history[:20], history[-20:]))
    assert np.mean(late) < 0.3 * np.mean(early)


def test_qmc_takes_one_point_after_the_other():
    searcher = make("optuna:QMCSampler", SearchSpace(x=Float(0.0, 1.0), y=Float(0.0, 1.0)))
    history = drive(searcher, 30, values=lambda params: [params["x"]])
    counts = [value for trial in history[3:] for value in trial.token["study"].values()]
    assert counts == sorted(counts)
    assert len({trial.params["x"] for trial in history[3:]}) == 27


def test_nsga2_breeds_from_generation_to_generation():
    space = plain_space()
    searcher = make({"name": "optuna:NSGAIISampler", "population_size": 6}, space, ("minimize", "maximize"))
    history = drive(searcher, 60, values=lambda params: [float(loss(params)), params["x"]])
    assert max(trial.token["trial"]["NSGAIISampler:generation"] for trial in history) > 5
    assert any("NSGAIISampler:parent:3" in trial.token.get("study", {}) for trial in history)


@pytest.mark.parametrize("sampler", ["TPESampler", "NSGAIISampler", "NSGAIIISampler", "RandomSampler", "QMCSampler"])
def test_several_objectives(sampler, studies):
    searcher = make(f"optuna:{sampler}", directions=("minimize", "maximize"))
    drive(searcher, 15, values=lambda params: [float(loss(params)), params["x"]])
    assert studies[-1].directions == [optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE]
    assert studies[-1].trials[0].values[1] == studies[-1].trials[0].params["x"]


def test_states_are_optunas_own(studies):
    searcher = make({"name": "optuna", "n_startup_trials": 1}, SearchSpace(x=Float(0.0, 1.0)), ("maximize",))
    proposals = searcher.ask(6)
    states = [TrialState.COMPLETED, TrialState.FAILED, TrialState.TIMED_OUT, TrialState.CRASHED, TrialState.CANCELLED]
    for number, state in enumerate(states):
        searcher.tell(ended(proposals[number], number, [3.0] if number == 0 else None, state))
    searcher.ask(1)
    *known, new = studies[-1].trials
    assert [trial.state.name for trial in known] == ["COMPLETE", "FAIL", "FAIL", "FAIL", "RUNNING"]
    assert [trial.params for trial in known] == [proposals[number].params for number in (0, 1, 2, 3, 5)]
    assert known[0].value == 3.0
    assert new.number not in [trial.number for trial in known]


def test_tpe_sees_pending_trials_unless_told_otherwise(studies):
    for options, wanted in (({}, True), ({"constant_liar": False}, False)):
        make({"name": "optuna:TPESampler", **options}).ask(1)
        assert studies[-1].sampler._constant_liar is wanted


def test_conditions_are_optunas_own_for_tpe(studies, caplog):
    space = SearchSpace(
        optimizer=Choice(["sgd", "adam", "rmsprop"]),
        momentum=Float(0.0, 0.99, when={"optimizer": ["sgd", "rmsprop"]}),
        schedule=Choice(["none", "step"], when={"optimizer": "adam"}),
        drop=Float(0.1, 0.9, log=True, when={"schedule": "step"}),
        layers=Int(1, 4),
        both=Float(0.0, 1.0, when={"optimizer": "sgd", "layers": [1, 2]}),
    )
    searcher = make({"name": "optuna", "n_startup_trials": 5}, space)
    history = drive(searcher, 60, values=lambda params: [params.get("drop", 0.5)])
    assert all(space.validate(trial.params) == trial.params for trial in history)
    for trial, shown in zip(history, studies[-1].trials, strict=False):
        assert set(trial.params) == set(shown.params)
    assert {name for trial in history for name in trial.params} == set(space)
    assert not caplog.records


def test_a_sampler_without_conditions_sees_the_space_flat_and_says_so_once(studies, caplog):
    space = SearchSpace(a=Choice(["x", "y"]), b=Float(0.0, 1.0, when={"a": "x"}), c=Float(0.0, 1.0))
    searcher = make({"name": "optuna:CmaEsSampler", "popsize": 4}, space)
    history = drive(searcher, 30, values=lambda params: [params["c"] + params.get("b", 0.5)])
    assert all(space.validate(trial.params) == trial.params for trial in history)
    inactive = [trial.params["b"] for trial in studies[-1].trials[:-4] if trial.params["a"] == 1]
    assert set(inactive) == {0.5}
    (record,) = caplog.records
    assert "optuna:CmaEsSampler" in record.getMessage()
    assert "b" in record.getMessage()


@pytest.mark.parametrize("sampler", ["TPESampler", "CmaEsSampler", "NSGAIISampler", "QMCSampler", "RandomSampler"])
def test_values_of_every_kind_come_back_as_they_are(sampler):
    values = [None, True, 1, 1.5, "a", [1, [2]], {"a": [None]}]
    space = SearchSpace(
        any=Choice(values),
        size=Choice(["small", "medium", "large"], ordered=True),
        one=Choice(["only"]),
        even=Int(2, 20, step=2),
        power=Int(1, 1024, log=True),
        odd=Int(1, 99, step=7, log=True),
        share=Float(0.1, 0.7, step=0.1),
        rate=Float(1e-5, 1e-1, log=True),
        normal=Float(prior="normal", mean=3.0, sd=0.5),
        cut=Float(0.0, 1.0, prior="lognormal", mean=0.0, sd=0.3),
    )
    history = drive(make(f"optuna:{sampler}", space), 60, values=lambda params: [params["rate"]])
    for trial in history:
        assert space.validate(trial.params) == trial.params
        assert [type(value) for value in trial.params.values()][3:] == [int] * 3 + [float] * 4
        json.dumps([trial.params, trial.token], allow_nan=False)
    assert len({str(trial.params["any"]) for trial in history}) > 4
    assert np.mean([trial.params["normal"] for trial in history]) == pytest.approx(3.0, abs=0.5)


def test_what_has_an_order_is_a_number():
    searcher = make("optuna", SearchSpace(o=Choice(["s", "m", "l"], ordered=True), u=Choice(["s", "m", "l"])))
    assert isinstance(searcher._distributions["o"], optuna.distributions.IntDistribution)
    assert isinstance(searcher._distributions["u"], optuna.distributions.CategoricalDistribution)


def test_a_finite_space_is_searched_whole():
    space = SearchSpace(a=Choice(["x", "y"]), b=Int(1, 4), c=Choice([1, 2], when={"a": "x"}))
    searcher = make("optuna:BruteForceSampler", space)
    seen = []
    while batch := searcher.ask(2):
        for proposal in batch:
            seen.append(space.key(proposal.params))
            searcher.tell(ended(proposal, len(seen), [0.0]))
    assert len(set(seen)) == len(seen) == 12


def test_trials_that_were_never_asked_for_are_in_the_study(studies):
    space = plain_space()
    searcher = make({"name": "optuna", "n_startup_trials": 2}, space)
    drive(searcher, 6)
    for number in (21, 20):
        searcher.tell(Trial(number, space.sample(number), 0, state=TrialState.COMPLETED, values=[0.5]))
    searcher.ask(1)
    assert [trial.params["x"] for trial in studies[-1].trials[:2]] == [space.sample(number)["x"] for number in (20, 21)]


def test_the_users_own_optuna_is_left_alone(caplog, capfd, recwarn):
    caplog.set_level(0)
    level = logging.getLogger("optuna").level
    searcher = make({"name": "optuna:CmaEsSampler", "with_margin": True}, SearchSpace(x=Float(0, 1), y=Float(0, 1)))
    drive(searcher, 12, values=lambda params: [params["x"]])
    assert logging.getLogger("optuna").level == level
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("choice", "directions", "words"),
    [
        ("optuna:TPESamplr", 1, ["no sampler 'TPESamplr'", "'RandomSampler'", "Did you mean 'TPESampler'?"]),
        ("optuna:", 1, ["no sampler ''"]),
        ("optuna:BaseSampler", 1, ["no sampler 'BaseSampler'"]),
        ({"name": "optuna", "startup": 3}, 1, ["TPESampler has no option 'startup'", "'n_startup_trials'"]),
        ({"name": "optuna:TPESampler", "seed": 3}, 1, ["no option 'seed'"]),
        (
            {"name": "optuna:NSGAIISampler", "population_size": 1},
            1,
            ["population_size", "options={'population_size': 1}"],
        ),
        ({"name": "optuna:CmaEsSampler", "popsize": "many"}, 1, ["options={'popsize': 'many'}"]),
        ({"name": "optuna", "gamma": 3}, 1, ["not callable"]),
        ("optuna:CmaEsSampler", 2, ["directions=['minimize', 'minimize']", "multi-objective"]),
        ("optuna:BruteForceSampler", 1, ["cannot search this space", "step"]),
        ("optunas", 1, ["'optuna:<Sampler>'"]),
    ],
)
def test_what_is_not_possible_is_said_in_a_sentence(choice, directions, words):
    with pytest.raises(ValueError, match="searcher: ") as raised:
        make(choice, directions=("minimize",) * directions)
    assert all(word in str(raised.value) for word in words)
    assert "optuna:<Sampler>" in NAMES


def test_deprecated_options_are_said_once(caplog):
    searcher = make({"name": "optuna", "prior_weight": 2.0})
    drive(searcher, 6)
    (record,) = caplog.records
    assert "`prior_weight` has been deprecated" in record.getMessage()


@pytest.mark.parametrize(
    ("module", "choice", "sentence"),
    [
        (
            "optuna",
            "optuna:TPESampler",
            "The searcher 'optuna' needs optuna. Install it with: pip install \"hpo_spark[optuna]\"",
        ),
        ("torch", "optuna:GPSampler", "GPSampler needs torch. Install it with: pip install torch"),
        ("cmaes", "optuna:CmaEsSampler", "CmaEsSampler needs cmaes. Install it with: pip install cmaes"),
    ],
)
def test_what_is_missing_is_named(module, choice, sentence):
    script = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from hpo_spark import Float, SearchSpace\n"
        "from hpo_spark.searchers import make_searcher\n"
        f"try: make_searcher({choice!r}, SearchSpace(x=Float(0, 1)), ('minimize',), 0)\n"
        "except (ImportError, ValueError) as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.endswith(sentence + "\n")
    assert done.stdout.count("\n") == 1


def test_the_ask_of_a_restored_search_follows_a_running_one():
    choice = {"name": "optuna:CmaEsSampler", "popsize": 4}
    straight, restored = make(choice), make(choice)
    history = drive(straight, 12)
    running = [
        replace(ended(proposal, 12 + at, None), state=TrialState.RUNNING) for at, proposal in enumerate(straight.ask(4))
    ]
    restored.restore([*running, *history])
    assert [p.params for p in straight.ask(5)] == [p.params for p in copy.deepcopy(restored).ask(5)]
