"""Compiled loops that outlive their trial: one of equal structure takes them, with its own weights and rates."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from hpo_spark.data import Part
from hpo_spark.objectives.program import Program
from hpo_spark.objectives.rates import Rates, described_rates
from hpo_spark.objectives.structure import structure_of

__all__ = ["Loan", "borrow", "forget_programs", "give_back", "state_variables"]

# A search over layers and units has many structures: so many are kept, and weights of so many bytes.
_MAX_KEPT = 8
_MAX_BYTES = 1 << 28

_kept: OrderedDict[str, Loan] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class Loan:
    """A program that one trial has at a time.

    Attributes:
        program: The program, whose model stands for the one that was built.
        structure: Of its model; None where no other trial can have it.
        rates: The numbers of its optimizer that are variables.
    """

    program: Program
    structure: str | None
    rates: Rates


def borrow(model: Any, part: Part) -> Loan:
    """A program for a model: a kept one of equal structure that takes the model's state, or a new one.

    The model that trains is the program's: an exact copy of the one given, or that itself.
    """
    if not all(layer.built for layer in model._flatten_layers()):
        Program(model).build(part)  # a model that takes its shape from the first batch
    structure = structure_of(model, part)
    with _lock:
        loan = None if structure is None else _kept.pop(structure, None)
    if loan is not None:
        _copy_state(model, loan.program.model)
        loan.rates.take(model.optimizer)
        return loan
    rates = Rates(model.optimizer, [] if structure is None else list(described_rates(model.optimizer) or {}))
    program = Program(model, rates.compiling)
    program.build(part)
    return Loan(program, structure, rates)


def give_back(loan: Loan, part: Part) -> None:
    """Keep a program for a later trial, unless a callback has made something else of its model."""
    model = loan.program.model
    if loan.structure is None or _n_bytes(loan) > _MAX_BYTES or structure_of(model, part) != loan.structure:
        return
    model.history = None
    with _lock:
        _kept[loan.structure] = loan
        while len(_kept) > _MAX_KEPT or sum(map(_n_bytes, _kept.values())) > _MAX_BYTES:
            _kept.popitem(last=False)


def forget_programs() -> None:
    """Let go of all that is kept."""
    with _lock:
        _kept.clear()


def state_variables(model: Any) -> list[Any]:
    """All variables that training changes, but for metrics: of the layers, of random generators, of optimizers."""
    import keras

    # A model with a step of its own may have several, as one that trains two networks against each other.
    optimizers = [value for value in vars(model).values() if isinstance(value, keras.optimizers.Optimizer)]
    return [*model.variables, *(variable for optimizer in optimizers for variable in optimizer.variables)]


def _copy_state(source: Any, target: Any) -> None:
    source.optimizer.build(source.trainable_variables)
    for own, its in zip(state_variables(target), state_variables(source), strict=True):
        own.assign(its)


def _n_bytes(loan: Loan) -> int:
    return sum(
        variable.value.dtype.size * math.prod(variable.shape) for variable in state_variables(loan.program.model)
    )
