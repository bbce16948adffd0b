"""Searches that are killed again and again at random moments: no finished trial is lost, none runs twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import storm

PROGRAM = Path(__file__).with_name("storm.py")


@pytest.mark.parametrize(
    ("executor", "searcher", "pruner", "n_kills"),
    [
        ("serial", "evolution", None, 20),
        ("serial", {"name": "genetic", "population": 6}, None, 10),
        ("serial", {"name": "asha", "max": 9}, "asha", 5),
        ("serial", {"name": "dehb", "max": 9}, None, 5),
        ("processes", {"name": "cmaes", "population": 6}, "median", 10),
    ],
    ids=str,
)
def test_a_search_that_is_killed_again_and_again_ends_like_one_that_was_not(
    tmp_path, executor, searcher, pruner, n_kills
):
    command = [sys.executable, PROGRAM, tmp_path, str(n_kills), executor, json.dumps(searcher), json.dumps(pruner), "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["kills"] == n_kills, "it was over before the last kill"
    assert (seen["lost"], seen["run_again"], seen["told_twice"]) == ([], [], [])
    with storm.make_executor("serial") as pool:
        whole = storm.make_study(tmp_path, searcher, tmp_path / "whole", pruner).run(pool, 400)
    assert seen["table"] == json.loads(json.dumps(storm.table(whole.trials)))
