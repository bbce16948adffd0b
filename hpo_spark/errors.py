"""Every exception that hpo_spark raises of its own accord, in one tree."""

from __future__ import annotations

__all__ = [
    "CannotFuse",
    "ConfigError",
    "DataError",
    "EnvironmentProblem",
    "EvaluationError",
    "ExecutorLost",
    "FolderInUse",
    "HpoSparkError",
    "JournalError",
    "MemoryExceeded",
    "MissingExtra",
    "RemoteTraceback",
    "SpaceError",
    "StorageError",
    "TaskCancelled",
    "TaskNotPicklable",
    "TaskNotRun",
    "TaskTimeout",
    "TrialPruned",
    "WorkerCrashed",
]


class HpoSparkError(Exception):
    """Base of the tree; catch it to catch everything below."""


class ConfigError(HpoSparkError, ValueError):
    """A study file, an option or an argument is wrong."""


class SpaceError(ConfigError):
    """A search space is badly defined, or a configuration lies outside it.

    Attributes:
        parameter: Name of the parameter that is meant; None where it is not one, or not known yet.
    """

    def __init__(self, message: str, parameter: str | None = None) -> None:
        self.message, self.parameter = message, parameter
        super().__init__(message, parameter)

    def __str__(self) -> str:
        return self.message if self.parameter is None else f"Parameter {self.parameter!r}: {self.message}"


class DataError(HpoSparkError, ValueError):
    """A dataset cannot be found, read or split."""


class EnvironmentProblem(HpoSparkError, RuntimeError):
    """This machine lacks something that the run needs, such as Java."""


class MissingExtra(HpoSparkError, ImportError):
    """An optional dependency is not installed.

    Args:
        what: What needs it.
        package: Its name.
        extra: The extra of this package that brings it; None where none does.
    """

    def __init__(self, what: str, package: str, extra: str | None) -> None:
        self.what, self.package, self.extra = what, package, extra
        super().__init__(what, package, extra)

    def __str__(self) -> str:
        wanted = self.package if self.extra is None else f'"hpo_spark[{self.extra}]"'
        return f"{self.what} needs {self.package}. Install it with: pip install {wanted}"


class FolderInUse(ConfigError):
    """Another driver runs the search of a run folder, or may do so: it can be tried again later."""


class JournalError(ConfigError):
    """A journal cannot be read, is damaged, or is of a newer format."""


class StorageError(HpoSparkError, OSError):
    """A run folder can no longer be written, so that the search has to end."""


class EvaluationError(HpoSparkError, RuntimeError):
    """A study has no result, because none of its trials succeeded."""


class TaskTimeout(HpoSparkError, TimeoutError):
    """A task ran past its time limit and was killed.

    Args:
        limit_s: The limit.
        loading: Whether the task had not even begun: its function or its arguments were being loaded.
    """

    def __init__(self, limit_s: float, loading: bool = False) -> None:
        self.limit_s = limit_s
        self.loading = loading
        super().__init__(limit_s, loading)

    def __str__(self) -> str:
        if self.loading:
            return f"did not begin within {self.limit_s:g} s, while its function was being loaded, and was killed."
        return f"ran past its time limit of {self.limit_s:g} s and was killed."


class MemoryExceeded(HpoSparkError, MemoryError):
    """A task used more memory than it may and was killed."""

    def __init__(self, used_mb: float, limit_mb: float) -> None:
        self.used_mb, self.limit_mb = used_mb, limit_mb
        super().__init__(used_mb, limit_mb)

    def __str__(self) -> str:
        return (
            f"used {self.used_mb:.0f} MB of anonymous memory, with all processes that it started, where "
            f"memory_mb={self.limit_mb:g} is the limit, and was killed."
        )


class TaskCancelled(HpoSparkError, RuntimeError):
    """A running task was cancelled by its owner."""


class WorkerCrashed(HpoSparkError, RuntimeError):
    """The process that ran a task died without an answer."""


class ExecutorLost(HpoSparkError, RuntimeError):
    """A task was begun again and again, and each time its executor was lost."""

    def __init__(self, n_attempts: int) -> None:
        self.n_attempts = n_attempts
        super().__init__(n_attempts)

    def __str__(self) -> str:
        return f"The task was begun {self.n_attempts} times, and each time its executor or Spark worker was lost."


class TaskNotPicklable(HpoSparkError, TypeError):
    """A function or its arguments cannot be sent to a worker."""


class TaskNotRun(HpoSparkError, RuntimeError):
    """Spark could not run a task at all, and would not another time."""


class CannotFuse(HpoSparkError, RuntimeError):
    """Trials cannot be trained together, or would gain nothing by it; the message says why.

    Args:
        message: Why.
        for_key: Whether that goes for all trials of their key; False where it is about these trials in this company.
    """

    def __init__(self, message: str = "", for_key: bool = True) -> None:
        self.message, self.for_key = message, for_key
        super().__init__(message, for_key)

    def __str__(self) -> str:
        return self.message


class TrialPruned(BaseException):
    """Raised by `Context.report` in a trial that is to stop, since others are better at the same step.

    It is no error, and no `Exception`: what an objective catches to go on with does not catch it.
    """


class RemoteTraceback(Exception):
    """The traceback of an exception on a worker, chained as its ``__cause__``."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'
