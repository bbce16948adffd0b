import logging
import random

import numpy as np
import pytest
from deap import base, tools

from hpo_spark import Choice, Float, Int, SearchSpace, SerialExecutor, Study
from hpo_spark.searchers import make_searcher
from hpo_spark.trial import Trial, TrialState

SPACE = SearchSpace(x=Float(-5.0, 5.0), y=Float(-5.0, 5.0), z=Float(-5.0, 5.0))


def sphere(params):
    return sum(value**2 for value in params.values())


def run(searcher, seed=0, direction="minimize", objective=sphere, space=SPACE, **limits):
    study = Study(space, objective, searcher, direction, seed)
    with SerialExecutor() as executor:
        return study, study.run(executor, **limits)


def test_the_search_ends_with_its_generations():
    study, result = run({"name": "genetic", "population": 10, "generations": 5})
    assert result.reason == "the searcher has finished"
    assert [entry["gen"] for entry in study.searcher.logbook] == [0, 1, 2, 3, 4, 5]
    assert study.searcher.logbook[0]["nevals"] == 10
    assert len(result.trials) <= 10 + 5 * 9


def test_or_with_max_trials_if_that_comes_first():
    study, result = run({"name": "genetic", "population": 10, "generations": 5}, max_trials=17)
    assert len(result.trials) == 17
    assert len(study.searcher.logbook) < 6
    assert result.reason == "max_trials=17 is reached"


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_it_beats_its_first_generation_by_far(direction):
    sign = 1 if direction == "minimize" else -1
    _, result = run(
        {"name": "genetic", "population": 20}, direction=direction, objective=lambda p: sign * sphere(p), max_trials=300
    )
    first = min(abs(trial.value) for trial in result.trials[:20])
    assert abs(result.best_trial.value) < first / 10


def test_the_best_is_never_lost():
    study, _ = run({"name": "genetic", "population": 8, "generations": 15, "cxpb": 1.0, "mutpb": 1.0})
    best = [entry["max"] for entry in study.searcher.logbook]
    lows = [min(trial.value for trial in study.trials[: 8 + 7 * g]) for g in range(16)]
    assert sorted(lows, reverse=True) == lows
    assert study.searcher.hall_of_fame[0].fitness.values[0] == study.best_trial.value
    assert len(best) == 16


def test_statistics_are_logged_each_generation(caplog):
    with caplog.at_level(logging.INFO, logger="hpo_spark"):
        study, result = run({"name": "genetic", "population": 6, "generations": 2})
    lines = [record.getMessage() for record in caplog.records if "gen=" in record.getMessage()]
    assert len(lines) == 3
    values = [trial.value for trial in result.trials[:6]]
    entry = study.searcher.logbook[0]
    assert entry["max"] == pytest.approx(max(values))
    assert entry["avg"] == pytest.approx(np.mean(values))
    assert entry["std"] == pytest.approx(np.std(values))
    assert f"max={max(values):.6g}" in lines[0]


def test_failed_trials_count_as_the_worst_and_never_lead():
    def objective(params):
        if params["x"] > 0:
            raise ArithmeticError("positive")
        return 1000 + sphere(params)

    study, result = run({"name": "genetic", "population": 12, "generations": 6}, objective=objective)
    assert {"COMPLETED", "FAILED"} == set(result.counts)
    assert all(individual.fitness.values[0] >= 1000 for individual in study.searcher.hall_of_fame)
    assert study.searcher.hall_of_fame[0].fitness.values[0] == result.best_trial.value
    last = result.trials[-20:]
    assert sum(trial.values is not None for trial in last) > 10


def test_repeats_are_served_from_the_record_and_do_not_count():
    space = SearchSpace(a=Int(1, 4), b=Choice(["u", "v"]))
    calls = []
    _, result = run(
        {"name": "genetic", "population": 6, "generations": 30, "distinct": False},
        space=space,
        objective=lambda params: calls.append(params) or params["a"],
    )
    assert len(calls) == len(result.trials) <= 8
    assert len({space.key(params) for params in calls}) == len(calls)


def test_offspring_that_repeat_are_mutated_again():
    space = SearchSpace(a=Int(1, 8), b=Choice(["u", "v", "w"]), c=Int(1, 8))

    def distinct_trials(**options):
        searcher = {"name": "genetic", "population": 6, "generations": 10, **options}
        return len(run(searcher, space=space, objective=lambda params: params["a"] + params["c"])[1].trials)

    assert distinct_trials() > 1.3 * distinct_trials(distinct=False)


def test_a_toolbox_of_the_users_is_used():
    called = set()
    toolbox = base.Toolbox()

    def genes():
        called.add("individual")
        return [random.uniform(-1, 2) for _ in range(3)]

    def mate(a, b):
        called.add("mate")
        return tools.cxOnePoint(a, b)

    def mutate(individual):
        called.add("mutate")
        return tools.mutGaussian(individual, 0, 5, 0.9)  # leaves [0, 1] nearly always

    def select(individuals, k):
        called.add("select")
        return tools.selRoulette(individuals, k)

    for function in (mate, mutate, select):
        toolbox.register(function.__name__, function)
    toolbox.register("individual", genes)
    _, result = run({"name": "genetic", "population": 8, "generations": 4, "mutpb": 0.5, "toolbox": toolbox})
    assert called == {"individual", "mate", "mutate", "select"}
    assert result.counts.keys() == {"COMPLETED"}
    for trial in result.trials:
        assert SPACE.validate(trial.params) == trial.params


def test_offspring_are_always_inside():
    seed = 3
    searcher = make_searcher(
        {"name": "genetic", "population": 10, "eta": 0.1, "mutpb": 1.0}, SPACE, ("minimize",), seed
    )
    for number in range(400):
        for proposal in searcher.ask(1):
            SPACE.validate(proposal.params)
            searcher.tell(
                Trial(
                    number,
                    proposal.params,
                    0,
                    token=proposal.token,
                    state=TrialState.COMPLETED,
                    values=[sphere(proposal.params)],
                )
            )
    assert all(0 <= gene <= 1 for individual in searcher.hall_of_fame for gene in individual)
