"""hyperopt's tree of Parzen estimators: what it is told, and that conditions are its own."""

import subprocess
import sys

import hyperopt
import numpy as np
import pytest

from hpo_spark import Choice, Float, Int, SearchSpace, Trial, TrialState
from hpo_spark.searchers import make_searcher
from hpo_spark.searchers.tpe import TpeSearcher


def ended(proposal, number, value=None, state=TrialState.COMPLETED):
    values = [value] if state is TrialState.COMPLETED else None
    return Trial(number, proposal.params, 0, token=proposal.token, state=state, values=values)


def drive(searcher, n, value=lambda params: 0.0):
    proposals = []
    for number in range(n):
        proposals += searcher.ask(1)
        searcher.tell(ended(proposals[-1], number, value(proposals[-1].params)))
    return proposals


def conditional_space():
    return SearchSpace(
        optimizer=Choice(["sgd", "adam", "rmsprop"]),
        momentum=Float(0.0, 0.99, when={"optimizer": ["sgd", "rmsprop"]}),
        schedule=Choice(["none", "step"], when={"optimizer": "adam"}),
        drop=Float(0.1, 0.9, log=True, when={"schedule": "step"}),
        layers=Int(1, 4),
        width=Int(8, 512, log=True, when={"layers": [2, 3]}),
        share=Float(0.0, 1.0, step=0.25),
        norm=Choice([None, True, [1, 2]], when={"share": 0.5}),
        both=Float(0.0, 1.0, when={"optimizer": ["sgd", "adam"], "layers": 1}),
        steps=Int(1, 5000),
        rare=Float(0.0, 1.0, when={"steps": [1, 2, 3]}),
    )


@pytest.fixture
def told(monkeypatch):
    """The documents that hyperopt was given at the last ask."""
    seen = []
    suggest = hyperopt.tpe.suggest

    def spy(new_ids, domain, trials, seed, **options):
        seen[:] = [(trials.trials, options)]
        return suggest(new_ids, domain, trials, seed, **options)

    monkeypatch.setattr(hyperopt.tpe, "suggest", spy)
    return seen


def test_conditions_of_every_form_hold(caplog):
    space = conditional_space()
    searcher = TpeSearcher(space, ("minimize",), start=10)
    proposals = drive(searcher, 120, lambda params: params["share"] + params.get("drop", 0.5))
    assert all(space.validate(proposal.params) == proposal.params for proposal in proposals)
    assert {name for proposal in proposals for name in proposal.params} >= set(space) - {"rare"}
    assert not caplog.records


def test_hyperopt_draws_what_is_active_only():
    space = conditional_space()
    searcher = TpeSearcher(space)
    for seed in range(40):
        (doc,) = hyperopt.rand.suggest([0], searcher._domain, hyperopt.Trials(), seed)
        vals = doc["misc"]["vals"]
        drawn = {name for name in space if vals[name]}
        # A parent of thousands of values is no branch.
        assert drawn == set(searcher._params(vals)) | {"rare"}


def test_what_was_not_active_is_not_told(told):
    searcher = TpeSearcher(conditional_space(), start=1)
    proposals = drive(searcher, 15)
    for doc, proposal in zip(told[0][0], proposals, strict=False):
        assert {name for name, vals in doc["misc"]["vals"].items() if vals} == set(proposal.params)


def test_states_are_hyperopts_own(told):
    space = SearchSpace(x=Float(0.0, 1.0))
    searcher = TpeSearcher(space, ("maximize",))
    proposals = searcher.ask(6)
    states = [TrialState.COMPLETED, TrialState.FAILED, TrialState.TIMED_OUT, TrialState.CRASHED, TrialState.CANCELLED]
    for number, state in enumerate(states):
        searcher.tell(ended(proposals[number], number, 3.0, state))
    searcher.ask(1)
    docs, _ = told[0]
    assert [doc["result"] for doc in docs] == [
        {"status": hyperopt.STATUS_OK, "loss": -3.0},
        *[{"status": hyperopt.STATUS_FAIL}] * 3,
        {"status": hyperopt.STATUS_RUNNING},
    ]
    assert docs[-1]["misc"]["vals"] == {"x": [proposals[-1].params["x"]]}


def test_of_thousands_the_newest_and_the_best_are_told(told):
    space = SearchSpace(x=Float(0.0, 1.0))
    searcher = TpeSearcher(space, ("minimize",))
    for number in range(4000):
        params = space.sample(number)
        searcher.tell(Trial(number, params, 0, state=TrialState.COMPLETED, values=[params["x"]]))
    searcher.ask(1)
    docs, options = told[0]
    losses = sorted(doc["result"]["loss"] for doc in docs)
    assert len(docs) <= 1000
    assert losses[:25] == sorted(space.sample(number)["x"] for number in range(4000))[:25]
    assert [doc["tid"] for doc in docs[-900:]] == list(range(3100, 4000))
    assert options["gamma"] * len(docs) ** 0.5 == pytest.approx(0.25 * 4000**0.5)


