import copy
import math
import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
from deap import base, tools
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_spark import Choice, ConfigError, Float, Int, SearchSpace, SerialExecutor, Study, Trial, TrialState
from hpo_spark.results.front import front_of, hypervolume
from hpo_spark.searchers import make_searcher
from hpo_spark.searchers.dominance import Contenders
from hpo_spark.searchers.history import Known

SPACE = SearchSpace(
    rate=Float(1e-4, 1e-1, log=True),
    layers=Int(1, 5),
    optimizer=Choice(["sgd", "adam", "rmsprop"]),
    momentum=Float(0.0, 0.99, when={"optimizer": "sgd"}),
)


def error_and_size(params):
    """Few layers and a low rate are cheap; more layers and a rate of 0.01 are good."""
    error = abs(SPACE["rate"].encode(params["rate"]) - 2 / 3) + 1 / params["layers"] + params.get("momentum", 0.5)
    return error, params["layers"] + SPACE["rate"].encode(params["rate"])


def numbers(n):
    return SearchSpace(**{f"x{index}": Float(0.0, 1.0) for index in range(n)})


def zdt1(params):
    """Zitzler, Deb and Thiele (2000): a convex front from (0, 1) to (1, 0)."""
    first, *others = params.values()
    g = 1 + 9 * sum(others) / len(others)
    return first, g * (1 - math.sqrt(first / g))


def dtlz2(params):
    """Deb, Thiele, Laumanns and Zitzler (2005): the front is an eighth of a sphere."""
    a, b, *others = params.values()
    radius = 1 + sum((x - 0.5) ** 2 for x in others)
    a, b = a * math.pi / 2, b * math.pi / 2
    return radius * math.cos(a) * math.cos(b), radius * math.cos(a) * math.sin(b), radius * math.sin(a)


def run(objective, searcher, direction, seed=0, n=60, space=SPACE, **options):
    study = Study(space, objective, searcher, direction, seed, **options)
    with SerialExecutor() as executor:
        return study.run(executor, max_trials=n, give_up_after=None)


def trial_of(proposal, number, objective=error_and_size):
    values = [float(value) for value in objective(proposal.params)]
    return Trial(number, proposal.params, 0, token=proposal.token, state=TrialState.COMPLETED, values=values)


@pytest.mark.parametrize("searcher", ["nsga2", "nsga3"])
@pytest.mark.parametrize(
    ("objective", "n_genes", "reference", "factor"), [(zdt1, 8, (1.1, 6.0), 1.2), (dtlz2, 6, (1.2, 1.2, 1.2), 1.2)]
)
def test_it_finds_a_front_that_random_search_does_not(searcher, objective, n_genes, reference, factor):
    ways = ["minimize"] * len(reference)
    volumes = [
        np.median(
            [
                run(objective, name, ways, seed, 200, numbers(n_genes), reference_point=reference).hypervolume
                for seed in range(3)
            ]
        )
        for name in (searcher, "random")
    ]
    assert volumes[0] > factor * volumes[1]


@pytest.mark.parametrize("searcher", ["nsga2", "nsga3"])
def test_no_trial_is_a_repeat_and_each_tells_where_it_came_from(searcher):
    space = SearchSpace(a=Choice(list("abc")), b=Int(1, 4), c=Choice([1, 2], ordered=True))
    result = run(lambda p: (p["b"], -p["b"] * p["c"]), searcher, ["minimize", "maximize"], n=100, space=space)
    assert len(result.trials) == len({space.key(trial.params) for trial in result.trials}) == 24
    origins = [trial.origin for trial in result.trials]
    assert {origin["by"] for origin in origins} <= {"start", searcher, "draw"}
    assert any(origin.get("parents") for origin in origins)


@pytest.mark.parametrize("searcher", ["nsga2", "nsga3"])
def test_failed_trials_are_no_parents_and_stop_nothing(searcher):
    def objective(params):
        if params["layers"] % 2:
            raise ValueError("odd")
        return error_and_size(params)

    result = run(objective, searcher, ["minimize", "minimize"])
    failed = {trial.number for trial in result.trials if trial.state is TrialState.FAILED}
    assert 0 < len(failed) < 30
    assert all(failed.isdisjoint((trial.origin or {}).get("parents", [])) for trial in result.trials)
    assert failed.isdisjoint(trial.number for trial in result.best_trials)
    assert run(lambda params: (math.nan, 1.0), searcher, ["minimize", "minimize"], n=15).hypervolume is None


