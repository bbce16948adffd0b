"""Several trials of a `KerasObjective` as one training: which go together, and what becomes of each.

Which trials can go together is asked where the search runs, without TensorFlow and without the data: the key tells it
from the params alone. What only the data or the models can tell is found by the worker: those that have no
company there end with `CannotFuse`, and run alone elsewhere, side by side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from hpo_spark.data.dataset import as_dataset
from hpo_spark.data.recipe import Recipe
from hpo_spark.errors import CannotFuse
from hpo_spark.fused.family import Candidate, Family, Params
from hpo_spark.fused.gain import check_gain
from hpo_spark.fused.lockstep import Finished, Trainee, train_in_lockstep
from hpo_spark.fused.mlp import Mlps
from hpo_spark.fused.stack import Stack
from hpo_spark.fused.stacked import Stacked
from hpo_spark.fused.stand_in import is_known
from hpo_spark.keras_state import forget_models, spare_kernels
from hpo_spark.objectives.callbacks import make_callbacks
from hpo_spark.objectives.context import Context
from hpo_spark.objectives.mlp import build_model
from hpo_spark.objectives.program import Program
from hpo_spark.objectives.reuse import state_variables
from hpo_spark.objectives.saved import model_bytes
from hpo_spark.objectives.training import EVALUATION_BATCH, Plan, dump_state

if TYPE_CHECKING:
    from hpo_spark.objectives.keras import KerasObjective

__all__ = ["evaluate_many", "fuse_bytes", "fuse_key", "why_alone"]


# Where nobody knows before a worker has the data.
_USUAL_SHAPE = (1024,)


def family_of(objective: KerasObjective) -> Family:
    """How an objective's models are trained together."""
    return Mlps() if objective.build_model is build_model else Stacked()


def why_alone(objective: KerasObjective, params: Params) -> str | None:
    """Why a trial must be trained alone; None where nothing of what is known beforehand says so.

    Raises:
        ValueError: If the params are impossible.
    """
    if unknown := [callback for callback in objective.callbacks if not is_known(callback)]:
        return f"the callback {_name(unknown[0])} must see a model of its own"
    if objective.is_full:
        return "a model for use is trained by itself"
    return family_of(objective).why_alone(objective, params)


def fuse_key(objective: KerasObjective, params: Params) -> Hashable | None:
    """What trials must have in common to be trained together; None for one that must be trained alone.

    Raises:
        ValueError: If the params are impossible.
    """
    if why_alone(objective, params) is not None:
        return None
    epochs, batch_size = (params.get(name, getattr(objective, name)) for name in ("epochs", "batch_size"))
    return epochs, batch_size, family_of(objective).key(params)


def fuse_bytes(objective: KerasObjective, params: Params) -> int:
    """What a member of a group needs in memory, an estimate.

    Raises:
        ValueError: If the params are impossible.
    """
    return family_of(objective).n_bytes(params, _input_shape(objective.data.recipe))


@lru_cache(maxsize=8)
def _input_shape(recipe: Recipe) -> tuple[int, ...]:
    """The shape of an input, where the driver has the data anyway."""
    if recipe.where != "driver":
        return _USUAL_SHAPE
    shape = as_dataset(recipe.load()).input_shape
    return shape if isinstance(shape, tuple) else _USUAL_SHAPE


def evaluate_many(
    objective: KerasObjective, params: Sequence[dict[str, Any]], contexts: Sequence[Context]
) -> list[dict[str, Any] | BaseException]:
    """Train several models as one, and return for each what the objective would have.

    Args:
        objective: Whose trials they are.
        params: The configuration of each.
        contexts: Of each, none with a checkpoint.

    Returns:
        For each trial its value and metrics, or what it raised; or `CannotFuse` where only others had company.

    Raises:
        CannotFuse: If none can be trained with any other, or nothing is gained by it.
    """
    if any(context.checkpoint is not None for context in contexts):
        raise CannotFuse("a trial that goes on from a checkpoint is trained alone")
    spares_kernels = not family_of(objective).draws and not _runs_code_of_user(objective)
    forget_models(spares_kernels)
    outcomes: dict[int, dict[str, Any] | BaseException] = {}
    groups: dict[Hashable, list[Candidate]] = defaultdict(list)
    for number, (own, context) in enumerate(zip(params, contexts, strict=True)):
        try:
            work = objective.work_of(own, context)
            callbacks = make_callbacks(objective.callbacks, own, context, work.dataset.validation is not None)
        except Exception as error:
            outcomes[number] = error
            continue
        parts = work.dataset.train, work.dataset.validation
        if any(part is not None and part.is_stream for part in parts):
            raise CannotFuse("a tf.data.Dataset is read by one model at a time")
        company = work.epochs, work.batch_size, context.shuffle_seed
        context.last_step = work.epochs
        groups[company].append(Candidate(number, own, context, work, callbacks))
    try:
        trained: list[tuple[Candidate, Finished]] = []
        for candidates in groups.values():
            for those, found in family_of(objective).begin(objective, candidates):
                if not isinstance(found, BaseException):
                    try:
                        trained += zip(those, _train(objective, those, found), strict=True)
                        continue
                    except CannotFuse as error:
                        found = error
                outcomes |= dict.fromkeys((one.number for one in those), found)
        refused = {number: error for number, error in outcomes.items() if isinstance(error, CannotFuse)}
        if len(refused) == len(params):
            raise min(refused.values(), key=lambda error: error.for_key)
        if trained:  # their key has trials that go together
            outcomes |= {number: CannotFuse(error.message, for_key=False) for number, error in refused.items()}
        outcomes |= _outcomes(objective, trained)
        _keep(objective, [(one, end) for one, end in trained if end.stack is not None], outcomes)
    finally:
        forget_models(spares_kernels)
        if spares_kernels:
            spare_kernels()
    return [outcomes[number] for number in range(len(params))]


