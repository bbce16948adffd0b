"""What a worker runs for one trial: seeds, the objective, and a finished `Trial` whatever the objective does."""

from __future__ import annotations

import functools
import math
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from typing import Any

import numpy as np

from hpo_spark import output
from hpo_spark.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from hpo_spark.models import ModelPlace, Sent
from hpo_spark.objectives.context import Context
from hpo_spark.objectives.function import call_with_context
from hpo_spark.pickling import MAX_FRESH_BYTES, dump_task, dumps, loads
from hpo_spark.place import Place
from hpo_spark.plain import to_plain
from hpo_spark.reporting import Reporter
from hpo_spark.role import is_worker, n_lost_attempts
from hpo_spark.seeds import seeded_alone
from hpo_spark.trial import Trial, TrialState

__all__ = ["MODEL_PART", "Evaluated", "Evaluation"]

# The part of a trial that trains the model to keep, beside parts 0, 1, ... that its value comes from.
MODEL_PART = -1

# What is said beside numpy's complaint.
_READ_ONLY = (
    "The arrays of context.data can only be read, since all trials of a process share them: change a copy, as in "
    "x = context.data.train.x.copy()."
)


@dataclass(frozen=True)
class Evaluated:
    """What comes back from a worker.

    Attributes:
        trial: The finished trial.
        model: The model that it kept, where that comes with the result; None for none.
        output: All that a failed one printed.
        model_name: The file of the run folder that the worker wrote the model to.
        model_problem: Why the model was left behind.
        outcome: Of a part of a trial, what it came to: plain data.
        checkpoint: The file of the run folder that a promoted trial goes on from; None for none.
    """

    trial: Trial
    model: bytes | None = None
    output: str = ""
    model_name: str | None = None
    model_problem: str | None = None
    outcome: Any = None
    checkpoint: str | None = None

    @property
    def sent(self) -> Sent:
        """How its model left the worker."""
        return Sent(self.model, self.model_name, self.model_problem)


