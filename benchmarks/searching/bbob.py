"""COCO's suite `bbob-mixint`: functions of integers and floats, noiseless.

Four fifths of the variables are integers of 2, 4, 8 and 16 levels, the rest floats. Regret is (f - best) / (median -
best), the median over configurations drawn at random. The best is the function's value at the optimum that COCO itself
gives out for each problem; no searcher sees it.

References:
    Tusar, Brockhoff and Hansen (2019), "Mixed-integer benchmark problems for single- and bi-objective optimization",
    GECCO.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cocoex
import numpy as np

from benchmarks.searching.problem import Outcome
from hpo_spark import Float, Int, SearchSpace
from hpo_spark.space import Params

__all__ = ["FLOOR", "NAMES", "MixedInteger", "open_problem"]

# Regrets below this count as this much, so that one function solved to the last digit does not outweigh the others.
FLOOR = 1e-6

_FUNCTIONS, _DIMENSIONS, _INSTANCES = range(1, 25, 2), (5, 10), (1, 2)
_N_RANDOM = 1000

NAMES = tuple(
    f"f{function:02}-d{dimension:02}-i{instance}"
    for function in _FUNCTIONS
    for dimension in _DIMENSIONS
    for instance in _INSTANCES
)


class MixedInteger:
    """One problem of the suite.

    Args:
        name: What it is called in the results.
        problem: COCO's.
    """

    def __init__(self, name: str, problem: Any) -> None:
        self.name = name
        self._problem = problem
        n_integers = problem.number_of_integer_variables
        self.space = SearchSpace(
            **{
                f"x{index}": Int(int(low), int(high)) if index < n_integers else Float(float(low), float(high))
                for index, (low, high) in enumerate(zip(problem.lower_bounds, problem.upper_bounds, strict=True))
            }
        )

    def evaluate(self, params: Params, rng: np.random.Generator) -> Outcome:
        """The function's value."""
        loss = self._value(params)
        best, median = _scale(self.name)
        return Outcome(loss, max(0.0, (loss - best) / (median - best)))

    def scale(self) -> tuple[float, float]:
        """The best value and that of the median configuration."""
        # COCO writes the optimum to a file in the working directory, and has no other way to tell it.
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            self._problem._best_parameter("print")
            (file,) = Path(folder).iterdir()
            best = float(self._problem([float(word) for word in file.read_text().split()]))
        rng = np.random.default_rng(0)
        return best, float(np.median([self._value(self.space.sample(rng)) for _ in range(_N_RANDOM)]))

    def _value(self, params: Params) -> float:
        return float(self._problem(list(params.values())))


@contextlib.contextmanager
def open_problem(name: str) -> Iterator[MixedInteger]:
    """The problem of one of `NAMES`, without an observer, so that nothing is written; freed at the end."""
    function, dimension, instance = (int(word[1:]) for word in name.split("-"))
    suite = cocoex.Suite("bbob-mixint", "", f"dimensions: {dimension} instance_indices: {instance}")
    problem = suite.get_problem_by_function_dimension_instance(function, dimension, instance)
    try:
        yield MixedInteger(name, problem)
    finally:
        problem.free()


@cache
def _scale(name: str) -> tuple[float, float]:
    with open_problem(name) as problem:
        return problem.scale()
