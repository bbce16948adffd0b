"""Names that others can take: of folders, and of MLflow's params and metrics."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from hashlib import blake2b

from hpo_spark.plain import plain_text
from hpo_spark.redaction import redact
from hpo_spark.trial import Trial

__all__ = ["clean", "folder_of", "keys_of"]

# A file system takes names of 255 bytes; whoever reads them has seen enough after half of that.
_MAX_FOLDER_BYTES = 120
_MAX_KEY = 250


def folder_of(trial: Trial) -> str:
    """The name of a trial's folder: its number, and its params as far as there is room for them."""
    params = ",".join(f"{name}={_short(value)}" for name, value in trial.params.items())
    name = re.sub(r"[^\w.,=+-]+", "_", f"trial-{trial.number},{redact(params)}")
    return name.encode()[:_MAX_FOLDER_BYTES].decode(errors="ignore").rstrip(",.")


def keys_of(names: Iterable[str]) -> dict[str, str]:
    """Names as MLflow takes them, different for different ones, by the names themselves."""
    return {name: _key(name) for name in names}


def clean(text: str) -> str:
    """Text that can be written as UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else clean(plain_text(value))


def _key(name: str) -> str:
    """Letters, digits, and ``_-./`` and space; no path that means another, and not too long."""
    key = re.sub(r"[^\w./ -]", "_", name)
    is_path = posixpath.normpath(key) == key and not key.startswith(("/", "..")) and key != "."
    if is_path and key == name and len(key) <= _MAX_KEY:
        return key
    key = key if is_path else re.sub(r"[./]", "_", key)
    digest = blake2b(clean(name).encode(), digest_size=4).hexdigest()
    return f"{key[: _MAX_KEY - 9]}-{digest}"
