"""Taking secrets out of text that is logged, journaled or written to a file.

Taken out are passwords in URLs, access keys of AWS, signatures and tokens among a URL's parameters, and the values of
environment variables whose names say that they are secret. What remains is the same text.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

__all__ = ["first_redacted", "redact", "redact_all"]

_HIDDEN = "***"
# ://user:password@, up to the last @ before the first slash; or, where the password has a slash of its own and what
# follows the colon is no port, up to the first @. The lengths are bounded so that no text takes long.
_PASSWORD = re.compile(r"""(://[^\s:/@?#'"<>]{0,256}):(?:[^\s/?#'"<>]{1,256}@|(?!\d{1,5}[/?#])[^\s@'"<>]{1,256}@)""")
_ACCESS_KEY = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")
_QUERY_VALUE = re.compile(
    r"""((?:\bX-Amz-(?:Signature|Credential|Security-Token)|[?&;](?:sig|signature|token|access_token|password))=)"""
    r"""[^\s&#'"<>]+""",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"SECRET|TOKEN(?!IZER)|PASSWORD|CREDENTIAL|_KEY$", re.IGNORECASE)
# A shorter value may be any word.
_MIN_LENGTH = 8


def redact(text: str) -> str:
    """The text with ``***`` in the place of each secret.

    Example:
        >>> redact("postgresql://ann:hunter2@db/studies#mnist")
        'postgresql://ann:***@db/studies#mnist'
    """
    if "://" in text:
        text = _PASSWORD.sub(rf"\1:{_HIDDEN}@", text)
    if "=" in text:
        text = _QUERY_VALUE.sub(rf"\1{_HIDDEN}", text)
    if "AKIA" in text or "ASIA" in text:
        text = _ACCESS_KEY.sub(_HIDDEN, text)
    secrets = [
        value for name in os.environ if _is_secret(name) and len(value := os.environ.get(name, "")) >= _MIN_LENGTH
    ]
    for secret in sorted(secrets, key=len, reverse=True):
        text = _without(text, secret)
    return text


def redact_all(value: Any) -> Any:
    """Plain data with every text in it redacted; keys, numbers and all else stay.

    Args:
        value: Mappings and lists of plain values, nested as they like.
    """
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redact_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(item) for item in value]
    return value


def first_redacted(data: Any) -> str | None:
    """The dotted key of the first text that a secret was taken out of; None where there is none.

    Example:
        >>> first_redacted({"fixed": {"url": "https://host/x?token=***"}})
        'fixed.url'
    """
    return next(_redacted_keys(data, ()), None)


def _redacted_keys(data: Any, key: tuple[str, ...]) -> Iterator[str]:
    if isinstance(data, str) and _HIDDEN in data:
        yield ".".join(key)
    if isinstance(data, Mapping):
        for name, item in data.items():
            yield from _redacted_keys(item, (*key, str(name)))
    if isinstance(data, list | tuple):
        for item in data:  # a list has no key of its own that --set knows
            yield from _redacted_keys(item, key)


@lru_cache(maxsize=4096)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _without(text: str, secret: str) -> str:
    if secret.isdecimal():  # digits of a longer number are not the secret
        return re.sub(rf"(?<![\w.]){secret}(?![\w.])", _HIDDEN, text) if secret in text else text
    for form in dict.fromkeys((secret, quote(secret, safe=""), json.dumps(secret)[1:-1])):
        text = text.replace(form, _HIDDEN)
    return text
