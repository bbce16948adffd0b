"""An executor that breaks in the middle, as Spark does when its JVM dies: the search can be resumed."""

import json
import os
import random
import time
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor

import pytest

from hpo_spark import Float, SearchSpace, SerialExecutor, Study
from hpo_spark.journal import read_record

SPACE = SearchSpace(x=Float(0.0, 1.0))


def breaks_once(params, context):
    """Now and then it takes its process along, which breaks the standard pool."""
    time.sleep(random.SystemRandom().random() * 0.01)
    if context.number == 13 and not os.path.exists(params["flag"]):
        open(params["flag"], "w").close()
        os._exit(1)
    return params["x"]


def make(out, flag, mode):
    return Study(
        SPACE, breaks_once, "de", "minimize", 5, out, fixed={"flag": str(flag)}, resume=out is not None, **mode
    )


def table(trials):
    return [(t.number, t.params, t.seed, t.state, t.values) for t in trials]


@pytest.mark.parametrize("mode", [{}, {"deterministic": True, "lookahead": 1}, {"deterministic": True}], ids=str)
def test_a_search_whose_pool_broke_goes_on(tmp_path, mode):
    out, flag = tmp_path / "run", tmp_path / "flag"
    with ProcessPoolExecutor(3) as pool, pytest.raises(BrokenExecutor):
        make(out, flag, mode).run(pool, 40)
    assert json.loads((out / "result.json").read_text())["state"] == "interrupted"
    before = {trial.number: trial for trial in read_record(out).ended}
    assert len(before) > 3 and 13 not in before  # how soon the pool sees that it is broken depends on the load
    with ProcessPoolExecutor(3) as pool:
        after = make(out, flag, mode).run(pool, 40)
    assert [trial.number for trial in after.trials] == list(range(40))
    assert {number: after.trials[number] for number in before} == before
    if mode:
        with SerialExecutor() as pool:
            assert table(after.trials) == table(make(None, flag, mode).run(pool, 40).trials)
