"""Which configuration climbs to which rung, and when."""

import pytest

from hpo_spark import ConfigError, Float, SearchSpace, SklearnObjective, Study, Trial, TrialState
from hpo_spark.config import parse_study_file
from hpo_spark.searchers import make_searcher
from hpo_spark.searchers.ladder import Ladder

SPACE = SearchSpace(x=Float(0.0, 1.0))


def make(name, low=1, high=9, eta=3, **options):
    return make_searcher({"name": name, "min": low, "max": high, "eta": eta, **options}, SPACE, ("maximize",), 0)


def end(searcher, number, proposal, value):
    state = TrialState.FAILED if value is None else TrialState.COMPLETED
    trial = Trial(
        number, proposal.params, 0, proposal.fidelity, proposal.parent, token=proposal.token,
        state=state, values=None if value is None else [value],
    )  # fmt: skip
    searcher.tell(trial)
    return trial


@pytest.mark.parametrize(
    ("ladder", "rungs"),
    [
        ((1, 81, 3), [1, 3, 9, 27, 81]),
        ((1, 30, 3), [1, 3, 10, 30]),
        ((1, 10, 3), [1, 3, 10]),
        ((2, 10, 3), [3, 10]),
        ((11, 100, 3), [11, 33, 100]),
        ((1, 2, 2), [1, 2]),
        ((4, 5, 3), [5]),
    ],
)
def test_rungs_lead_down_from_the_full_training(ladder, rungs):
    assert Ladder(*ladder).rungs == rungs


def test_brackets_are_those_of_the_paper():
    """Table 1 of Li et al. (2018), R = 81, eta = 3."""
    ladder = Ladder(1, 81, 3)
    sizes = [ladder.bracket(number).sizes for number in range(5)]
    assert sizes == [[81, 27, 9, 3, 1], [34, 11, 3, 1], [15, 5, 1], [8, 2], [5]]
    assert [ladder.bracket(number).first for number in range(6)] == [0, 1, 2, 3, 4, 0]


def test_asha_promotes_as_soon_as_it_can():
    searcher = make("asha")
    asked = searcher.ask(3)
    assert [one.fidelity for one in asked] == [1, 1, 1]
    for number, value in enumerate([0.1, 0.9, 0.5]):
        end(searcher, number, asked[number], value)
    first, second = searcher.ask(2)
    assert (first.params, first.fidelity, first.parent) == (asked[1].params, 3, 1)
    assert (second.fidelity, second.parent) == (1, None)


def test_hyperband_waits_for_a_rung_and_begins_the_next_bracket_meanwhile():
    searcher = make("hyperband")
    asked = searcher.ask(10)
    assert [one.fidelity for one in asked] == [1] * 9 + [3]
    for number, proposal in enumerate(asked[:9]):
        end(searcher, number, proposal, None if number == 8 else number / 10)
    climbing = searcher.ask(3)
    assert [(one.fidelity, one.parent) for one in climbing] == [(3, 7), (3, 6), (3, 5)]
    assert sorted(searcher.outdated) == [0, 1, 2, 3, 4, 8]


def test_dehb_evolves_at_each_fidelity():
    searcher, number, asked = make("dehb"), 0, []
    while len(asked) < 60:
        for proposal in searcher.ask(4):
            end(searcher, number, proposal, -abs(proposal.params["x"] - 0.3))
            asked.append(proposal)
            number += 1
    assert [one.fidelity for one in asked[:9]] == [1] * 9
    assert {one.fidelity for one in asked} == {1, 3, 9}
    children = [one for one in asked if one.origin.get("by") == "dehb" and one.token.get("genes")]
    assert len(children) > 30
    assert min(abs(one.params["x"] - 0.3) for one in asked if one.fidelity == 9) < 0.05


@pytest.mark.parametrize("name", ["asha", "hyperband", "dehb"])
def test_a_search_that_goes_on_with_other_fidelities_has_each_trial_where_its_epochs_are(name):
    searcher, trials = make(name, 3, 27), []
    while len(trials) < 30:
        trials += [end(searcher, len(trials) + n, one, n / 10) for n, one in enumerate(searcher.ask(4))]
    assert {trial.fidelity for trial in trials} == {3, 9, 27}
    wider = make(name, 1, 27)  # whose rung 1 was rung 0, and so on
    wider.restore(trials)
    for (_, rung), climbers in wider._rungs.items():
        numbers = [one.number for one in climbers.values()]
        assert {trials[number].fidelity for number in numbers} == {wider.ladder.rungs[rung]}
    by_number = {trial.number: trial for trial in trials}
    other = make(name, 1, 10)  # where no rung has 9 or 27 epochs
    other.restore(trials)
    for proposal in [*wider.ask(40), *other.ask(40)]:
        assert proposal.parent is None or by_number[proposal.parent].fidelity < proposal.fidelity


