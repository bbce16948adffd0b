"""The modules that a user wrote, as against those that are installed."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

__all__ = ["held_modules", "is_users", "source_of"]

_INSTALLED = tuple(
    os.path.realpath(folder)
    for folder in {*sysconfig.get_paths().values(), *site.getsitepackages(), str(Path(__file__).parent)}
)


def is_users(module: ModuleType) -> bool:
    """Whether a module is a file that is not installed."""
    path: str | None = getattr(module, "__file__", None)
    return path is not None and path.endswith(".py") and not os.path.realpath(path).startswith(_INSTALLED)


def held_modules(module: ModuleType) -> list[ModuleType]:
    """A user's module and the user's modules whose contents it holds, in the order of their names."""
    found = {module.__name__: module}
    waiting = [module]
    while waiting:
        for value in vars(waiting.pop()).values():
            other = value if isinstance(value, ModuleType) else sys.modules.get(getattr(value, "__module__", "") or "")
            if other is not None and other.__name__ not in {*found, "__main__"} and is_users(other):
                found[other.__name__] = other
                waiting.append(other)
    return [found[name] for name in sorted(found)]


def source_of(module: ModuleType) -> str:
    """A module's source as it is now, in a file or in a zip.

    Raises:
        ImportError: If there is none.
    """
    path = Path(module.__file__ or "")
    if path.is_file():
        return path.read_text(encoding="utf-8")
    spec = module.__spec__
    get_source = getattr(spec and spec.loader, "get_source", None)
    source: str | None = get_source(spec.name) if spec is not None and get_source is not None else None
    if source is None:
        raise ImportError(f"the source of {module.__name__} cannot be found")
    return source
