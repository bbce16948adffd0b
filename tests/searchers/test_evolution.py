import random
import statistics

import numpy as np
import pytest
from deap import base, tools

from hpo_spark import Choice, ConfigError, Float, Int, SearchSpace, SerialExecutor, Study
from hpo_spark.searchers import evolution, make_searcher
from hpo_spark.trial import Trial, TrialState

SPACE = SearchSpace(
    rate=Float(1e-4, 1e-1, log=True),
    layers=Int(1, 5),
    units=Int(8, 1024, log=True),
    optimizer=Choice(["sgd", "adam", "rmsprop"]),
    momentum=Float(0.0, 0.99, when={"optimizer": "sgd"}),
)


def loss(params):
    """Best at rate 0.01, 3 layers, 100 units, sgd with momentum 0.9."""
    space_loss = abs(SPACE["rate"].encode(params["rate"]) - 2 / 3) + 0.2 * abs(params["layers"] - 3)
    space_loss += abs(SPACE["units"].encode(params["units"]) - SPACE["units"].encode(100))
    return space_loss + (abs(params["momentum"] - 0.9) if params["optimizer"] == "sgd" else 0.5)


def best_of(searcher, seed, n=60, space=SPACE):
    study = Study(space, loss, searcher, "minimize", seed)
    with SerialExecutor() as executor:
        return study.run(executor, max_trials=n).best_trial.value


@pytest.mark.parametrize(("searcher", "n"), [("evolution", 60), ("cmaes", 60), ("de", 150)])
def test_it_finds_what_random_search_does_not(searcher, n):
    found, by_chance = (statistics.median(best_of(name, seed, n) for seed in range(6)) for name in (searcher, "random"))
    assert found < 0.75 * by_chance


def test_no_trial_is_spent_on_a_repeat():
    space = SearchSpace(a=Choice(list("abc")), b=Int(1, 4), c=Choice([1, 2], ordered=True))
    study = Study(space, lambda params: float(params["b"]), "evolution", "minimize", 0)
    with SerialExecutor() as executor:
        result = study.run(executor, max_trials=100)
    assert len(result.trials) == 24
    assert len({space.key(trial.params) for trial in result.trials}) == 24


def test_a_report_can_tell_where_a_trial_came_from():
    study = Study(SPACE, loss, "evolution", "minimize", 0)
    with SerialExecutor() as executor:
        result = study.run(executor, max_trials=40)
    assert [trial.origin["by"] for trial in result.trials[:10]] == ["start"] * 10
    children = [trial for trial in result.trials if trial.origin["by"] == "evolution"]
    assert len(children) > 20
    assert all(max(trial.origin["parents"]) < trial.number for trial in children)


def test_two_screens_take_turns(monkeypatch):
    turns = []

    def screen(name):
        return lambda *args: turns.append(name) or np.zeros(len(args[-1]))

    monkeypatch.setattr(evolution, "expected_improvement", screen("process"))
    monkeypatch.setattr(evolution, "log_density", screen("window"))
    with SerialExecutor() as executor:
        Study(SPACE, loss, "evolution", "minimize", 0).run(executor, max_trials=14)
    assert turns == ["window", "window", "process"] * 2


def test_operators_can_be_replaced():
    calls = []

    def mutate(individual):
        calls.append(list(individual))
        individual[random.randrange(len(individual))] = 7.0  # is put back to the edge
        return (individual,)

    toolbox = base.Toolbox()
    toolbox.register("mutate", mutate)
    toolbox.register("mate", tools.cxBlend, alpha=0.5)
    searcher = make_searcher({"name": "evolution", "toolbox": toolbox}, SPACE, ("minimize",), 0)
    study = Study(SPACE, loss, searcher, "minimize", 0)
    with SerialExecutor() as executor:
        assert study.run(executor, max_trials=30).counts["COMPLETED"] == 30
    assert calls


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"name": "evolution", "children": 0}, "children=0"),
        ({"name": "evolution", "toolbox": "mine"}, "DEAP Toolbox"),
        ({"name": "evolution", "sigma": 2}, "sigma=2"),
        ({"name": "de", "population": 3}, "population=3"),
        ({"name": "de", "f": -1}, "f=-1"),
        ({"name": "cmaes", "sigma": 2}, "sigma=2"),
        ({"name": "lhs", "points": 0}, "points=0"),
    ],
)
def test_bad_options_are_refused_with_a_sentence(choice, words):
    with pytest.raises(ConfigError, match=words):
        make_searcher(choice, SPACE, ("minimize",), 0)


def test_cmaes_needs_a_direction():
    space = SearchSpace(a=Choice(["x", "y"]), b=Choice([1, 2, 3]))
    with pytest.raises(ConfigError, match="choice without an order"):
        make_searcher("cmaes", space, ("minimize",), 0)


def test_cmaes_is_restored_across_restarts_and_repeats():
    """A small discrete space repeats all the time, and the distribution collapses soon."""
    space = SearchSpace(a=Int(1, 40), b=Int(1, 40))
    straight = make_searcher({"name": "cmaes", "population": 4}, space, ("minimize",), 0)
    history = []
    for number in range(400):
        (proposal,) = straight.ask(1)
        value = float(abs(proposal.params["a"] - 7) + abs(proposal.params["b"] - 30))
        history.append(
            Trial(number, proposal.params, 0, token=proposal.token, state=TrialState.COMPLETED, values=[value])
        )
        straight.tell(history[-1])
    assert history[-1].token["run"] > 0
    assert any(trial.token["repeats"] for trial in history)
    restored = make_searcher({"name": "cmaes", "population": 4}, space, ("minimize",), 0)
    restored.restore(history)
    assert [p.params for p in restored.ask(10)] == [p.params for p in straight.ask(10)]
