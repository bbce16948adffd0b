"""Several searchers, one history: turns by success, tokens kept apart, everybody learns everything."""

from collections import Counter

import pytest

from hpo_spark import Choice, ConfigError, Float, SearchSpace, SerialExecutor, Study, Trial, TrialState
from hpo_spark.searchers import make_searcher

SPACE = SearchSpace(x=Float(0.0, 1.0), y=Float(0.0, 1.0))


def bowl(params):
    return (params["x"] - 0.3) ** 2 + (params["y"] - 0.7) ** 2


def search(members, n=80, **options):
    searcher = make_searcher({"name": "ensemble", "members": members, **options}, SPACE, ("minimize",), 0)
    owners = []
    for number in range(n):
        (proposal,) = searcher.ask(1)
        owners.append(proposal.origin["member"])
        trial = Trial(number, proposal.params, 0, token=proposal.token, state=TrialState.COMPLETED)
        searcher.tell(Trial(**{**vars(trial), "values": [bowl(proposal.params)]}))
    return searcher, owners


def test_who_succeeds_is_asked_more_often():
    for members in (["evolution", "random"], ["random", "evolution"]):
        _, owners = search(members)
        turns = Counter(owners[40:])
        assert turns["evolution"] > 3 * turns["random"]


def test_the_first_begins_alone_as_it_would_by_itself():
    _, owners = search(["evolution", "random"], n=10)
    assert set(owners) == {"evolution"}
    together = make_searcher({"name": "ensemble", "members": ["evolution", "de"]}, SPACE, ("minimize",), 0)
    alone = make_searcher("evolution", SPACE, ("minimize",), 0)
    assert [p.params for p in together.ask(10)] == [p.params for p in alone.ask(10)]
    _, owners = search(["evolution", "random"], start=0)
    assert "random" in owners[:10]


def test_a_member_that_has_finished_is_passed_over():
    searcher, owners = search([{"name": "grid", "points": 2}, "evolution"], n=30)
    assert Counter(owners)["grid"] == 4
    assert not searcher.ends
    space = SearchSpace(a=Choice([1, 2]))
    both = make_searcher({"name": "ensemble", "members": ["grid", "random"]}, space, ("minimize",), 0)
    assert len(both.ask(5)) == 2


def test_members_of_other_libraries_share_one_study():
    members = ["evolution", {"name": "tpe", "start": 3}, {"name": "bayes", "start": 4, "candidates": 100}]
    study = Study(SPACE, bowl, {"name": "ensemble", "members": members}, "minimize", 0)
    assert study.searcher.is_slow
    with SerialExecutor() as executor:
        result = study.run(executor, 50)
    assert {trial.origin["member"] for trial in result.trials} == {"evolution", "tpe", "bayes"}
    assert len({SPACE.key(trial.params) for trial in result.trials}) == 50
    assert result.best_trial.value < 1e-3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"members": ["evolution"]}, "two searchers or more"),
        ({"members": "evolution"}, "two searchers or more"),
        ({"members": ["evolution", "evolutio"]}, "there is no 'evolutio'.*Did you mean 'evolution'"),
        ({"members": ["evolution", {"name": "de", "populations": 3}]}, "'de' has no option 'populations'"),
        ({"success": 2}, "success=2"),
        ({"start": -1}, "start=-1"),
    ],
)
def test_bad_options_are_refused_with_a_sentence(options, words):
    with pytest.raises(ConfigError, match=words):
        make_searcher({"name": "ensemble", **options}, SPACE, ("minimize",), 0)


def test_improvement_a_second_depends_on_the_clock_here_too():
    members = ["evolution", {"name": "bayes", "acquisition": "EIps"}]
    with pytest.raises(ConfigError, match="goes by the seconds that trials took"):
        Study(SPACE, bowl, {"name": "ensemble", "members": members}, deterministic=True)
