"""What every searcher promises, whichever it is; a new one joins by a line in ``SEARCHERS``."""

import json
import pickle
import random
from dataclasses import replace

import numpy as np
import pytest

from hpo_spark import Choice, Float, Int, SearchSpace, Trial, TrialState
from hpo_spark.searchers import make_searcher

RUNGS = {"min": 1, "max": 9}
SEARCHERS = {
    "asha": {"name": "asha", **RUNGS},
    "asha-evolution": {"name": "asha", "searcher": "evolution", **RUNGS},
    "asha-genetic": {"name": "asha", "searcher": {"name": "genetic", "population": 6}, **RUNGS},
    "hyperband": {"name": "hyperband", **RUNGS},
    "hyperband-cmaes": {"name": "hyperband", "searcher": {"name": "cmaes", "population": 6}, **RUNGS},
    "dehb": {"name": "dehb", **RUNGS},
    "bayes-gp": {"name": "bayes", "acquisition": "EI", "start": 6, "candidates": 60},
    "bayes-forest": {"name": "bayes", "model": "forest", "acquisition": "LCB", "start": 20, "candidates": 40},
    "bayes-hedge": {"name": "bayes", "start": 6, "candidates": 60},
    "evolution": "evolution",
    "cmaes": {"name": "cmaes", "population": 6},
    "de": {"name": "de", "population": 8},
    "ensemble": {"name": "ensemble", "members": ["evolution", "de", {"name": "genetic", "population": 6}]},
    "tpe": {"name": "tpe", "start": 5},
    "optuna-tpe": {"name": "optuna:TPESampler", "n_startup_trials": 5},
    "optuna-cmaes": {"name": "optuna:CmaEsSampler", "popsize": 5},
    "ensemble-libraries": {
        "name": "ensemble",
        "members": ["evolution", {"name": "tpe", "start": 3}, {"name": "optuna:TPESampler", "n_startup_trials": 3}],
        "start": 0,
    },
    "grid": {"name": "grid", "points": 7},
    "sobol": "sobol",
    "lhs": {"name": "lhs", "points": 8},
    "nsga2": {"name": "nsga2", "population": 6},
    "nsga3": {"name": "nsga3", "population": 6, "children": 4},
    "random": "random",
    "genetic": {"name": "genetic", "population": 6},
    "genetic-best": {"name": "genetic", "population": 5, "select": "best", "hall_of_fame": 0, "mutpb": 0.9},
}


@pytest.fixture(params=SEARCHERS)
def choice(request):
    return SEARCHERS[request.param]


def make_space():
    return SearchSpace(
        rate=Float(1e-4, 1e-1, log=True),
        layers=Int(1, 3),
        optimizer=Choice(["sgd", "adam"]),
        momentum=Float(0.0, 0.99, when={"optimizer": "sgd"}),
    )


def loss(params):
    return abs(params["rate"] - 0.01) * 100 + params["layers"] + params.get("momentum", 0.5)


def finish(proposal, number, state=TrialState.COMPLETED):
    values = [loss(proposal.params)] if state is TrialState.COMPLETED else None
    return Trial(
        number,
        proposal.params,
        0,
        fidelity=proposal.fidelity,
        parent=proposal.parent,
        token=proposal.token,
        origin=proposal.origin,
        state=state,
        values=values,
    )


def drive(searcher, n, order=lambda batch: batch, state=lambda number: TrialState.COMPLETED, room=4, number=0):
    """Ask and tell until ``n`` proposals are there or the searcher has finished; trials count from ``number``."""
    first = number
    proposals = []
    while len(proposals) < n:
        batch = searcher.ask(min(room, n - len(proposals)))
        if not batch:
            break
        numbered = [(proposal, first + len(proposals) + index) for index, proposal in enumerate(batch)]
        proposals += batch
        for proposal, number in order(numbered):
            searcher.tell(finish(proposal, number, state(number)))
    return proposals


def make(choice, seed=0, space=None):
    return make_searcher(choice, space or make_space(), ("minimize",), seed)


def test_proposals_are_valid_plain_and_json(choice):
    space = make_space()
    for proposal in drive(make(choice), 40):
        assert space.validate(proposal.params) == proposal.params
        assert all(type(value) in (int, float, str) for value in proposal.params.values())
        json.dumps([proposal.params, proposal.token, proposal.origin], allow_nan=False)