@pytest.mark.parametrize("searcher", ["nsga2", "nsga3"])
def test_the_order_of_tells_changes_nothing(searcher):
    """Nor does restoring what was told, in any order, with some still running; nor a copy."""
    choice = {"name": searcher, "population": 6}
    straight, shuffled = (make_searcher(choice, SPACE, ("minimize", "maximize"), 3) for _ in range(2))
    rng = random.Random(0)
    history, running = [], []
    for _ in range(12):
        batch = straight.ask(5)
        assert [p.params for p in batch] == [p.params for p in shuffled.ask(5)]
        running += [trial_of(proposal, len(history) + len(running) + i) for i, proposal in enumerate(batch)]
        rng.shuffle(running)
        ended, running = running[:4], running[4:]
        for trial in ended:
            straight.tell(trial)
        for trial in sorted(ended, key=lambda trial: trial.number):
            shuffled.tell(trial)
            shuffled.tell(trial)
        history += ended
    restored = make_searcher(choice, SPACE, ("minimize", "maximize"), 3)
    told = [*history, *(replace(trial, state=TrialState.RUNNING, values=None) for trial in running)]
    rng.shuffle(told)
    restored.restore(told)
    searchers = [straight, shuffled, restored, copy.deepcopy(straight), pickle.loads(pickle.dumps(straight))]
    asked = [[proposal.params for proposal in one.ask(6)] for one in searchers]
    assert all(each == asked[0] for each in asked)


def test_operators_can_be_replaced():
    calls = []

    def mutate(individual):
        calls.append(list(individual))
        individual[random.randrange(len(individual))] = 7.0  # is put back to the edge
        return (individual,)

    toolbox = base.Toolbox()
    toolbox.register("mutate", mutate)
    toolbox.register("select", tools.selSPEA2)
    searcher = make_searcher({"name": "nsga2", "toolbox": toolbox}, SPACE, ("minimize", "minimize"), 0)
    assert run(error_and_size, searcher, ["minimize", "minimize"], n=30).counts["COMPLETED"] == 30
    assert calls


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"name": "nsga2", "population": 3}, "population=3"),
        ({"name": "nsga3", "children": 0}, "children=0"),
        ({"name": "nsga2", "cxpb": 2}, "cxpb=2"),
        ({"name": "nsga3", "toolbox": 1}, "DEAP Toolbox"),
        ({"name": "nsga2", "eta": 1}, "no option 'eta'"),
    ],
)
def test_bad_options_are_refused_with_a_sentence(choice, words):
    with pytest.raises(ConfigError, match=words):
        make_searcher(choice, SPACE, ("minimize", "maximize"), 0)


@st.composite
def point_sets(draw, max_size=30):
    """Points with many ties."""
    n_objectives = draw(st.integers(2, 4))
    point = st.tuples(*[st.integers(0, 8).map(float)] * n_objectives)
    return draw(st.lists(point, min_size=1, max_size=max_size))


def dominates(a, b):
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def known_of(points):
    trials = [Trial(i, {"i": i}, 0, state=TrialState.COMPLETED, values=[*p]) for i, p in enumerate(points)]
    return [Known(str(trial.number), trial, point) for trial, point in zip(trials, points, strict=True)]