@dataclass(frozen=True)
class Evaluation:
    """Evaluates trials of one study, on a worker.

    It pickles as the bytes of a cloudpickle, made once, so that any pool can carry it.

    Attributes:
        objective: ``objective(params)`` or ``objective(params, context)``.
        study_seed: The study's seed.
        fixed: Constants that are passed to the objective with the params.
        directions: One an objective.
        deterministic: Whether the same trial must have the same values each time, even where that is slower.
        keeps_models: Whether trials keep models at all.
        place: Where a worker may write a model; None where all come back with the result.
        midway: Where running trials report and leave checkpoints; None for nowhere.
        full_fidelity: Epochs of a full training, where trials have fidelities.
    """

    objective: Callable[..., Any]
    study_seed: int
    fixed: Mapping[str, Any]
    directions: tuple[str, ...] = ("maximize",)
    deterministic: bool = False
    keeps_models: bool = True
    place: ModelPlace | None = None
    midway: Place | None = None
    full_fidelity: int | None = None

    @property
    def n_parts(self) -> int:
        """Parts of a trial that can be evaluated apart from one another; 1 where the objective has none."""
        n_parts = getattr(self.objective, "n_parts", 1)
        return n_parts if isinstance(n_parts, int) else 1

    @property
    def trains_models(self) -> bool:
        """Whether a trial in parts has one more that trains the model to keep."""
        return self.keeps_models and callable(getattr(self.objective, "train_model", None))

    def __call__(
        self,
        trial: Trial,
        known: Sequence[Sequence[float]] = (),
        checkpoint: str | None = None,
        part: int | None = None,
    ) -> Evaluated:
        """Evaluate a trial, or a part of it.

        Args:
            trial: What to evaluate.
            known: The values of the trials that none beat when this one was submitted.
            checkpoint: The file of the run folder that it goes on from; None to begin from the start.
            part: Number of the part, or `MODEL_PART`; None for the whole.
        """
        trial = replace(trial, attempt=trial.attempt + n_lost_attempts())
        context = self.context(trial, checkpoint, functools.partial(self.keeps, known))
        started, clock = time.time(), time.perf_counter()
        outcome: Any = None
        try:
            with seeded_alone(trial.seed):
                outcome = self._outcome({**self.fixed, **trial.params}, context, part)
        except BaseException as error:  # SystemExit too: an objective that exits fails its trial, not the study
            if isinstance(error, KeyboardInterrupt) and not is_worker():
                raise  # somebody pressed Ctrl-C
            outcome = error
        return self.conclude(trial, context, outcome, started, time.perf_counter() - clock, part)

    def context(self, trial: Trial, checkpoint: str | None, keeps: Callable[[Sequence[float]], bool]) -> Context:
        """What the objective gets to know of a trial, on its worker.

        Args:
            trial: The trial, with the attempt that this is.
            checkpoint: The file of the run folder that it goes on from; None to begin from the start.
            keeps: Tells whether a trial of such values keeps its model.
        """
        return Context(
            trial,
            self.study_seed,
            getattr(getattr(self.objective, "data", None), "load", None),
            keeps,
            self.deterministic,
            Reporter(self.midway, trial, renews=not self.deterministic and trial.repeat is None),
            functools.partial(self._load_checkpoint, trial, checkpoint),
            self._may_be_promoted(trial),
        )

    def conclude(
        self, trial: Trial, context: Context, outcome: Any, started: float, seconds: float, part: int | None = None
    ) -> Evaluated:
        """The trial that an outcome makes.

        Args:
            trial: The trial, with the attempt that this is.
            context: What the objective had for it.
            outcome: What the objective returned, or the exception that it raised.
            started: When it began, seconds since the epoch.
            seconds: How long it took.
            part: As for a call.
        """
        printed = ""
        ended: dict[str, Any] = {"state": TrialState.COMPLETED}
        error = outcome if isinstance(outcome, BaseException) else None
        if error is None and context.pruned is None and part is None:
            try:
                values, metrics = self._read(outcome)
            except Exception as unreadable:
                error = unreadable
            else:
                if trial.fidelity is not None:
                    metrics.setdefault("epochs", trial.fidelity - context.start)
                ended |= {"values": values, "metrics": metrics}
        if context.pruned is not None:
            ended = {"state": TrialState.PRUNED, "error": f"Pruned: {context.pruned}."}
        elif error is not None:
            printed = output.printed()
            ended = {"state": TrialState.FAILED, "error": _describe(error, output.end_of(printed))}
        finished = replace(
            trial, **ended, curve=context.curve, started=started, seconds=seconds, host=socket.gethostname()
        )
        sent = Sent()
        # An objective need not have asked whether its trial may lead.
        if part == MODEL_PART or (finished.values and context.keeps_model(finished.values)):
            sent = self._send(finished, context)
        return Evaluated(
            finished,
            sent.content,
            printed,
            sent.name,
            sent.problem,
            outcome=None if part is None or error is not None else outcome,
            checkpoint=self._write_checkpoint(finished, context),
        )

    def _may_be_promoted(self, trial: Trial) -> bool:
        """Whether a trial may go on from this one."""
        has_place = self.midway is not None and self.full_fidelity is not None and trial.repeat is None
        return has_place and trial.fidelity is not None and trial.fidelity < (self.full_fidelity or 0)

    def _load_checkpoint(self, trial: Trial, name: str | None) -> Checkpoint | None:
        found = None if name is None or self.midway is None else read_checkpoint(self.midway, name)
        has_epochs_left = found is not None and trial.fidelity is not None and found.step < trial.fidelity
        return found if has_epochs_left else None

    def _write_checkpoint(self, trial: Trial, context: Context) -> str | None:
        kept = context.kept_checkpoint
        if kept is None or self.midway is None or trial.state is not TrialState.COMPLETED:
            return None
        return write_checkpoint(self.midway, trial, kept.step, kept.content)

    def combine(self, trial: Trial, parts: Sequence[Evaluated]) -> Evaluated:
        """The trial that parts make, with the state, values and metrics that it would have as a whole.

        Args:
            trial: As it was submitted.
            parts: All of them in their order, each completed.
        """
        known: dict[str, Any] = {
            "curve": [pair for part in parts for pair in part.trial.curve],
            "host": parts[0].trial.host,
            "attempt": max(part.trial.attempt for part in parts),
        }
        try:
            combine = self.objective.combine  # type: ignore[attr-defined]
            values, metrics = self._read(combine([part.outcome for part in parts]))
            return Evaluated(replace(trial, state=TrialState.COMPLETED, values=values, metrics=metrics, **known))
        except Exception as error:
            return Evaluated(replace(trial, state=TrialState.FAILED, error=_describe(error, ""), **known))

    def _outcome(self, params: dict[str, Any], context: Context, part: int | None) -> Any:
        objective: Any = self.objective
        if part is None:
            return call_with_context(objective, params, context)
        if part == MODEL_PART:
            return context.keep_model(objective.train_model(params, context))
        return to_plain(objective.evaluate_part(params, context, part))

    def _send(self, trial: Trial, context: Context) -> Sent:
        """Send a model, or write it."""
        if context.model is None:
            return Sent(problem=context.model_problem)
        return Sent(content=context.model) if self.place is None else self.place.send(trial, context.model)

    def keeps(self, known: Sequence[Sequence[float]], values: Sequence[float]) -> bool:
        """Whether a trial of these values keeps its model, where the values ``known`` are those that none beats."""
        if len(values) != len(self.directions):
            return self.keeps_models  # the whole will tell
        own = self._with_signs(values)
        return self.keeps_models and not any(_beats(self._with_signs(other), own) for other in known)

    def _with_signs(self, values: Sequence[float]) -> list[float]:
        """Values as numbers of which larger ones are better."""
        ways = zip(values, self.directions, strict=True)
        return [value if way == "maximize" else -value for value, way in ways]

    def _read(self, outcome: Any) -> tuple[list[float], dict[str, Any]]:
        """The values and metrics of what an objective returned."""
        metrics: dict[str, Any] = {}
        raw = outcome
        if isinstance(outcome, Mapping):
            if "value" not in outcome:
                raise TypeError(f"The objective returned a dict without the key 'value': {outcome!r}.")
            raw = outcome["value"]
            metrics = {str(name): to_plain(metric) for name, metric in outcome.items() if name != "value"}
        if isinstance(raw, np.ndarray):
            raw = raw.tolist()
        values = list(raw) if isinstance(raw, Sequence) and not isinstance(raw, str) else [raw]
        if len(values) != len(self.directions):
            raise ValueError(
                f"The objective returned {len(values)} value(s), {raw!r}; the study has {len(self.directions)} "
                "direction(s)."
            )
        return [_finite_number(value) for value in values], metrics

    def check_pickling(self) -> None:
        """Raise `TaskNotPicklable` unless it can be sent to a worker."""
        self.__reduce__()

    def __reduce__(self) -> tuple[Any, ...]:
        blob = self._blob
        return _load_evaluation, (blake2b(blob, digest_size=16).hexdigest(), blob)

    @functools.cached_property
    def _blob(self) -> bytes:
        dump_task(self.objective)  # first alone, for an error that speaks of the user's function
        return dumps([getattr(self, field.name) for field in fields(self)])


