"""Spaces and trials that the tests of the exchange share."""

import math
import random

from hypothesis import strategies as st

from hpo_spark import Choice, Float, Int, SearchSpace, Trial, TrialState

SPACE = SearchSpace(
    rate=Float(1e-4, 1.0, log=True),
    share=Float(0.0, 1.0, step=0.1),
    width=Int(1, 64, log=True),
    layers=Int(1, 7, step=3),
    spread=Float(prior="lognormal", mean=0.0, sd=1.0),
    odd=Choice(["a", None, True, 2.5, "None", "true", "", " 7 "]),
    mixed=Choice([[1, 2], {"a": 1}, 1, True, 1.0, "1", "[1, 2]"]),
    size=Choice([1, 2, 3], ordered=True),
    optimizer=Choice(["sgd", "adam"]),
    momentum=Float(0.0, 0.99, when={"optimizer": "sgd"}),
)
STATES = [TrialState.COMPLETED, TrialState.COMPLETED, TrialState.FAILED, TrialState.TIMED_OUT, TrialState.CRASHED]


def a_trial(number, params, state=TrialState.COMPLETED, values=(0.1 + 0.2,), **more):
    told = list(values) if state is TrialState.COMPLETED else None
    error = None if told else "Wrong: it was wrong\nTraceback"
    facts = {
        "seed": 2**31 - 1 - number,
        "fidelity": 3 if number % 2 else None,
        "parent": number - 1 if number % 2 else None,
        "metrics": {"loss": 1 / 3, "nan": math.nan, "inf": -math.inf, "n": number},
        "curve": [[1, 0.5], [2, math.nan], [4, math.inf]],
        "started": 1.7e9 + number + 1 / 3,
        "seconds": 2 / 3,
        "host": "a-host",
        "attempt": 2,
    }
    return Trial(number, params, state=state, values=told, error=error, **{**facts, **more})


def some_trials(n, space=SPACE, n_values=1, seed=0):
    rng = random.Random(seed)
    return [
        a_trial(number, space.sample(rng), STATES[number % len(STATES)], [rng.random() for _ in range(n_values)])
        for number in range(n)
    ]


def exact(trials):
    """What must come back, in a form that tells 1 from True, 0.1 from the next number, and NaN from nothing."""
    return [
        (
            trial.number,
            sorted((name, repr(value)) for name, value in trial.params.items()),
            trial.seed,
            (trial.fidelity, trial.parent),
            str(trial.state),
            repr(trial.values),
            sorted((name, repr(value)) for name, value in trial.metrics.items()),
            repr(trial.started),
            repr(trial.seconds),
            trial.host,
            trial.attempt,
            trial.reason,
        )
        for trial in trials
    ]


any_params = st.integers(0, 2**32).map(SPACE.sample)
any_value = st.floats(allow_nan=False, allow_infinity=False)


def sphere(params):
    return (params["x"] - 1.0) ** 2 + params["n"] + (0.0 if params["kind"] == "good" else 5.0)


SMALL = SearchSpace(x=Float(-5.0, 5.0), n=Int(1, 3), kind=Choice(["bad", "good"]))