def test_equal_seeds_give_equal_proposals(choice):
    runs = [[proposal.params for proposal in drive(make(choice, seed), 30)] for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert (runs[0] != runs[2]) == (make(choice).name != "grid")


def test_global_generators_are_left_alone(choice):
    random.seed(5)
    np.random.seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist()
    first = [proposal.params for proposal in drive(make(choice), 20)]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    random.seed(6)
    np.random.seed(6)
    assert [proposal.params for proposal in drive(make(choice), 20)] == first


def some_fail(number):
    """The state of a trial: every fourth fails, the first too."""
    return TrialState.COMPLETED if number % 4 else TrialState.FAILED


def test_no_configuration_is_proposed_twice(choice):
    proposals = drive(make(choice), 60)
    n_different = len({(make_space().key(proposal.params), proposal.fidelity) for proposal in proposals})
    # Generations may hold one twice, where a neighbourhood is used up; the study serves it from the record.
    assert n_different == len(proposals) or "genetic" in str(choice)


@pytest.mark.parametrize("state", [lambda number: TrialState.COMPLETED, some_fail], ids=["all complete", "some fail"])
def test_the_order_of_tells_changes_nothing(choice, state):
    straight = drive(make(choice), 30, state=state)
    backwards = drive(make(choice), 30, order=lambda batch: batch[::-1], state=state)
    assert [proposal.params for proposal in straight] == [proposal.params for proposal in backwards]


def test_how_many_are_asked_at_once_changes_nothing(choice):
    runs = []
    for room in (1, 4, 12):
        searcher = make(choice)
        drive(searcher, 24, room=6)
        asked = [proposal.params for _ in range(12 // room) for proposal in searcher.ask(room)]
        runs.append(asked)
    assert runs[0] == runs[1] == runs[2]
    assert runs[0]


def test_telling_twice_changes_nothing(choice):
    once = [proposal.params for proposal in drive(make(choice), 30)]
    twice = [proposal.params for proposal in drive(make(choice), 30, order=lambda batch: [*batch, *batch])]
    assert once == twice


def test_trials_that_were_not_asked_for_are_welcome(choice):
    searcher = make(choice)
    for number in range(3):
        params = make_space().sample(number)
        searcher.tell(Trial(number, params, 0, state=TrialState.COMPLETED, values=[loss(params)]))
    assert len(drive(searcher, 20)) == 20


@pytest.mark.parametrize(
    "state", [state for state in TrialState if state not in (TrialState.RUNNING, TrialState.COMPLETED)]
)
def test_trials_without_a_value_stop_nothing(choice, state):
    assert len(drive(make(choice), 30, state=lambda number: state)) == 30
    some = drive(make(choice), 30, state=lambda number: state if number % 3 else TrialState.COMPLETED)
    assert len(some) == 30


def test_a_finite_space_ends(choice):
    space = SearchSpace(a=Choice([1, 2]), b=Int(1, 3))
    searcher = make_searcher(choice, space, ("minimize",), 0)
    seen = set()
    for _ in range(5000):
        batch = searcher.ask(4)
        if not batch:
            break
        for proposal in batch:
            seen.add(space.key(proposal.params))
            searcher.tell(
                Trial(
                    0,
                    proposal.params,
                    0,
                    fidelity=proposal.fidelity,
                    parent=proposal.parent,
                    token=proposal.token,
                    state=TrialState.COMPLETED,
                    values=[float(proposal.params["b"])],
                )
            )
    else:
        pytest.fail("the searcher never ends")
    assert len(seen) >= 4


def test_a_copy_continues_identically(choice):
    searcher = make(choice)
    drive(searcher, 15)
    twin = pickle.loads(pickle.dumps(searcher))
    assert [p.params for p in drive(searcher, 15)] == [p.params for p in drive(twin, 15)]


@pytest.mark.parametrize("n_running", [0, 3])
@pytest.mark.parametrize("n_before", [1, 17, 40])
def test_a_restored_search_goes_on_as_if_it_had_never_stopped(choice, n_before, n_running):
    """A fresh searcher is given the history: what has ended, in any order, and what was running."""
    straight, history = make(choice), []
    while batch := straight.ask(min(4, n_before + n_running - len(history))):
        for proposal in batch:
            history.append(finish(proposal, len(history), some_fail(len(history))))
            if len(history) <= n_before:
                straight.tell(history[-1])
    ended, running = history[:n_before], [replace(trial, state=TrialState.RUNNING) for trial in history[n_before:]]
    restored = make(choice)
    restored.restore([*running, *reversed(ended)])
    for searcher in (straight, restored):
        for trial in history[n_before:]:
            searcher.tell(trial)
    after = [[p.params for p in drive(searcher, 20, number=len(history))] for searcher in (straight, restored)]
    assert after[0] == after[1]
    assert after[0]


def test_the_search_is_no_worse_than_its_start(choice):
    values = [loss(proposal.params) for proposal in drive(make(choice), 120)]
    assert min(values) < 0.8 * np.median(values[:20])


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("genetics", "did you mean 'genetic'"),
        ({"name": ["genetic"]}, "there is no ['genetic']"),
        ({"name": "optuna:TPESampler", "sampler": "RandomSampler"}, "names the sampler already"),
        ("optuna:", "no sampler ''"),
        ({"populations": 3}, "'evolution' has no option 'populations'"),
        ({"name": "genetic", "size": 3}, "no option 'size'"),
        ({"name": "random", "n": 3}, "takes none"),
        ({"name": "genetic", "population": 1}, "population=1"),
        ({"name": "genetic", "cxpb": 1.5}, "cxpb=1.5"),
        ({"name": "genetic", "eta": 0}, "eta=0"),
        ({"name": "genetic", "select": "roulette"}, "select='roulette'"),
        ({"name": "genetic", "generations": -1}, "generations=-1"),
        ({"name": "genetic", "population": 4, "hall_of_fame": 4}, "hall_of_fame=4"),
    ],
)
def test_bad_choices_are_refused_with_a_sentence(choice, words):
    with pytest.raises(ValueError, match="searcher") as raised:
        make(choice)
    assert words in str(raised.value).lower()


def test_one_objective_is_said_to_be_one():
    with pytest.raises(ValueError, match="one objective"):
        make_searcher("genetic", make_space(), ("minimize", "maximize"), 0)
    searcher = make_searcher("random", make_space(), ("minimize", "maximize"), 0)
    (proposal,) = searcher.ask(1)
    searcher.tell(replace(finish(proposal, 0), values=[1.0, 2.0]))
