"""Functions that a study file names: ``my_models.py:build_model`` or ``package.module:function``."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from hpo_spark.errors import ConfigError
from hpo_spark.modules import held_modules
from hpo_spark.pickling import send_by_value, try_send_by_value

__all__ = ["load_symbol"]


def load_symbol(reference: str, folders: Sequence[str | os.PathLike[str]] = (".",)) -> Any:
    """Import what a reference names.

    A module given as a file travels to workers by value, and so do modules of its folder that it imports from at its
    top: they need not be installed there.

    Args:
        reference: ``FILE.py:NAME`` or ``MODULE:NAME``.
        folders: Where a relative file or a module is looked for, in this order.

    Raises:
        ConfigError: If the file, the module or the name does not exist, or its import fails.
    """
    where, _, name = reference.rpartition(":")
    if not where or not name:
        raise ConfigError(f"{reference!r} must look like 'my_models.py:build_model' or 'package.module:function'.")
    try:
        module = _load_file(where, folders) if where.endswith(".py") else _import_module(where, folders)
    except (ConfigError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too
        raise ConfigError(f"{reference!r}: importing {where} failed with {type(error).__name__}: {error}") from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            public = [item for item in dir(module) if not item.startswith("_") and callable(getattr(module, item))]
            raise ConfigError(f"{reference!r}: {where} has no {name!r}; it has {public[:20]}.")
        found = getattr(found, part)
    return found


def _import_module(where: str, folders: Sequence[str | os.PathLike[str]]) -> ModuleType:
    # A command's path lacks the folders that a script's would have.
    for folder in folders:
        if (path := str(Path(folder).resolve())) not in sys.path:
            sys.path.append(path)
    return importlib.import_module(where)


def _load_file(where: str, folders: Sequence[str | os.PathLike[str]]) -> ModuleType:
    candidates = [Path(folder) / where for folder in folders]  # an absolute path stays as it is
    path = next((candidate.resolve() for candidate in candidates if candidate.is_file()), None)
    if path is None:
        tried = list(dict.fromkeys(str(candidate) for candidate in candidates))
        raise ConfigError(f"The file {where} does not exist; looked for {', '.join(tried)}.")
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    importable = importlib.util.find_spec(name) if known is None else known.__spec__
    if importable is not None and importable.origin != str(path):
        name = f"{name}_{zlib.crc32(str(path).encode()):x}"  # another module has the plain name
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # What the file imports from beside itself must be found.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    send_by_value(module)
    folder = os.path.realpath(path.parent)
    for other in held_modules(module):
        if other is not module and Path(os.path.realpath(other.__file__ or "")).is_relative_to(folder):
            try_send_by_value(other)
    return module
