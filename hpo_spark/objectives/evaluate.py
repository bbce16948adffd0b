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
from hpo_spark.objectives.context import Context
from hpo_spark.objectives.function import call_with_context
from hpo_spark.pickling import MAX_FRESH_BYTES, dump_task, dumps, loads
from hpo_spark.plain import to_plain
from hpo_spark.role import is_worker, n_lost_attempts
from hpo_spark.seeds import seeded_alone
from hpo_spark.trial import Trial, TrialState

__all__ = ["Evaluated", "Evaluation"]


@dataclass(frozen=True)
class Evaluated:
    """What comes back from a worker.

    Attributes:
        trial: The finished trial.
        model: The model that it kept; None for none.
        output: All that a failed one printed.
    """

    trial: Trial
    model: bytes | None = None
    output: str = ""


@dataclass(frozen=True)
class Evaluation:
    """Evaluates trials of one study, on a worker.

    It pickles as the bytes of a cloudpickle, made once, so that any pool can carry it.

    Attributes:
        objective: ``objective(params)`` or ``objective(params, context)``.
        study_seed: The study's seed.
        fixed: Constants that are passed to the objective with the params.
        n_values: How many objectives there are.
        maximize: Whether the first of them is better when larger.
        deterministic: Whether the same trial must have the same values each time, even where that is slower.
    """

    objective: Callable[..., Any]
    study_seed: int
    fixed: Mapping[str, Any]
    n_values: int = 1
    maximize: bool = True
    deterministic: bool = False

    def __call__(self, trial: Trial, best: float | None = None) -> Evaluated:
        """Evaluate a trial.

        Args:
            trial: What to evaluate.
            best: The best value known when the trial was submitted; None for none.
        """
        load_data = getattr(getattr(self.objective, "data", None), "load", None)
        context = Context(trial, self.study_seed, load_data, functools.partial(self._keeps, best), self.deterministic)
        started, clock = time.time(), time.perf_counter()
        printed = ""
        try:
            with seeded_alone(trial.seed):
                params = {**self.fixed, **trial.params}
                outcome = call_with_context(self.objective, params, context)
            values, metrics = self._read(outcome)
            ended: dict[str, Any] = {"state": TrialState.COMPLETED, "values": values, "metrics": metrics}
        except BaseException as error:  # SystemExit too: an objective that exits fails its trial, not the study
            if isinstance(error, KeyboardInterrupt) and not is_worker():
                raise  # somebody pressed Ctrl-C
            printed = output.printed()
            ended = {"state": TrialState.FAILED, "error": _describe(error, output.end_of(printed))}
        finished = replace(
            trial,
            **ended,
            curve=context.curve,
            started=started,
            seconds=time.perf_counter() - clock,
            host=socket.gethostname(),
            attempt=trial.attempt + n_lost_attempts(),
        )
        return Evaluated(finished, context.model if finished.state is TrialState.COMPLETED else None, printed)

    def _keeps(self, best: float | None, value: float) -> bool:
        # A tie may still win, by the lower number.
        return best is None or (value >= best if self.maximize else value <= best)

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
        if len(values) != self.n_values:
            raise ValueError(
                f"The objective returned {len(values)} value(s), {raw!r}; the study has {self.n_values} direction(s)."
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
        summary = _headline("".join(traceback.format_exception_only(error)).strip())
        steps = error.__traceback__.tb_next if error.__traceback__ else None
        text = "".join(traceback.format_exception(type(error), error, steps))
    except Exception:  # an exception whose own __str__ raises
        return type(error).__name__
    whole = f"{summary}\n\n{text}" + (f"\nThe end of its output:\n{printed}\n" if printed else "")
    return whole.encode(errors="backslashreplace").decode()  # file names may hold what no file can be written with
