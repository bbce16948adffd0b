"""What a searcher takes from the end of a trial."""

import pytest

from hpo_spark import Float, SearchSpace, Trial, TrialState
from hpo_spark.searchers.history import History

SPACE = SearchSpace(x=Float(0.0, 1.0))


@pytest.mark.parametrize(
    ("state", "error", "n_known"),
    [
        (TrialState.CANCELLED, "Cancelled.", 0),
        (TrialState.CRASHED, "ExecutorLost: The task was begun 5 times, and each time its executor was lost.", 0),
        (TrialState.CRASHED, "WorkerCrashed: its process died of signal 11", 1),
        (TrialState.FAILED, "ValueError: a bad rate", 1),
    ],
)
def test_a_cancelled_or_lost_trial_says_nothing_and_is_not_proposed_again(state, error, n_known):
    history = History(SPACE, ("minimize",))
    history.expect({"x": 0.5})
    history.tell(Trial(0, {"x": 0.5}, 0, state=state, error=error))
    assert len(history) == n_known
    assert history.pending == []
    assert {"x": 0.5} in history
