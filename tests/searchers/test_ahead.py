"""A slow searcher is asked in a thread of its own: nothing waits for it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from hpo_spark import Float, SearchSpace, SerialExecutor, Study
from hpo_spark.searchers.base import Proposal, Searcher

SPACE = SearchSpace(x=Float(0.0, 1.0))


class SlowSearcher(Searcher):
    """Has each ask wait until it may go on, and writes down who calls."""

    name = "slow"
    is_slow = True

    def __init__(self, n=10):
        super().__init__(SPACE, ("minimize",))
        self.gate = threading.Semaphore(0)
        self.n, self.n_asked = n, 0
        self.told, self.threads = [], set()

    def ask(self, n):
        self.threads.add(threading.current_thread())
        self.gate.acquire()
        if self.n_asked == self.n:
            return []
        self.n_asked += 1
        return [Proposal({"x": self.n_asked / 100})]

    def tell(self, trial):
        self.threads.add(threading.current_thread())
        self.told.append(trial.number)

    def expect(self, trial):
        pass


def value(params):
    return params["x"]


def run(searcher, executor, callback=lambda study, trial: None, **limits):
    with executor:
        return Study(SPACE, value, searcher, "minimize", 0, callbacks=[callback]).run(executor, **limits)


def test_ends_are_dealt_with_while_an_ask_is_being_made():
    """The second ask goes on only once the end of the first trial has been reported."""
    searcher = SlowSearcher()
    searcher.gate.release()
    result = run(searcher, ThreadPoolExecutor(2), lambda study, trial: searcher.gate.release(100), max_trials=4)
    assert [trial.params["x"] for trial in result.trials] == [0.01, 0.02, 0.03, 0.04]
    assert threading.main_thread() not in searcher.threads
    assert len(searcher.threads) == 1


def test_a_time_limit_does_not_wait_for_an_ask():
    searcher = SlowSearcher()
    searcher.gate.release()
    result = run(searcher, ThreadPoolExecutor(2), timeout_s=1.0)
    assert len(result.trials) == 1
    assert "timeout_s" in result.reason
    searcher.gate.release(10)


def test_the_search_ends_with_the_searcher():
    searcher = SlowSearcher(n=3)
    searcher.gate.release(100)
    result = run(searcher, ThreadPoolExecutor(2))
    assert [trial.number for trial in result.trials] == [0, 1, 2]
    assert result.reason == "the searcher has finished"


def test_an_error_of_the_searcher_ends_the_study_with_its_own_words():
    class Broken(SlowSearcher):
        def ask(self, n):
            raise ArithmeticError("the covariance is singular")

    with pytest.raises(ArithmeticError, match="covariance is singular"):
        run(Broken(), ThreadPoolExecutor(2), max_trials=4)


def test_in_one_thread_it_is_asked_there_with_all_that_is_known():
    searcher = SlowSearcher()
    searcher.gate.release(100)
    run(searcher, SerialExecutor(), max_trials=4)
    assert searcher.threads == {threading.main_thread()}
    assert searcher.told == [0, 1, 2, 3]
