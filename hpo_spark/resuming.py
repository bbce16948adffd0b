"""What may change when a study goes on, and what may not: its trials must stay comparable."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpo_spark.journal import StudyRecord
from hpo_spark.plain import as_json, same

__all__ = ["Changes", "changes", "differences"]

# What the trials' values, or the searcher's knowledge, hang on.
_FIXED = ("space", "objective", "fixed", "warm_start")
_FIXED_IN_STUDY = ("direction", "seed", "deterministic", "lookahead")
_CODE = {"code": "the objective's code", "data": "the objective's data"}
# Where files are named whose contents are compared, or were read when the study began.
_LOCATED = ("objective", "warm_start")
_FILES = (".py", ".npz", ".npy", ".csv", ".csv.gz", ".parquet")


@dataclass
class Changes:
    """How a study differs from what its run folder says.

    Attributes:
        accepted: What may change, a phrase each.
        refused: What may not.
    """

    accepted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def changes(before: StudyRecord, study: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> Changes:
    """Compare a study with the one that a journal records.

    Args:
        before: The journal.
        study: The study now, in the form of a study file.
        fingerprint: Of its objective's code and data now.
    """
    found = Changes()
    if not before.study:
        return found
    study = as_json(study)  # as a journal gives it back
    is_deterministic = bool(study.get("study", {}).get("deterministic"))
    for key, old, new in differences(before.study, study):
        top, _, inner = key.partition(".")
        name = inner.partition(".")[0]
        is_fixed = top in _FIXED or (top == "study" and name in _FIXED_IN_STUDY)
        is_fixed = is_fixed or (top in ("searcher", "x0", "pruner", "fidelity", "fuse") and is_deterministic)
        (found.refused if is_fixed else found.accepted).append(f"{key}: {_said(old)} -> {_said(new)}")
    for name, what in _CODE.items():
        old, new = before.fingerprint.get(name), fingerprint.get(name)
        if old is not None and new is not None and old != new:
            found.refused.append(f"{what} ({old} -> {new})")
    return found


_MISSING = object()


def differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The places where two studies differ: dotted key, old and new value. What is absent equals null.

    Folders of files do not count: the same file may lie elsewhere.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            yield from differences(old.get(name), new.get(name), f"{key}.{name}" if key else str(name))
        if key.startswith("space") and list(old) != list(new) and set(old) == set(new):
            yield key, list(old), list(new)  # the order of the parameters is that of the genes
    elif not _is_same(key, old, new) and not (_is_empty(old) and _is_empty(new)):
        yield key, old, new


def _is_empty(value: Any) -> bool:
    return value is None or value == {} or value == []


def _is_same(key: str, old: Any, new: Any) -> bool:
    if key.partition(".")[0] in _LOCATED:
        return same(_located(old), _located(new))
    return same(old, new)


def _located(value: Any) -> Any:
    """A value without the folders of files: a run may go on where they lie elsewhere, and its code is compared."""
    if isinstance(value, list):
        return [_located(item) for item in value]
    if not isinstance(value, str):
        return value
    path, colon, name = value.partition(":") if ".py:" in value else (value, "", "")
    return f"{os.path.basename(path)}{colon}{name}" if path.endswith(_FILES) else value


def _said(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