_loaded: dict[str, Evaluation] = {}


def _load_evaluation(digest: str, blob: bytes) -> Evaluation:
    """Unpickle an evaluation: anew each time, so that no trial finds what another left in a function's variables.

    A large one, which brings data along, is kept.
    """
    if digest in _loaded:
        return _loaded[digest]
    evaluation = Evaluation(*loads(blob))
    if len(blob) > MAX_FRESH_BYTES:
        _loaded.clear()
        _loaded[digest] = evaluation
    return evaluation


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether larger values beat others: a tie does not, for it may still win by the lower number."""
    return one != other and all(own >= its for own, its in zip(one, other, strict=True))


def _finite_number(value: Any) -> float:
    try:
        plain = to_plain(value)
    except TypeError:
        plain = value
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise TypeError(f"The objective returned {value!r} of type {type(value).__name__}; expected a number.")
    if not math.isfinite(plain):
        raise ValueError(f"The objective returned {plain}; expected a finite number.")
    return float(plain)


def _headline(summary: str) -> str:
    """A summary whose first line tells the cause, which TensorFlow puts into the last one."""
    lines = [line for line in summary.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        return f"{lines[0]} {lines[-1].strip()}"
    return summary


def _describe(error: BaseException, printed: str) -> str:
    """The exception in the first line, then the traceback from the objective's first frame on, and what was printed."""
    try:
        if isinstance(error, ValueError) and "read-only" in str(error):
            error.add_note(_READ_ONLY)
        summary = _headline("".join(traceback.format_exception_only(error)).strip())
        steps = error.__traceback__.tb_next if error.__traceback__ else None
        text = "".join(traceback.format_exception(type(error), error, steps))
    except Exception:  # an exception whose own __str__ raises
        return type(error).__name__
    whole = f"{summary}\n\n{text}" + (f"\nThe end of its output:\n{printed}\n" if printed else "")
    return whole.encode(errors="backslashreplace").decode()  # file names may hold what no file can be written with