def test_options_are_hyperopts(told):
    searcher = make_searcher(
        {"name": "tpe", "start": 3, "candidates": 5, "gamma": 0.5, "prior_weight": 2.0},
        SearchSpace(x=Float(0.0, 1.0)),
        ("minimize",),
        0,
    )
    drive(searcher, 5)
    wanted = {"n_startup_jobs": 3, "n_EI_candidates": 5, "gamma": 0.5, "prior_weight": 2.0, "verbose": False}
    assert told[0][1] == wanted


@pytest.mark.parametrize(
    ("option", "words"),
    [({"start": 0}, "start=0"), ({"candidates": 1.5}, "candidates=1.5"), ({"gamma": 0}, "gamma=0"), ({"n": 1}, "'n'")],
)
def test_bad_options_are_refused(option, words):
    with pytest.raises(ValueError, match="searcher: 'tpe'") as raised:
        make_searcher({"name": "tpe", **option}, SearchSpace(x=Float(0.0, 1.0)), ("minimize",), 0)
    assert words in str(raised.value)


def test_values_of_every_kind_come_back_as_they_are():
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
        lognormal=Float(prior="lognormal", mean=0.0, sd=1.0),
        cut=Float(0.0, 1.0, prior="normal", mean=0.0, sd=0.3),
    )
    proposals = drive(TpeSearcher(space, start=30), 60, lambda params: params["rate"])
    for proposal in proposals:
        assert space.validate(proposal.params) == proposal.params
        assert [type(value) for value in proposal.params.values()][3:] == [int] * 3 + [float] * 5
    assert {str(proposal.params["any"]) for proposal in proposals} == {str(value) for value in values}
    start = [proposal.params["normal"] for proposal in proposals[:30]]
    assert np.mean(start) == pytest.approx(3.0, abs=0.4)
    assert np.std(start) == pytest.approx(0.5, abs=0.25)
    assert np.mean(np.log([proposal.params["lognormal"] for proposal in proposals[:30]])) == pytest.approx(0, abs=0.7)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_it_goes_where_trials_are_good(direction):
    space = SearchSpace(x=Float(0.0, 1.0), c=Choice(["a", "b", "c"]))
    searcher = TpeSearcher(space, (direction,), seed=1)
    sign = 1 if direction == "minimize" else -1

    def distance(params):
        return abs(params["x"] - 0.2) + (params["c"] != "b")

    proposals = drive(searcher, 70, lambda params: sign * distance(params))
    early, late = ([distance(proposal.params) for proposal in part] for part in (proposals[:20], proposals[40:]))
    assert np.mean(late) < 0.6 * np.mean(early)
    assert proposals[0].origin == {"by": "start"}
    assert proposals[-1].origin == {"by": "tpe"}


def test_pending_trials_are_kept_away_from():
    """With the same history, the density of the bad has the pending ones in it."""
    space = SearchSpace(x=Float(0.0, 1.0))
    alone, crowded = TpeSearcher(space, ("minimize",), start=5), TpeSearcher(space, ("minimize",), start=5)
    for searcher in (alone, crowded):
        for number in range(20):
            params = {"x": number / 20}
            searcher.tell(Trial(number, params, 0, state=TrialState.COMPLETED, values=[abs(params["x"] - 0.5)]))
    for number in range(20, 40):
        crowded.expect(Trial(number, {"x": 0.5 + (number - 30) / 1000}, 0))
    near = [np.mean([abs(p.params["x"] - 0.5) < 0.02 for p in searcher.ask(12)]) for searcher in (alone, crowded)]
    assert near[1] < near[0]


def test_it_is_silent(caplog, capfd):
    caplog.set_level(0)
    drive(TpeSearcher(SearchSpace(x=Float(0.0, 1.0)), start=2), 6)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_without_hyperopt_the_extra_is_named():
    script = (
        "import sys; sys.modules['hyperopt'] = None\n"
        "from hpo_spark import Float, SearchSpace\n"
        "from hpo_spark.searchers import make_searcher\n"
        "try: make_searcher('tpe', SearchSpace(x=Float(0, 1)), ('minimize',), 0)\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "The searcher 'tpe' needs hyperopt. Install it with: pip install \"hpo_spark[tpe]\"\n"
