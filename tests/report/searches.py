"""Searches that the tests of reports share, as journals: whole ones, and all kinds of odd ones."""

import random
from dataclasses import replace
from pathlib import Path

from hpo_spark import Choice, Float, Int, SearchSpace, Trial, TrialState
from hpo_spark.confirm import origin_of
from hpo_spark.journal import Journal
from hpo_spark.storage import open_storage

# What must be seen, and must not happen.
SCRIPT = "</script><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>"
ODD = "ü漢字 <b>fett</b> & 'q' \"qq\" $x^{2}$ %{x} {{ 7*7 }}"

MIXED = SearchSpace(
    learning_rate=Float(1e-4, 1e-1, log=True),
    hidden_layers=Int(1, 3),
    units=Int(5, 512, log=True),
    dropout=Float(0.0, 0.8, step=0.1),
    optimizer=Choice(["sgd", "adam", None, True]),
    momentum=Float(0.0, 0.99, when={"optimizer": "sgd"}),
)
HOSTILE = SearchSpace(
    **{
        SCRIPT: Float(0, 1),
        ODD: Int(1, 9),
        "n" * 300: Float(0, 1),
        "kind": Choice([SCRIPT, "<i>a</i>", "$\\frac{1$", "k" * 300, "", "1", 1]),
        "below": Float(0, 1, when={"kind": [SCRIPT, "<i>a</i>"]}),
    }
)
CATEGORICAL = SearchSpace(a=Choice(["x", "y", "z"]), b=Choice([1, 2, 3]), c=Choice([True, False, None]))
ONE = SearchSpace(x=Float(0, 1))
FAILURES = (TrialState.FAILED, TrialState.TIMED_OUT, TrialState.CRASHED)


def some_trials(n, space, n_values=1, seed=0, fails=lambda number: number % 11 == 3, reason="ValueError: it is bad"):
    """Trials on four slots of two hosts, some of which fail and some of which were run again."""
    rng = random.Random(seed)
    free = [0.0] * 4
    trials = []
    for number in range(n):
        params = space.sample(rng)
        slot, seconds = free.index(min(free)), rng.uniform(1.0, 20.0)
        started, free[slot] = free[slot], free[slot] + seconds + 0.2
        ends = {"state": TrialState.COMPLETED, "values": [rng.random() + place for place in range(n_values)]}
        if fails(number):
            ends = {"state": FAILURES[number % 3], "error": f"{reason}\nTraceback\n  ..."}
        trials.append(
            Trial(
                number,
                params,
                number,
                **ends,
                metrics={"val_loss": rng.random()} if "values" in ends else {},
                curve=[[epoch, rng.random() + epoch / 10] for epoch in range(1, 6)],
                started=1.7e9 + started,
                seconds=seconds,
                host=f"host-{slot % 2}",
                attempt=2 if number % 17 == 5 else 1,
            )
        )
    return trials


def write_journal(folder, space, trials, directions=("maximize",), name="a study", ends=True, seed=0, **study):
    """A run folder with nothing but a journal."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    journal = Journal(open_storage(folder))
    direction = directions[0] if len(directions) == 1 else list(directions)
    section = {"name": name, "direction": direction, "seed": seed, "max_trials": len(trials)}
    described = {"study": section, "space": space.to_dict(), "searcher": "evolution", "objective": {}, **study}
    journal.begin({"study": described, "seed": seed, "versions": {"python": "3.11.7"}})
    for trial in trials:
        journal.ask(replace(trial, state=TrialState.RUNNING, values=None, error=None), 0)
        journal.tell(trial)
    if ends:
        journal.end({"state": "finished", "reason": "max_trials is reached", "slots": 4, "test": {}, "best": None})
    journal.close()
    return folder


def hostile(folder):
    trials = some_trials(40, HOSTILE, reason=f"ValueError: {SCRIPT} {ODD}")
    return write_journal(folder, HOSTILE, trials, name=f"{SCRIPT} {ODD} " + "x" * 300)


def of_fidelity(trial):
    """Every third trial is trained for longer, and every seventh was stopped early."""
    trial = replace(trial, fidelity=(1, 3, 9)[trial.number % 3])
    return replace(trial, state=TrialState.PRUNED, values=None) if trial.number % 7 == 2 else trial


def repeated(folder):
    """The two best of twenty trials were trained three times more; the second of them is better on average."""
    trials = some_trials(20, MIXED)
    best, second = sorted((trial for trial in trials if trial.values), key=lambda trial: -trial.value)[:2]
    for repeat in (1, 2, 3):
        for original, value in ((best, 0.1), (second, 0.5)):
            number = len(trials)
            origin = origin_of(original, repeat)
            trials.append(replace(original, number=number, seed=number, values=[value + repeat / 10], origin=origin))
    return write_journal(folder, MIXED, trials, confirm={"top_k": 2, "repeats": 3})


KINDS = {
    "mixed": lambda folder: write_journal(folder, MIXED, some_trials(60, MIXED)),
    "hostile": hostile,
    "empty": lambda folder: write_journal(folder, MIXED, [], ends=False),
    "failed": lambda folder: write_journal(folder, MIXED, some_trials(12, MIXED, fails=lambda number: True)),
    "single": lambda folder: write_journal(folder, MIXED, some_trials(1, MIXED)),
    "one parameter": lambda folder: write_journal(folder, ONE, some_trials(15, ONE)),
    "one choice": lambda folder: write_journal(folder, space := SearchSpace(x=Choice(["a"])), some_trials(1, space)),
    "categorical": lambda folder: write_journal(folder, CATEGORICAL, some_trials(20, CATEGORICAL)),
    "three objectives": lambda folder: write_journal(
        folder, MIXED, some_trials(50, MIXED, 3), ("maximize", "minimize", "minimize")
    ),
    "four objectives": lambda folder: write_journal(folder, ONE, some_trials(20, ONE, 4), ["minimize"] * 4),
    "repeats": repeated,
    "fidelities": lambda folder: write_journal(folder, MIXED, [of_fidelity(trial) for trial in some_trials(60, MIXED)]),
}
SECTIONS = (
    "summary",
    "best",
    "history",
    "parallel",
    "slices",
    "contours",
    "importances",
    "curves",
    "timeline",
    "failures",
    "environment",
)