def test_dehb_keeps_no_checkpoint_that_nobody_can_go_on_from():
    searcher, kept, number = make("dehb"), {}, 0
    most = []
    while number < 300:
        for proposal in searcher.ask(2):
            kept.pop(proposal.parent, None)  # as a study does when a trial has climbed
            trial = end(searcher, number, proposal, -abs(proposal.params["x"] - 0.3))
            if trial.fidelity < 9:
                kept[number] = trial
            number += 1
        while searcher.outdated:
            kept.pop(searcher.outdated.popleft(), None)
        most.append(len(kept))
    # Populations of 9 and 5 individuals, and as many in the first bracket.
    assert max(most) <= 9 + 5 + 9


def test_what_something_goes_on_from_is_not_let_go_of():
    searcher = make("asha")
    (first, *others) = searcher.ask(3)
    for number, proposal in enumerate([first, *others]):
        end(searcher, number, proposal, [0.5, 0.1, 0.2][number])
    (climbing,) = [one for one in searcher.ask(1) if one.parent is not None]
    assert climbing.parent == 0
    for number in range(3, 30):  # all better, so that it would not climb now
        end(searcher, number, searcher.ask(1)[0], number)
    searcher.ask(1)
    assert 1 in searcher.outdated
    assert 0 not in searcher.outdated


def test_a_searcher_learns_what_a_configuration_was_worth_at_the_most_epochs():
    searcher = make("asha", searcher="evolution")
    asked = searcher.ask(3)
    for number, value in enumerate([0.1, 0.9, 0.5]):
        end(searcher, number, asked[number], value)
    (climbing,) = searcher.ask(1)
    end(searcher, 3, climbing, 0.2)
    assert [known.trial.value for known in searcher.searcher.history.ranked] == [0.5, 0.2, 0.1]


@pytest.mark.parametrize(
    ("searcher", "fidelity", "words"),
    [
        ("asha", {"min": 5, "max": 5}, "min must be below max, got min=5, max=5"),
        ("evolution", {"max": 9, "eta": 1}, "fidelity: eta must be a whole number of 2 or more, got eta=1"),
        ("dehb", {"maximum": 9}, "no key 'maximum'"),
        ("dehb", None, "max, the epochs of a full training, is missing"),
        ({"name": "asha", "max": 9}, {"max": 9}, "'max' is an option of the searcher too"),
        ({"name": "asha", "searcher": "dehb"}, {"max": 9}, "'dehb'"),
        ("random", 9, "must be a mapping"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(searcher, fidelity, words):
    with pytest.raises(ConfigError) as raised:
        Study(SPACE, lambda params: 0.0, searcher, seed=0, fidelity=fidelity)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "options", [{"fidelity": {"max": 9}}, {"pruner": "median"}, {"searcher": {"name": "asha", "max": 9}}]
)
def test_several_objectives_have_neither_fidelities_nor_a_pruner(options):
    with pytest.raises(ConfigError, match="one (objective|direction)"):
        Study(SPACE, lambda params: (0.0, 0.0), direction=["maximize"] * 2, seed=0, **{"fidelity": None, **options})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fidelity": {"max": 9}}, "fidelity: needs an objective that trains in epochs"),
        ({"searcher": {"name": "hyperband", "max": 9}}, "SklearnObjective does not"),
        ({"pruner": "median"}, "pruner: needs an objective that trains in epochs"),
    ],
)
def test_an_objective_without_epochs_has_neither_fidelities_nor_a_pruner(options, words):
    from sklearn.tree import DecisionTreeClassifier

    objective = SklearnObjective(DecisionTreeClassifier(), "digits")
    with pytest.raises(ConfigError) as raised:
        Study(SPACE, objective, seed=0, **options)
    assert words in str(raised.value)


FILE = """
space: {units: {int: [1, 9]}}
objective: {keras: hpo_spark.objectives.mlp:build_model, data: digits, epochs: 12}
"""


def study_of(*lines):
    text = FILE.replace("units", "hidden_units") + "\n".join(lines)
    return parse_study_file(text.encode(), "study.yaml").study(None)


def test_study_files_say_it_in_a_line():
    study = study_of("searcher: dehb", "pruner: {name: median, start: 3}")
    assert (study.searcher.name, study.searcher.full_fidelity, study.pruner.name) == ("dehb", 12, "median")
    study = study_of("fidelity: {min: 2, max: 18}")
    assert (study.searcher.name, study.searcher.searcher.name) == ("asha", "evolution")
    assert study.searcher.ladder == Ladder(2, 18, 3)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pruner: medain", "line 4: pruner: there is no 'medain'; choose one of ['asha', 'median', 'patience']"),
        ("fidelity: {min: 0}", "line 4: fidelity.min: should be greater than 0"),
        ("fidelity: {min: 12}", "line 4: fidelity: min must be below max, got min=12, max=12"),
        ("fidelity: {mini: 1}", "unknown key. Did you mean 'min'?"),
    ],
)
def test_study_files_are_told_where_they_are_wrong(line, words):
    with pytest.raises(ConfigError) as raised:
        study_of(line)
    assert words in str(raised.value)
