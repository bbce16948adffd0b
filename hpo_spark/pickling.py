"""What travels between driver and workers, as bytes that either side can read.

cloudpickle sends functions and classes of ``__main__`` by value. To it this adds the classes of ``deap.creator``: those
built on float, array or ndarray fail to load with a metaclass conflict otherwise, and those that do load can come back
as another class than the one that went.
"""

from __future__ import annotations

import functools
import inspect
import io
import pickle
import sys
from collections.abc import Callable, Mapping
from types import CodeType, ModuleType
from typing import Any

import cloudpickle

from hpo_spark.errors import TaskNotPicklable
from hpo_spark.role import is_worker

__all__ = [
    "MAX_FRESH_BYTES",
    "dump_arguments",
    "dump_item",
    "dump_task",
    "dumps",
    "large_captures",
    "load_item",
    "loads",
    "send_by_value",
    "try_send_by_value",
]

# A worker unpickles a function up to this size for each call, so that none sees what another left in its variables; a
# larger one, which brings data along, once.
MAX_FRESH_BYTES = 1 << 20


def loads(blob: bytes) -> Any:
    """Undo `dumps`."""
    value = pickle.loads(blob)
    if is_worker():
        _from_driver.update(set(_CLASSES_BY_TRACKER) - _from_here)
    return value


def dumps(value: Any) -> bytes:
    """Pickle by value what the other side cannot import."""
    with io.BytesIO() as buffer:
        _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
        if is_worker():
            _from_here.update(set(_CLASSES_BY_TRACKER) - _from_driver)
        return buffer.getvalue()


def dump_task(function: Callable[..., Any]) -> bytes:
    """Pickle a function, with an error that names what cannot travel.

    Raises:
        TaskNotPicklable: Names the function and, where it can be found, the captured variable.
    """
    try:
        return dumps(function)
    except TaskNotPicklable:  # of a function inside, which has named it
        raise
    except Exception as error:
        culprit = _find_culprit(function)
        where = f"because of {culprit}" if culprit else "for a reason that follows"
        raise TaskNotPicklable(
            f"{_describe(function)} cannot be sent to a worker {where}: {type(error).__name__}: {error}. "
            "Create such objects inside the function, or pass what is needed to build them."
        ) from error


def send_by_value(module: ModuleType) -> None:
    """Have what a module defines travel with whatever uses it: workers need not have the module."""
    cloudpickle.register_pickle_by_value(module)


def try_send_by_value(module: ModuleType) -> None:
    """The same, unless the module holds something that cannot travel: workers must then have the module, as ever."""
    cloudpickle.register_pickle_by_value(module)
    try:
        dumps(module)
    except Exception:
        cloudpickle.unregister_pickle_by_value(module)


