"""The figures of the comparison, from rows of regrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata, wilcoxon

from benchmarks.searching.results import Row

__all__ = ["Paired", "common", "mean_and_error", "mean_ranks", "paired"]

# By problem and seed, a figure for each checkpoint.
Rows = Mapping[str, Mapping[int, Row]]
Pair = tuple[str, int]


def common(methods: Sequence[Rows]) -> list[Pair]:
    """The problems and seeds that all methods have."""
    pairs = [{(problem, seed) for problem, rows in each.items() for seed in rows} for each in methods]
    return sorted(set.intersection(*pairs)) if pairs else []


def mean_and_error(rows: Rows, place: int) -> tuple[float, float]:
    """The mean over problems of the mean over seeds, and its standard error over seeds, the problems being given."""
    columns = [np.array([row[place] for row in seeds.values()]) for seeds in rows.values()]
    variances = [column.var(ddof=1) / len(column) if len(column) > 1 else np.nan for column in columns]
    return float(np.mean([column.mean() for column in columns])), float(np.sqrt(np.sum(variances))) / len(columns)


def mean_ranks(methods: Mapping[str, Rows], place: int) -> dict[str, float]:
    """Each method's mean rank over the problems and seeds that all have, 1 being the best; ties share theirs."""
    pairs = common(list(methods.values()))
    figures = np.array([[rows[problem][seed][place] for rows in methods.values()] for problem, seed in pairs])
    return dict(zip(methods, rankdata(figures, axis=1).mean(axis=0).tolist(), strict=True))


@dataclass(frozen=True)
class Paired:
    """One method against another, on the problems and seeds that both have.

    Attributes:
        difference: The mean difference; negative where the first is better.
        upper: Upper end of its two-sided 95 % interval, over seeds, the problems being given.
        p: Of Wilcoxon's signed-rank test, two-sided; ties left out.
    """

    difference: float
    upper: float
    p: float


def paired(first: Rows, second: Rows, place: int) -> Paired:
    """Compare two methods."""
    differences: dict[str, dict[int, Row]] = {}
    for problem, seed in common([first, second]):
        figure = first[problem][seed][place] - second[problem][seed][place]
        differences.setdefault(problem, {})[seed] = [figure]
    mean, error = mean_and_error(differences, 0)
    flat = [row[0] for seeds in differences.values() for row in seeds.values()]
    p = float(wilcoxon(flat).pvalue) if any(flat) else 1.0
    return Paired(mean, mean + 1.96 * error, p)
