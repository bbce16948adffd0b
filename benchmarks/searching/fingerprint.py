"""What results were made with: the libraries' versions, and a hash of the code that could change them.

The hash is over the sources of modules and of all that they import from their own package, wherever the import stands,
without comments, docstrings and layout. A module that imports `hpo_spark.searchers` itself, whose `make_searcher` loads
any searcher, depends on all. The versions are those of the distributions that these sources import.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import platform
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

__all__ = ["code", "versions"]

_OURS = ("benchmarks", "hpo_spark")
_REGISTRY = "hpo_spark.searchers"


def code(modules: Sequence[str]) -> str:
    """The hash of modules and of what they import from their own package."""
    digest = hashlib.sha256()
    for module in _reached(modules):
        digest.update(f"{module}\n{_source(module)}\n".encode())
    return digest.hexdigest()[:16]


def versions(modules: Sequence[str], libraries: Sequence[str] = ()) -> dict[str, str]:
    """Versions of Python, of the libraries named, and of those that the modules reached import."""
    found = set(libraries)
    distributions = packages_distributions()
    for module in _reached(modules):
        tops = {name.partition(".")[0] for name in _imports(module)} - set(_OURS) - sys.stdlib_module_names
        found |= {distributions[top][0] for top in tops if top in distributions}
    return {"python": platform.python_version(), **{name: version(name) for name in sorted(found)}}


def _reached(modules: Sequence[str]) -> list[str]:
    """The modules and all that they import from their own package, sorted."""
    reached: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in reached:
            continue
        reached.add(module)
        if module == _REGISTRY:
            files = _file(module).parent.glob("*.py")
            waiting += [f"{_REGISTRY}.{file.stem}" for file in files if file.stem != "__init__"]
        package = module.partition(".")[0]
        waiting += [name for name in _imports(module) if name.partition(".")[0] == package]
    return sorted(reached)


@cache
def _imports(module: str) -> frozenset[str]:
    """The modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(_file(module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # What comes from a package of ours may be a module of it.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = {name for name in names if node.module.partition(".")[0] in _OURS and _is_module(name)}
            found |= inner or {node.module}
    return frozenset(found)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module, and no package
        return False


def _file(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin)


@cache
def _source(module: str) -> str:
    """A module's code without its docstrings and comments."""
    tree = ast.parse(_file(module).read_text())
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
