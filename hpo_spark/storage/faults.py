"""What a remote file system's errors mean: whether they pass by themselves, and how they are told to a user.

fsspec's file systems raise what the library below them raises. The libraries of S3, Google's and Azure's storage are
told apart by the names of their classes and the attributes of their errors, so that none of them is imported here.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from hpo_spark.redaction import redact

__all__ = ["describe", "is_missing_bucket", "is_passing", "translate"]

# botocore, aiohttp, gcsfs, google.auth, azure.core: connections that break or cannot be made, answers cut short.
_PASSING_CLASSES = {
    "ChecksumError",
    "ClientConnectionError",
    "ClientPayloadError",
    "ConnectionError",
    "HTTPClientError",
    "IncompleteRead",
    "IncompleteReadError",
    "ResponseParserError",
    "ServiceRequestError",
    "ServiceResponseError",
    "TimeoutError",
    "TransportError",
}
# Codes of S3; some come with a status below 500.
_PASSING_CODES = {
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
}
_PASSING_STATUSES = {408, 425, 429, 500, 502, 503, 504, 509}
_PASSING_ERRNOS = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EPIPE,
    errno.ETIMEDOUT,
    getattr(errno, "EREMOTEIO", errno.EBUSY),
    255,  # what Hadoop's library says where a Java exception has no number of its own
}
_FINAL = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
)
_MAX_REASON = 400


def is_passing(error: BaseException) -> bool:
    """Whether an error may be gone at the next try: a server that fails or is too busy, a connection that broke."""
    statuses = {status for status in map(_status, _chain(error)) if status is not None}
    if statuses & _PASSING_STATUSES or _PASSING_CODES & set(map(_code, _chain(error))):
        return True
    if statuses or isinstance(error, _FINAL):
        return False
    return any(
        (isinstance(link, OSError) and link.errno in _PASSING_ERRNOS)
        or any(kind.__name__ in _PASSING_CLASSES for kind in type(link).__mro__)
        for link in _chain(error)
    )


def is_missing_bucket(error: BaseException) -> bool:
    """Whether an error says that it is not the file which is missing, but all of where it would lie."""
    return any(_code(link) in {"NoSuchBucket", "ContainerNotFound"} for link in _chain(error))


def translate(error: Exception, what: str, path: str) -> OSError:
    """An error that will not pass, as an `OSError` of the class that Python has for it, without secrets.

    Args:
        error: What the file system raised.
        what: What was being done, such as "reading".
        path: The file, for the message.
    """
    if is_missing_bucket(error):
        return FileNotFoundError(errno.ENOENT, "there is no such bucket; make it first, or correct the name", path)
    if isinstance(error, FileExistsError) or any(_status(link) == 412 for link in _chain(error)):
        return FileExistsError(errno.EEXIST, "it exists already", path)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "there is no such file", path)
    if isinstance(error, PermissionError) or any(_status(link) in (401, 403) for link in _chain(error)):
        return PermissionError(
            errno.EACCES, f"{what} is not permitted; check the credentials and their rights ({describe(error)})", path
        )
    if isinstance(error, NotImplementedError):
        return OSError(errno.ENOTSUP, f"{what} is something that this file system cannot do", path)
    number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
    return OSError(number, f"{what} failed ({describe(error)})", path)


def describe(error: BaseException) -> str:
    """An error's class and text on one line, without secrets."""
    text = " ".join(redact(str(error)).split())
    name = type(error).__name__
    if not text:
        return name
    return f"{name}: {text if len(text) <= _MAX_REASON else text[:_MAX_REASON] + '...'}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it."""
    link: BaseException | None = error
    for _ in range(10):
        if link is None:
            return
        yield link
        link = link.__cause__


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error carries."""
    response = getattr(error, "response", None)  # botocore
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status if isinstance(status, int) else None
    for attribute in ("status_code", "status", "code"):  # azure.core, aiohttp, gcsfs
        status = getattr(error, attribute, None)
        if isinstance(status, int) and 400 <= status < 600:
            return status
    return None


def _code(error: BaseException) -> str | None:
    """The name that a service gives its error."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else getattr(error, "error_code", None)
    return code if isinstance(code, str) else None
