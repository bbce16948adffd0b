"""The trials that few others dominate, kept up to date trial by trial: all that a non-dominated sort needs to see.

One trial dominates another if it is no worse in any objective and better in one. Of a trial that k others dominate,
these k lie in fronts before its own; so it is not among the best k, and neither it nor what it dominates matters to the
fronts that hold them. The rest is the k-skyband. It depends on the trials, not on the order in which they came, and one
that has left it never comes back.

References:
    Papadias, Tao, Fu and Seeger (2005), "Progressive skyline computation in database systems", ACM Transactions on
    Database Systems 30, 41-82: the k-skyband.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpo_spark.searchers.history import Known

__all__ = ["Contenders"]


class Contenders:
    """The k-skyband of what a history knows.

    Args:
        k: Trials that so many others dominate are out; 1 or more.
        n_objectives: Losses a trial.
    """

    def __init__(self, k: int, n_objectives: int) -> None:
        self._k, self._n_objectives = k, n_objectives
        self._clear()

    def among(self, known: Sequence[Known]) -> list[Known]:
        """The trials that fewer than ``k`` others dominate, the best in the first objective first.

        Args:
            known: All trials so far: those of the last call, and what has been added or replaced since.
        """
        news = [one for one in known if self._counted.get(one.key) is not one]
        if len(self._counted) + len(news) != len(known):  # some were told again: what they had pushed out may return
            self._clear()
            news = list(known)
        for one in news:
            self._counted[one.key] = one
            if one.losses is not None:
                self._add(one, np.array(one.losses))
        return sorted(self._band, key=lambda one: one.rank)

    def _clear(self) -> None:
        self._counted: dict[str, Known] = {}
        self._band: list[Known] = []
        self._losses = np.empty((0, self._n_objectives))
        self._n_better = np.empty(0, dtype=np.int64)

    def _add(self, one: Known, losses: np.ndarray) -> None:
        """Count who dominates whom. What has left the band need not be asked: its dominators are there, k of them."""
        differs = (self._losses != losses).any(axis=1)
        is_better = (self._losses <= losses).all(axis=1) & differs
        if is_better.sum() >= self._k:
            return
        n_better = self._n_better + ((losses <= self._losses).all(axis=1) & differs)
        stays = n_better < self._k
        self._band = [other for other, is_in in zip(self._band, stays, strict=True) if is_in] + [one]
        self._losses = np.vstack([self._losses[stays], losses])
        self._n_better = np.append(n_better[stays], is_better.sum())
