"""Which searches differ by nothing but their seed, and which were after the same at all.

A problem is what values hang on: space, objective with its code and data, fixed params. A method is how it is searched.
Limits are neither: of two searches that differ by them one has gone on for longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from hpo_spark.plain import plain_text
from hpo_spark.report.labels import short
from hpo_spark.report.run import Run
from hpo_spark.resuming import differences

__all__ = ["Difference", "grouped", "labels_of", "method_differences", "problem_differences"]

_PROBLEM = ("space", "objective", "fixed")
_METHOD = ("searcher", "pruner", "fidelity", "confirm", "x0", "warm_start")
_METHOD_IN_STUDY = ("deterministic", "lookahead")
_CODE = ("code", "data")
# What a label has room for.
_MAX_SAID, _LONGEST = 2, 30

# Dotted key in a study file, what one search has there, and what the other.
Difference = tuple[str, Any, Any]
T = TypeVar("T")


def problem_differences(one: Run, other: Run) -> list[Difference]:
    """Where the problems of two searches differ: their values cannot be compared then."""
    found = list(differences(_problem(one), _problem(other)))
    for name in _CODE:
        own, its = one.record.fingerprint.get(name), other.record.fingerprint.get(name)
        if own is not None and its is not None and own != its:
            found.append((f"the objective's {name}", own, its))
    return found


def method_differences(one: Run, other: Run) -> list[Difference]:
    """Where the methods of two searches differ."""
    return list(differences(_method(one), _method(other)))


def grouped(runs: Iterable[Run], apart: Callable[[Run, Run], Sequence[Difference]]) -> list[list[Run]]:
    """Runs that nothing tells apart together, in the order in which they come."""
    found: list[list[Run]] = []
    for run in runs:
        own = next((group for group in found if not apart(group[0], run)), None)
        if own is None:
            found.append([run])
        else:
            own.append(run)
    return found


def labels_of(groups: Sequence[Sequence[Run]]) -> list[str]:
    """What each group is called: by its searcher; where that is not enough, also by what else differs."""
    texts = [group[0].searcher_text for group in groups]
    labels: list[str] = []
    for group, text in zip(groups, texts, strict=True):
        rivals = [other[0] for other, its in zip(groups, texts, strict=True) if its == text]
        label = text if len(rivals) == 1 else f"{text}, {_distinction(group[0], rivals)}"
        n_taken = sum(taken == label for taken in labels)
        labels.append(f"{label} ({n_taken + 1})" if n_taken else label)
    return labels


def _distinction(run: Run, rivals: Sequence[Run]) -> str:
    """What tells a run from others of the same searcher, in a few words; its name where that would be many."""
    found = [[*problem_differences(rivals[0], rival), *method_differences(rivals[0], rival)] for rival in rivals]
    firsts = {key: old for differing in found for key, old, _ in differing}
    if len(firsts) > _MAX_SAID or any(key.startswith(("space", "the ")) for key in firsts):
        return run.name
    own = firsts | {key: new for key, _, new in found[rivals.index(run)]}
    return ", ".join(f"{key.removeprefix('study.')}={short(plain_text(value), _LONGEST)}" for key, value in own.items())


def _problem(run: Run) -> dict[str, Any]:
    return {name: run.record.study.get(name) or {} for name in _PROBLEM}


def _method(run: Run) -> dict[str, Any]:
    settings: Mapping[str, Any] = {name: run.settings.get(name) or None for name in _METHOD_IN_STUDY}
    own = {name: run.record.study.get(name) for name in _METHOD}
    return {**own, "searcher": dict(run.searcher), "study": settings}