@given(point_sets(), st.integers(1, 8), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_contenders_are_those_that_fewer_than_k_dominate(points, k, rng):
    """However they come: in any order, in portions, some without values, some told again."""
    n_objectives = len(points[0])
    known = known_of(points)
    failed = Known("failed", Trial(99, {}, 0, state=TrialState.FAILED), None)
    expected = {one.key for one in known if sum(dominates(p, one.losses) for p in points) < k}
    shuffled = [*known, failed]
    rng.shuffle(shuffled)
    contenders = Contenders(k, n_objectives)
    for end in range(1, len(shuffled) + 1, 3):
        contenders.among(shuffled[:end])
    assert {one.key for one in contenders.among(shuffled)} == expected
    better = Known(known[0].key, known[0].trial, (-1.0,) * n_objectives)
    contenders.among([better, *known[1:], failed])
    assert {one.key for one in contenders.among([*known, failed])} == expected


@given(point_sets(), st.integers(1, 10))
@settings(deadline=None)
def test_contenders_are_all_that_a_non_dominated_sort_needs(points, k):
    class Fitness(base.Fitness):
        weights = (-1.0,) * len(points[0])

    class One(list):
        pass

    def fronts(known):
        individuals = []
        for each in known:
            individuals.append(One([each.key]))
            individuals[-1].fitness = Fitness(each.losses)
        return [sorted(one[0] for one in front) for front in tools.sortLogNondominated(individuals, k)]

    known = known_of(points)
    assert fronts(Contenders(k, len(points[0])).among(known)) == fronts(known)


@given(point_sets())
def test_the_front_is_what_nothing_dominates(points):
    points.sort()
    assert front_of(points) == [i for i, own in enumerate(points) if not any(dominates(p, own) for p in points)]


@given(point_sets(), st.data())
def test_a_dominated_point_adds_no_hypervolume_and_no_point_takes_any(points, data):
    reference = (9.0,) * len(points[0])
    volume = hypervolume(points, reference)
    worse = tuple(x + data.draw(st.integers(0, 3)) for x in data.draw(st.sampled_from(points)))
    assert hypervolume([*points, worse], reference) == pytest.approx(volume)
    new = data.draw(st.tuples(*[st.integers(0, 8).map(float)] * len(reference)))
    assert hypervolume([*points, new], reference) >= volume - 1e-9
    if not any(new == point or dominates(point, new) for point in points):
        assert hypervolume([*points, new], reference) > volume


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=12))
def test_the_hypervolume_of_rectangles_is_their_union(points):
    cells = {(x, y) for a, b in points for x in range(a, 7) for y in range(b, 6)}
    assert hypervolume([(float(a), float(b)) for a, b in points], (7.0, 6.0)) == pytest.approx(len(cells))


def test_three_rectangles_by_hand():
    assert hypervolume([(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)], (4.0, 4.0)) == pytest.approx(6.0)


@pytest.mark.parametrize("reference", [None, (1.5, 4.0)])
def test_minimising_is_maximising_with_the_other_sign(reference):
    ways = [("minimize", "minimize", 1, 1), ("minimize", "maximize", 1, -1), ("maximize", "maximize", -1, -1)]
    results = []
    for first, second, a, b in ways:

        def objective(params, a=a, b=b):
            error, size = error_and_size(params)
            return a * error, b * size

        point = None if reference is None else (a * reference[0], b * reference[1])
        results.append(run(objective, "nsga2", [first, second], reference_point=point))
    assert results[0].hypervolume > 0
    assert len({result.hypervolume for result in results}) == 1
    assert len({tuple(trial.number for trial in result.best_trials) for result in results}) == 1
    assert results[0].to_dict()["hypervolume"] == results[0].hypervolume


def test_one_objective_has_no_hypervolume_and_is_searched_all_the_same():
    result = run(lambda params: error_and_size(params)[0], "nsga2", "minimize")
    assert result.hypervolume is None
    assert result.to_dict()["hypervolume"] is None
    assert (
        result.best_trial.value < run(lambda params: error_and_size(params)[0], "random", "minimize").best_trial.value
    )


@pytest.mark.parametrize(
    ("point", "direction", "words"),
    [
        ([1.0], ["minimize", "maximize"], "must be 2 finite numbers"),
        ([1.0, 2.0, 3.0], ["minimize", "maximize"], "must be 2 finite numbers"),
        ([1.0, math.inf], ["minimize", "maximize"], "must be 2 finite numbers"),
        ("ab", ["minimize", "maximize"], "must be 2 finite numbers"),
        (1.0, ["minimize", "maximize"], "must be 2 finite numbers"),
        ([1.0], "minimize", "is for several objectives"),
    ],
)
def test_a_bad_reference_point_is_refused_with_a_sentence(point, direction, words):
    with pytest.raises(ConfigError, match=f"reference_point {words}") as raised:
        Study(SPACE, error_and_size, "nsga2", direction, 0, reference_point=point)
    assert str(raised.value).count(". ") == 0