def _runs_code_of_user(objective: KerasObjective) -> bool:
    """Whether functions of the user's run in a group's task, which may draw random numbers."""
    return objective.data.recipe.where == "process" or not all(isinstance(one, Mapping) for one in objective.callbacks)


def _train(objective: KerasObjective, candidates: Sequence[Candidate], stack: Stack) -> list[Finished]:
    first = candidates[0]
    if not first.context.deterministic:  # there nothing may depend on the clock
        check_gain(stack, first.work.dataset.train, first.work.n_step_rows)
    trainees = [Trainee(partial(objective.report, one.context), one.callbacks) for one in candidates]
    plan = Plan(
        first.work.epochs, first.work.batch_size, first.context.shuffle_seed, class_weight=objective.class_weight
    )
    metrics = _metrics_of(objective, first) if any(one.callbacks for one in candidates) else []
    return train_in_lockstep(stack, trainees, first.work.dataset, plan, metrics)


def _outcomes(
    objective: KerasObjective, trained: Sequence[tuple[Candidate, Finished]]
) -> dict[int, dict[str, Any] | BaseException]:
    tests: dict[int, dict[str, Any]] = {}
    outcomes: dict[int, dict[str, Any] | BaseException] = {}
    for one, end in trained:
        if end.stack is None:
            assert end.error is not None
            outcomes[one.number] = end.error
            continue
        try:
            outcome = objective.outcome_of(end.history, one.callbacks)
        except Exception as error:
            outcomes[one.number] = error
            continue
        if one.work.test is not None:
            if id(end.stack) not in tests:
                tests[id(end.stack)] = end.stack.evaluate(one.work.test, EVALUATION_BATCH)
            scores = tests[id(end.stack)]
            outcome |= {f"test_{name}": float(values[end.number]) for name, values in scores.items()}
        outcomes[one.number] = outcome
    return outcomes


def _keep(
    objective: KerasObjective,
    trained: Sequence[tuple[Candidate, Finished]],
    outcomes: Mapping[int, dict[str, Any] | BaseException],
) -> None:
    """Keep checkpoints, and models: of members that lead when their turn comes, those that no later member beats."""
    states: dict[int, list[list[Any]]] = {}

    def state(end: Finished) -> list[Any]:
        assert end.stack is not None
        if id(end.stack) not in states:  # a stack is read as a whole
            states[id(end.stack)] = end.stack.states(range(len(end.stack)))
        return states[id(end.stack)][end.number]

    ended = [(one, end, outcome) for one, end in trained if isinstance(outcome := outcomes[one.number], dict)]
    for one, end, _ in ended:
        if one.context.keeps_checkpoint and objective.may_go_on(one.work.dataset):
            one.context.keep_checkpoint(one.work.epochs, dump_state(state(end)))
    leaders = [those for those in ended if those[0].context.keeps_model(those[2]["value"])]
    for one, end, outcome in leaders:
        if one.context.keeps_model(outcome["value"]):  # all leaders are known by now
            model = _built(objective, one)
            model.optimizer.build(model.trainable_variables)
            for variable, value in zip(state_variables(model), state(end), strict=True):
                variable.assign(value)
            if (content := model_bytes(model)) is not None:
                one.context.keep_model(content)


def _built(objective: KerasObjective, candidate: Candidate) -> Any:
    """A candidate's model with all its variables."""
    model = family_of(objective).model(objective, candidate)
    if not all(layer.built for layer in model._flatten_layers()):
        Program(model).build(candidate.work.dataset.train)
    return model


def _metrics_of(objective: KerasObjective, candidate: Candidate) -> list[Any]:
    """The metrics of a candidate's model."""
    model = _built(objective, candidate)
    Program(model).build(candidate.work.dataset.train)
    return list(model.metrics)


def _name(callback: Any) -> str:
    if isinstance(callback, Mapping):
        return str(next(iter(callback)))
    return getattr(callback, "__name__", type(callback).__name__)
