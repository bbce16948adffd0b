"""Hyperparameter optimisation of Keras and scikit-learn models on Apache Spark.

    from hpo_spark import Choice, Float, Int, SearchSpace, SparkExecutor, Study

    space = SearchSpace(learning_rate=Float(1e-4, 1e-1, log=True), hidden_layers=Int(1, 3))
    study = Study(space, objective, searcher="genetic", direction="maximize", seed=0)
    with SparkExecutor(spark) as executor:
        result = study.run(executor, max_trials=60)

Names load on first use: importing the package needs neither Spark nor TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hpo_spark.versions import __version__

if TYPE_CHECKING:
    from hpo_spark.data import Dataset, DataSource
    from hpo_spark.errors import (
        CannotFuse,
        ConfigError,
        DataError,
        EvaluationError,
        ExecutorLost,
        HpoSparkError,
        MemoryExceeded,
        SpaceError,
        TaskCancelled,
        TaskNotPicklable,
        TaskNotRun,
        TaskTimeout,
        TrialPruned,
        WorkerCrashed,
    )
    from hpo_spark.executors.connect import ConnectExecutor
    from hpo_spark.executors.process import ProcessExecutor
    from hpo_spark.executors.serial import SerialExecutor
    from hpo_spark.executors.spark import SparkExecutor
    from hpo_spark.fuse import Fuse
    from hpo_spark.objectives.context import Context
    from hpo_spark.objectives.function import FunctionObjective
    from hpo_spark.objectives.keras import KerasObjective
    from hpo_spark.objectives.sklearn import SklearnObjective
    from hpo_spark.parameters import Choice, Float, Int
    from hpo_spark.results.result import Result
    from hpo_spark.searchers.base import Proposal, Searcher
    from hpo_spark.space import SearchSpace
    from hpo_spark.study import Callback, Study
    from hpo_spark.trial import Trial, TrialState

_HOMES = {
    "hpo_spark.data": ("DataSource", "Dataset"),
    "hpo_spark.errors": (
        "CannotFuse",
        "ConfigError",
        "DataError",
        "EvaluationError",
        "ExecutorLost",
        "HpoSparkError",
        "MemoryExceeded",
        "SpaceError",
        "TaskCancelled",
        "TaskNotPicklable",
        "TaskNotRun",
        "TaskTimeout",
        "TrialPruned",
        "WorkerCrashed",
    ),
    "hpo_spark.executors.connect": ("ConnectExecutor",),
    "hpo_spark.executors.process": ("ProcessExecutor",),
    "hpo_spark.executors.serial": ("SerialExecutor",),
    "hpo_spark.executors.spark": ("SparkExecutor",),
    "hpo_spark.fuse": ("Fuse",),
    "hpo_spark.objectives.context": ("Context",),
    "hpo_spark.objectives.function": ("FunctionObjective",),
    "hpo_spark.objectives.keras": ("KerasObjective",),
    "hpo_spark.objectives.sklearn": ("SklearnObjective",),
    "hpo_spark.parameters": ("Choice", "Float", "Int"),
    "hpo_spark.results.result": ("Result",),
    "hpo_spark.searchers.base": ("Proposal", "Searcher"),
    "hpo_spark.space": ("SearchSpace",),
    "hpo_spark.study": ("Callback", "Study"),
    "hpo_spark.trial": ("Trial", "TrialState"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Callback",
    "CannotFuse",
    "Choice",
    "ConfigError",
    "ConnectExecutor",
    "Context",
    "DataError",
    "DataSource",
    "Dataset",
    "EvaluationError",
    "ExecutorLost",
    "Float",
    "FunctionObjective",
    "Fuse",
    "HpoSparkError",
    "Int",
    "KerasObjective",
    "MemoryExceeded",
    "ProcessExecutor",
    "Proposal",
    "Result",
    "SearchSpace",
    "Searcher",
    "SerialExecutor",
    "SklearnObjective",
    "SpaceError",
    "SparkExecutor",
    "Study",
    "TaskCancelled",
    "TaskNotPicklable",
    "TaskNotRun",
    "TaskTimeout",
    "Trial",
    "TrialPruned",
    "TrialState",
    "WorkerCrashed",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