def dump_arguments(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Pickle the arguments of a call.

    Raises:
        TaskNotPicklable: Names the function.
    """
    try:
        return dumps((args, kwargs))
    except Exception as error:
        raise TaskNotPicklable(
            f"The arguments of {_describe(function)} cannot be sent to a worker: {type(error).__name__}: {error}."
        ) from error


class Pickled(bytes):
    """A value as its pickle, among values that need none."""


_ATOMS = (float, int, str, bool, type(None), bytes)


def dump_item(value: Any) -> Any:
    """The value itself where any pickler will do, else its `Pickled` bytes: one bad item then spoils no other."""
    if type(value) in _ATOMS or (
        type(value) in (tuple, list) and len(value) < 100 and all(type(item) in _ATOMS for item in value)
    ):
        return value
    return Pickled(dumps(value))


def load_item(item: Any) -> Any:
    """Undo `dump_item`."""
    return loads(item) if type(item) is Pickled else item


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, obj: Any) -> Any:
        creator = sys.modules.get("deap.creator")
        if creator is not None and type(obj) is creator.MetaCreator:
            _remember(obj)
            return _creator_class, obj.reduce_args
        if type(obj) is CodeType:
            return _code, self.dispatch_table[CodeType](obj)[1]
        if is_worker() and isinstance(obj, type) and (tracker := _TRACKED_CLASSES.get(obj)) in _from_driver:
            return _class_of_driver, (tracker, obj.__module__, obj.__qualname__)
        return super().reducer_override(obj)


_codes: dict[Any, CodeType] = {}
_MAX_CODES = 10_000


def _code(*arguments: Any) -> CodeType:
    """The code object of this content: the same one each time that a function is unpickled.

    TensorFlow keeps the call stack of every operation for ever and tells stacks apart by their code objects: with new
    ones each time, a trial of a small Keras model costs 1.5 MB.
    """
    if len(_codes) > _MAX_CODES:
        _codes.clear()
    code = CodeType(*arguments)
    return _codes.setdefault((code, code.co_filename, code.co_qualname, code.co_linetable), code)


# cloudpickle gives each class that travels by value an identity, which a worker keeps. Sending such a class back by
# value would overwrite the driver's methods and attributes with the worker's.
_TRACKED_CLASSES: Any = getattr(cloudpickle.cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_CLASS", {})
_CLASSES_BY_TRACKER: Any = getattr(cloudpickle.cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_ID", {})
# In a worker, the identities that came with tasks, and those of classes that tasks defined.
_from_driver: set[str] = set()
_from_here: set[str] = set()


def _class_of_driver(tracker: str, module: str, qualname: str) -> Any:
    """The class that went to the worker: the very object, or the one of that name."""
    if tracker in _CLASSES_BY_TRACKER:
        return _CLASSES_BY_TRACKER[tracker]
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    if found is None:
        raise pickle.UnpicklingError(f"the class {module}.{qualname} is not known here any more")
    return found


# Classes of deap.creator that this process has sent or received, newest last: under one name there can be several,
# since a user may create a class anew.
_creator_classes: dict[str, list[Any]] = {}


def _remember(cls: Any) -> None:
    known = _creator_classes.setdefault(cls.__name__, [])
    if not any(cls is other for other in known):
        known.append(cls)


def _creator_class(name: str, base: type, attributes: dict[str, Any]) -> Any:
    """The class of ``deap.creator`` with this definition: the one that exists, or a new one."""
    from deap import creator

    existing = getattr(creator, name, None)
    candidates = [existing, *reversed(_creator_classes.get(name, []))]
    for candidate in candidates:
        if type(candidate) is creator.MetaCreator and _equal(candidate.reduce_args, (name, base, attributes)):
            return candidate
    cls = creator.MetaCreator(name, base, attributes)
    if existing is None:
        setattr(creator, name, cls)
    _remember(cls)
    return cls


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except ValueError:  # arrays among the attributes have no single truth
        return dumps(a) == dumps(b)


def _describe(function: Any) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{name!r}"


def large_captures(function: Any, min_bytes: int = MAX_FRESH_BYTES) -> list[str]:
    """What of more than ``min_bytes`` travels with a function, in words: captured and global variables, attributes."""
    found = []
    if _size(function) > min_bytes:
        for words, value in _parts(function):
            if (size := _size(value)) > min_bytes:
                inner = large_captures(value, min_bytes) if callable(value) else []
                found += inner or [f"{words} ({type(value).__name__}, {size / 1e6:.1f} MB)"]
    return found


def _size(value: Any) -> int:
    """Bytes of the pickle; 0 where it has none."""
    try:
        return len(dumps(value))
    except Exception:
        return 0


def _parts(function: Any) -> list[tuple[str, Any]]:
    """What travels with a function or an object that is called, each with how to call it."""
    parts: list[tuple[str, Any]] = []
    if isinstance(function, functools.partial):
        parts += [(f"argument {index} of the partial", value) for index, value in enumerate(function.args)]
        parts += [(f"argument {name!r} of the partial", value) for name, value in function.keywords.items()]
        parts.append(("its function", function.func))
    elif inspect.isfunction(function):
        captured = inspect.getclosurevars(function)
        defaults = inspect.signature(function).parameters.values()
        parts += [(f"the captured variable {name!r}", value) for name, value in captured.nonlocals.items()]
        parts += [(f"the global variable {name!r}", value) for name, value in captured.globals.items()]
        parts += [(f"the default of {p.name!r}", p.default) for p in defaults if p.default is not p.empty]
    elif inspect.ismethod(function):
        parts.append((f"the object of {function.__name__!r}", function.__self__))
    else:
        parts += [(f"the attribute {name!r}", value) for name, value in getattr(function, "__dict__", {}).items()]
    return parts


def _find_culprit(function: Any) -> str | None:
    """The first captured variable, argument or attribute that cannot be pickled, in words."""
    for words, value in _parts(function):
        try:
            dumps(value)
        except Exception:
            nested = _find_culprit(value) if callable(value) else None
            return f"{words} ({type(value).__name__})" + (f", in it {nested}" if nested else "")
    return None
