"""Plain values: what JSON can hold and every worker can read, whatever library a value came from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = [
    "as_json",
    "canonical",
    "dump_json",
    "dump_line",
    "plain_text",
    "restore_float",
    "same",
    "to_finite",
    "to_plain",
]

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_plain(value: Any) -> Any:
    """Turn numpy scalars, arrays, tuples and mappings into None, bool, int, float, str, list and dict.

    Raises:
        TypeError: If a value has no plain form.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    for method in ("item", "tolist"):  # a numpy, TensorFlow or JAX scalar; then an array of any of them
        convert = getattr(value, method, None)
        if callable(convert) and not isinstance(value, type):
            try:
                converted = convert()
            except (TypeError, ValueError):
                continue
            if type(converted) is not type(value):
                return to_plain(converted)
    for cls in (str, int, float):
        if isinstance(value, cls):  # a subclass: an enumeration's member, a numpy string
            return cls(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} is not plain data.")


def same(a: Any, b: Any) -> bool:
    """Whether two plain values are equal and of one type: True is not 1, and 1 is not 1.0."""
    return canonical(a) == canonical(b)


def canonical(value: Any) -> str:
    """One text for equal plain values, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True)


def plain_text(value: Any) -> str:
    """A plain value as text: a text as it is, a list or a mapping as JSON."""
    return canonical(value) if isinstance(value, list | dict) else str(value)


def dump_line(record: Mapping[str, Any]) -> str:
    """A record as one line of valid JSON; what is not finite becomes the text ``NaN``, ``Infinity``, ``-Infinity``."""
    return json.dumps(to_finite(record), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def dump_json(record: Mapping[str, Any]) -> str:
    """The same, indented for a reader."""
    return json.dumps(to_finite(record), ensure_ascii=False, allow_nan=False, indent=2)


def as_json(record: Mapping[str, Any]) -> Any:
    """The record as `dump_line` has it: keys are texts, sequences lists, and what is not finite is a text."""
    return json.loads(dump_line(record))


def restore_float(value: Any) -> Any:
    """Undo `dump_line`'s spelling of numbers that are not finite."""
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


def to_finite(value: Any) -> Any:
    """The value with the text ``NaN``, ``Infinity``, ``-Infinity`` for each number that is not finite, at any depth."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: to_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_finite(item) for item in value]
    return value
