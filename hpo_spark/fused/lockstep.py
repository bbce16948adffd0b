"""Training the members of a stack epoch by epoch, each as if it were alone.

All see the same batches. After each epoch every member's callbacks are told its own logs: one that is pruned, that a
callback stops or whose callback fails leaves the stack with what it has learnt, and the others go on without it. Since
members leave between epochs only, nothing need be masked within one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hpo_spark.data import Dataset
from hpo_spark.errors import TrialPruned
from hpo_spark.fused.stack import Stack
from hpo_spark.fused.stand_in import StandIn
from hpo_spark.objectives.training import EVALUATION_BATCH, Plan, batch_order, row_weights

__all__ = ["Finished", "Trainee", "train_in_lockstep"]


@dataclass(frozen=True)
class Trainee:
    """What belongs to one member.

    Attributes:
        report: Told each epoch's number and logs, before the callbacks.
        callbacks: Keras' callbacks, which no other trial has seen.
    """

    report: Callable[[int, Any], None]
    callbacks: Sequence[Any] = ()


@dataclass
class Finished:
    """How the training of one member ended.

    Attributes:
        history: Keras' history of it.
        stack: A stack that it is in, as its training left it; None where it failed or was pruned.
        number: Its number there.
        error: What its training raised; None where it ended well.
    """

    history: Any
    stack: Stack | None = None
    number: int = 0
    error: BaseException | None = None


@dataclass
class _Running:
    number: int
    model: StandIn
    told: Any
    error: BaseException | None = None


def train_in_lockstep(
    stack: Stack, trainees: Sequence[Trainee], dataset: Dataset, plan: Plan, metrics: Sequence[Any] = ()
) -> list[Finished]:
    """Train all members of a stack.

    Args:
        stack: Models that begin.
        trainees: What belongs to each.
        dataset: Train and validation part.
        plan: How long, and in which order.
        metrics: Those of a model like theirs, which callbacks may look at.

    Returns:
        How each ended, in the order of the trainees.
    """
    return _Lockstep(stack, trainees, dataset, plan, metrics).run()


class _Lockstep:
    def __init__(
        self, stack: Stack, trainees: Sequence[Trainee], dataset: Dataset, plan: Plan, metrics: Sequence[Any]
    ) -> None:
        import keras

        self._stack, self._plan = stack, plan
        weights = row_weights(dataset.train, plan.class_weight)
        self._train, self._validation = replace(dataset.train, sample_weight=weights), dataset.validation
        self._n_steps = math.ceil(len(self._train) / plan.batch_size)
        self._finished: dict[int, Finished] = {}
        self._read: list[list[Any]] | None = None
        # The trainees that are in the stack, in its order.
        self._running: list[_Running] = []
        for number, trainee in enumerate(trainees):
            model = StandIn(stack.rate(number), metrics, partial(self._variables_of, number))
            report = keras.callbacks.LambdaCallback(on_epoch_end=trainee.report)
            told = keras.callbacks.CallbackList(
                [report, *trainee.callbacks],
                add_history=True,
                model=model,
                verbose=0,
                epochs=plan.epochs,
                steps=self._n_steps,
            )
            self._running.append(_Running(number, model, told))

    def run(self) -> list[Finished]:
        plan = self._plan
        self._tell("on_train_begin")
        for epoch in range(plan.first_epoch, plan.epochs):
            self._tell("on_epoch_begin", epoch)
            self._take_rates()
            order = batch_order(len(self._train), plan.shuffle_seed, epoch)
            n_to_come = (plan.epochs - 1 - epoch) * self._n_steps
            logs = self._stack.train(self._train, order, plan.batch_size, n_to_come)
            self._read = None
            if self._validation is not None:
                scores = self._stack.evaluate(self._validation, EVALUATION_BATCH)
                logs |= {f"val_{name}": values for name, values in scores.items()}
            for place, one in enumerate(self._running):
                own = {name: float(values[place]) for name, values in logs.items()}
                self._tell_one(one, "on_epoch_end", epoch, own)
            is_last = epoch + 1 == plan.epochs
            leaving = [one for one in self._running if is_last or one.model.stop_training or one.error is not None]
            self._let_go(leaving)
            if not self._running:
                break
        self._let_go(self._running)
        return [self._finished[number] for number in sorted(self._finished)]

    def _tell(self, event: str, *arguments: Any) -> None:
        for one in self._running:
            self._tell_one(one, event, *arguments)

    @staticmethod
    def _tell_one(one: _Running, event: str, *arguments: Any) -> None:
        """Tell the callbacks of a trainee, unless it has failed."""
        if one.error is None:
            try:
                getattr(one.told, event)(*arguments)
            except (Exception, TrialPruned) as error:  # the others go on
                one.error = error

    def _take_rates(self) -> None:
        """Give members the learning rates that callbacks have set."""
        wanted = [(place, one.model.optimizer.learning_rate) for place, one in enumerate(self._running)]
        if changed := {place: rate for place, rate in wanted if rate != self._stack.rate(place)}:
            self._stack.change({}, changed)

    def _variables_of(self, number: int) -> list[Any]:
        """The variables of a trainee, which are read for all of them at once."""
        if self._read is None:
            self._read = self._stack.variables(range(len(self._stack)))
        place = next(place for place, one in enumerate(self._running) if one.number == number)
        return self._read[place]

    def _let_go(self, leaving: Sequence[_Running]) -> None:
        """Have some trainees leave the stack."""
        if not leaving:
            return
        for one in leaving:
            self._tell_one(one, "on_train_end")
            self._finished[one.number] = Finished(one.model.history, error=one.error)
        places = {one.number: place for place, one in enumerate(self._running)}
        ended = [one for one in leaving if one.error is None]
        own = self._stack
        staying = [one for one in self._running if one.number not in self._finished]
        if ended:
            stack = own if len(ended) == len(self._running) else own.taken([places[one.number] for one in ended])
            if given := {place: one.model.given for place, one in enumerate(ended) if one.model.given is not None}:
                stack.change(given, {})
            for place, one in enumerate(ended):
                self._finished[one.number] = Finished(one.model.history, stack, place)
        if staying:
            self._stack = own.taken([places[one.number] for one in staying])
        self._running = staying
        self._read = None
