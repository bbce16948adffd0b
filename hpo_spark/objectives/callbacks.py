"""Keras' callbacks for a training: by name, as study files have them, or as a program gives them."""

from __future__ import annotations

import copy
import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import Any

from hpo_spark.errors import MissingExtra
from hpo_spark.objectives.context import Context
from hpo_spark.objectives.function import call_with_context

__all__ = ["check_callbacks", "kept_epoch", "make_callbacks"]

_NUMBER = (int, float)
# Keras' class and its options with their types, by the name in study files.
_NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "early_stopping": (
        "EarlyStopping",
        {
            "monitor": str,
            "min_delta": _NUMBER,
            "patience": int,
            "mode": str,
            "baseline": _NUMBER,
            "restore_best_weights": bool,
            "start_from_epoch": int,
        },
    ),
    "reduce_lr_on_plateau": (
        "ReduceLROnPlateau",
        {
            "monitor": str,
            "factor": _NUMBER,
            "patience": int,
            "mode": str,
            "min_delta": _NUMBER,
            "cooldown": int,
            "min_lr": _NUMBER,
        },
    ),
    "tensorboard": (
        "TensorBoard",
        {
            "log_dir": str,
            "histogram_freq": int,
            "write_graph": bool,
            "write_images": bool,
            "write_steps_per_second": bool,
            "update_freq": (str, int),
            "profile_batch": (str, int),
        },
    ),
}


def check_callbacks(given: Any) -> list[Any]:
    """Read what a user gives as callbacks.

    Args:
        given: A list of names such as ``"early_stopping"``, mappings of one name to its options such as
            ``{"early_stopping": {"patience": 3}}``, Keras callbacks, and functions ``make(params)`` or
            ``make(params, context)`` that return one or several.

    Returns:
        The list, each name as a mapping, TensorBoard's folder as an absolute path.

    Raises:
        ValueError: If a name or an option is unknown, or of the wrong type.
        TypeError: If an entry is none of these.
    """
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        raise TypeError(f"callbacks must be a list, such as [{{early_stopping: {{patience: 3}}}}], got {given!r}.")
    return [_check(one) for one in given]


def _check(one: Any) -> Any:
    if isinstance(one, str):
        one = {one: {}}
    if isinstance(one, Mapping):
        if len(one) != 1:
            raise ValueError(f"callbacks: each entry must have one name with its options, got {dict(one)!r}.")
        name, options = next(iter(one.items()))
        return {name: _check_options(name, {} if options is None else options)}
    if isinstance(one, type) or not (callable(one) or hasattr(one, "set_model")):
        raise TypeError(
            f"callbacks: expected one of {list(_NAMED)} with its options, a Keras callback, or a function that "
            f"returns one, got {one!r}."
        )
    return one


def _check_options(name: Any, options: Any) -> dict[str, Any]:
    if name not in _NAMED:
        raise ValueError(f"callbacks: unknown name {name!r}; expected one of {list(_NAMED)}.")
    known = _NAMED[name][1]
    if not isinstance(options, Mapping):
        raise ValueError(f"callbacks: {name} must have options such as {list(known)[:3]}, got {options!r}.")
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"callbacks: {name} has no option {option!r}; expected one of {list(known)}.")
        is_bool = isinstance(value, bool)
        if not isinstance(value, known[option]) or (is_bool and known[option] is not bool):
            raise ValueError(f"callbacks: {name}.{option} is of the wrong type, got {value!r}.")
    if name == "tensorboard":
        if "log_dir" not in options:
            raise ValueError("callbacks: tensorboard needs log_dir, a folder that all workers share.")
        folder = options["log_dir"]
        options = {**options, "log_dir": folder if "://" in folder else os.path.abspath(folder)}
    return dict(options)


def make_callbacks(given: Sequence[Any], params: Any, context: Context, has_validation: bool) -> list[Any]:
    """The callbacks of one trial, none of which has seen another trial.

    Args:
        given: What `check_callbacks` returned.
        params: The trial's parameters.
        context: The trial's context; TensorBoard writes into a folder ``trial-N`` of its own.
        has_validation: Whether there is a validation part; if not, what watches it watches the same metric of training.
    """
    made: list[Any] = []
    for one in given:
        if isinstance(one, Mapping):
            made.append(_named(*next(iter(one.items())), context, has_validation))
        elif hasattr(one, "set_model"):
            made.append(copy.deepcopy(one))
        else:
            returned = call_with_context(one, params, context)
            several = list(returned) if isinstance(returned, Sequence) else [returned]
            made += [callback for callback in several if callback is not None]
    for callback in made:
        if not hasattr(callback, "set_model"):
            raise TypeError(f"A function among callbacks must return Keras callbacks, got {callback!r}.")
    return made


def _named(name: str, options: Mapping[str, Any], context: Context, has_validation: bool) -> Any:
    import keras

    kind, known = _NAMED[name]
    options = dict(options)
    if "monitor" in known and not has_validation:
        options["monitor"] = options.get("monitor", "val_loss").removeprefix("val_")
    if name == "tensorboard":
        if importlib.util.find_spec("tensorboard") is None:
            raise MissingExtra("The callback 'tensorboard'", "TensorBoard", "tensorboard")
        options["log_dir"] = f"{options['log_dir']}/trial-{context.number}"
    return getattr(keras.callbacks, kind)(**options)


def kept_epoch(callbacks: Sequence[Any]) -> int | None:
    """Number of the epoch whose weights a model got back at the end of its training; None for the last."""
    import keras

    for callback in reversed(callbacks):
        stops = isinstance(callback, keras.callbacks.EarlyStopping)
        if stops and callback.restore_best_weights and callback.best_weights is not None:
            return int(callback.best_epoch)
    return None
