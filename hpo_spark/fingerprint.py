"""Fingerprints of an objective's code and data, which tell a resumed study whether it is still the same.

The code is that of the modules that the user wrote: the one that defines the objective and what it imports from beside
itself, without comments, docstrings and layout. Installed packages have versions. Of ``__main__`` and of notebooks only
the function's own source counts.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from hashlib import blake2b
from types import CodeType
from typing import Any

from hpo_spark.modules import held_modules, is_users, source_of

__all__ = ["fingerprint"]


def fingerprint(objective: Any) -> dict[str, str]:
    """The fingerprints of an objective.

    Returns:
        ``code``, and ``data`` where it comes from a file or a loading function; what cannot be told is left out.
    """
    parts = {"code": _code_of(_function_of(objective)), "data": _data_of(getattr(objective, "data", None))}
    return {name: value for name, value in parts.items() if value is not None}


def _function_of(objective: Any) -> Any:
    for name in ("build_model", "estimator", "function", "func"):
        if (inner := getattr(objective, name, None)) is not None and (callable(inner) or name == "estimator"):
            return _function_of(inner)
    return inspect.unwrap(objective) if inspect.isroutine(objective) else objective


def _code_of(function: Any) -> str | None:
    owner = function if inspect.isroutine(function) or inspect.isclass(function) else type(function)
    module = sys.modules.get(getattr(owner, "__module__", "") or "")
    if module is not None and module.__name__ != "__main__":
        if not is_users(module):
            return None
        try:
            texts = [_normal(source_of(found)) for found in held_modules(module)]
        except (OSError, ImportError, SyntaxError, ValueError):  # ValueError: not UTF-8
            return None
        return _digest("\n".join(texts).encode())
    try:
        return _digest(_normal(textwrap.dedent(inspect.getsource(owner))).encode())
    except (OSError, TypeError, SyntaxError):  # typed into an interpreter
        code = getattr(owner, "__code__", None)
        return None if code is None else _digest(repr(_instructions(code)).encode())


def _normal(source: str) -> str:
    """Source without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        is_block = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if is_block and ast.get_docstring(node, clean=False) is not None:  # type: ignore[arg-type]
            node.body = node.body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _instructions(code: CodeType) -> tuple[Any, ...]:
    constants = [_instructions(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return code.co_code, code.co_names, tuple(constants)


def _data_of(source: Any) -> str | None:
    """Of what data is read from, or of the code that loads it; None where neither can be told."""
    if (function := getattr(source, "function", None)) is not None:
        return _code_of(function)
    digest = getattr(source, "digest", None)
    return digest() if callable(digest) else None


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=8).hexdigest()
