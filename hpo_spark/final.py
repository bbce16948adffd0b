"""What follows a search: a configuration trained once more, and the best model's metrics on the test part."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from hpo_spark.executors.base import cancel_task
from hpo_spark.models import KeptModels, ModelPlace
from hpo_spark.objectives.evaluate import Evaluated, Evaluation
from hpo_spark.trial import Trial

__all__ = ["identity_of", "score_test_part", "train_again"]

Test = Callable[[bytes, dict[str, Any], int], dict[str, float]]


def identity_of(trial: Trial | None) -> dict[str, int] | None:
    """What tells a trial and its model from others of the study, for the journal."""
    return None if trial is None else {"number": trial.number, "attempt": trial.attempt}


def train_again(executor: Executor, evaluation: Evaluation, trial: Trial) -> Evaluated:
    """Evaluate a trial's configuration once more, with its own seed; as the attempt after its last.

    Raises:
        Exception: Whatever the executor says of its end; the trial's own failure is in what is returned.
    """
    asked = Trial(
        trial.number, trial.params, trial.seed, trial.fidelity, attempt=trial.attempt + 1, origin=trial.origin
    )
    evaluated: Evaluated = _call(executor, evaluation, asked)
    return evaluated


def score_test_part(
    executor: Executor,
    test: Test,
    kept: KeptModels,
    model: str | int,
    place: ModelPlace | None,
    params: dict[str, Any],
    study_seed: int,
) -> dict[str, float] | None:
    """Evaluate a model on the test part.

    The worker reads it from the run folder; where it does not see that, the driver sends it.

    Args:
        executor: Where to do it.
        test: The objective's method.
        kept: The models.
        model: File of the one, or the number of its trial.
        place: The run folder as workers may see it.
        params: What the model was built from.
        study_seed: The study's seed.

    Returns:
        Its metrics; None where the model has gone.
    """
    if place is not None and isinstance(model, str):
        scores: dict[str, float] | None = _call(executor, _read_and_test, test, place, model, params, study_seed)
        if scores is not None:
            return scores
    content = kept.read_file(model) if isinstance(model, str) else kept.read(model)
    return None if content is None else _call(executor, test, content, params, study_seed)


def _read_and_test(
    test: Test, place: ModelPlace, name: str, params: dict[str, Any], study_seed: int
) -> dict[str, float] | None:
    """On a worker; None where it does not see the run folder."""
    content = place.read(name)
    return None if content is None else test(content, params, study_seed)


def _call(executor: Executor, function: Callable[..., Any], *args: Any) -> Any:
    future = executor.submit(function, *args)
    try:
        return future.result()
    except KeyboardInterrupt:
        cancel_task(executor, future)
        raise
