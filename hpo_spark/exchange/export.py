"""A finished search's trials, out of its journal and into the form of another library."""

from __future__ import annotations

import os
from enum import StrEnum

from hpo_spark.errors import ConfigError
from hpo_spark.exchange.frame import write_csv, write_parquet
from hpo_spark.exchange.optuna import to_optuna
from hpo_spark.exchange.skopt import write_skopt
from hpo_spark.journal import read_record
from hpo_spark.redaction import redact
from hpo_spark.space import SearchSpace

__all__ = ["Format", "export_run"]


class Format(StrEnum):
    """What trials can be written as."""

    csv = "csv"
    parquet = "parquet"
    optuna = "optuna"
    skopt = "skopt"


def export_run(folder: str | os.PathLike[str], to: Format, out: str, name: str | None = None) -> str:
    """Write the trials of a run folder, from its journal alone.

    Args:
        folder: The run folder: a path, or a URL.
        to: What they are written as.
        out: A path or URL; for Optuna the URL of a storage.
        name: For Optuna, the study's name there; None for its own.

    Returns:
        What was written, in a sentence.

    Raises:
        ConfigError: If there is no journal, or `out` cannot be written.
        MissingExtra: If a library is not installed.
    """
    if name is not None and to is not Format.optuna:
        raise ConfigError(f"--name {name}: belongs to --to optuna, got --to {to}.")
    record = read_record(folder)
    trials, directions = record.trials, record.directions
    space = SearchSpace.from_dict(record.study["space"])
    name = name or record.study["study"]["name"]
    if to is Format.csv:
        write_csv(trials, out)
    elif to is Format.parquet:
        write_parquet(trials, out)
    elif to is Format.skopt:
        write_skopt(trials, space, directions, out)
    else:
        to_optuna(trials, space, directions, name, out)
    what = f"the study {name!r} in " if to is Format.optuna else ""
    return f"{len(trials)} trial(s) of {redact(os.fspath(folder))} are {what}{redact(out)}"
