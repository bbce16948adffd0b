"""Hundreds of trainings in one trial process: its memory stays, and each is as the first."""

import os
import sys
from pathlib import Path

import pytest

from hpo_spark import KerasObjective, ProcessExecutor, SparkExecutor
from hpo_spark.executors.memory import anonymous_mb
from hpo_spark.objectives.evaluate import Evaluation
from hpo_spark.trial import Trial

sys.path.insert(0, str(Path(__file__).parents[1] / "objectives"))
import models

pytestmark = pytest.mark.storm

N_TRIALS = 500
# Until then libraries are loaded and their caches fill.
N_WARM_UP = 20


class Measured:
    """An objective, and what its process holds when it begins."""

    def __init__(self, objective):
        self.objective = objective
        self.data = objective.data

    def __call__(self, params, context):
        outcome = self.objective(params, context)
        return {**outcome, "memory_mb": anonymous_mb(os.getpid()), "pid": os.getpid()}


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("make", [lambda spark: ProcessExecutor(1), lambda spark: SparkExecutor(spark, slots=1)],
                         ids=["processes", "spark"])  # fmt: skip
def test_hundreds_of_keras_trials_leave_nothing_behind(spark, make):
    evaluation = Evaluation(Measured(KerasObjective(models.tiny, "digits", epochs=1)), 0, {})
    history = []
    with make(spark) as executor:
        for number in range(N_TRIALS):
            # Every tenth is the same configuration with the same seed, among others of another size.
            same = number % 10 == 0
            params = {"learning_rate": 0.01 if same else 0.001 * (1 + number % 7)}
            trial = Trial(number, params, 1 if same else number)
            ended = executor.submit(evaluation, trial).result(timeout=300).trial
            assert ended.values, ended.error
            history.append((ended.metrics["pid"], ended.metrics["memory_mb"], ended.value, same))
    assert len({value for _, _, value, same in history if same}) == 1
    pids = [pid for pid, *_ in history]
    own = [memory for pid, memory, *_ in history[N_WARM_UP:] if pid == max(set(pids), key=pids.count)]
    print(f"{len(set(pids))} process(es); memory after warm-up {own[0]:.0f} MB, at the end {own[-1]:.0f} MB")
    assert max(own) - own[0] < 100
