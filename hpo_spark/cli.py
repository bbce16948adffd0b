"""The command line: ``hpo-spark run | resume | check | ...``, and the same through spark-submit."""

from __future__ import annotations

import enum
import json
import logging
import re
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from hpo_spark.config import StudyFile, parse_study_file, read_study_file
from hpo_spark.control import request_stop
from hpo_spark.errors import ConfigError, EnvironmentProblem, EvaluationError
from hpo_spark.exchange.export import Format, export_run
from hpo_spark.exchange.source import locate
from hpo_spark.executors.base import slots_of
from hpo_spark.executors.process import ProcessExecutor
from hpo_spark.executors.serial import SerialExecutor
from hpo_spark.journal import NAME as JOURNAL
from hpo_spark.journal import has_journal
from hpo_spark.looking import compare, report, show
from hpo_spark.preflight import Preflight, preflight
from hpo_spark.progress import LiveProgress, PlainProgress
from hpo_spark.redaction import first_redacted, redact
from hpo_spark.results.result import Result
from hpo_spark.results.tables import refit_table, summary, workers_table
from hpo_spark.session import check_environment, end_with_spark_submit, open_session
from hpo_spark.signals import signals_end_program
from hpo_spark.storage import open_storage
from hpo_spark.study import Study
from hpo_spark.terminal import FINISHED, INTERRUPTED, NONE_SUCCEEDED, WRONG, as_command, log_to, open_console
from hpo_spark.versions import __version__

__all__ = ["main", "run_and_exit"]

_app = typer.Typer(
    name="hpo-spark",
    help="Hyperparameter optimisation of Keras and scikit-learn models on Apache Spark.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class ExecutorName(enum.StrEnum):
    """Where trials run."""

    spark = "spark"
    connect = "connect"
    processes = "processes"
    serial = "serial"


_StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")]
_Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study file, as searcher.population=20."),
]
_Executor = Annotated[ExecutorName | None, typer.Option(help="Where trials run; the study file's by default.")]
_Master = Annotated[
    str | None, typer.Option(help="URL of Spark's master; local[*] by default. Under spark-submit give it there.")
]

_Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Where space or objective have changed: begin anew, with the old trials as a warm start."
    ),
]
_Verbose = Annotated[bool, typer.Option("--verbose", help="A line for each trial, above the live panel too.")]
_Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no table: logs only.")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Its words, without the program's name; None for those of this process.

    Returns:
        The exit code: 0 finished, 2 wrong study file, arguments or environment, 3 no trial succeeded, 75 interrupted.
    """
    try:
        with signals_end_program(INTERRUPTED), _log_as_before():
            end_with_spark_submit()
            _app(args=None if argv is None else list(argv), prog_name="hpo-spark")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or FINISHED
        open_console(stderr=True).print(f"hpo-spark: {end.code}", markup=False, soft_wrap=True)
        return WRONG
    return FINISHED


def run_and_exit() -> None:
    """Entry point of the command ``hpo-spark``."""
    sys.exit(main())


@_app.callback()
def _root() -> None:
    """Hyperparameter optimisation of Keras and scikit-learn models on Apache Spark."""


@_app.command()
@as_command
def version() -> int:
    """Print the version."""
    typer.echo(__version__)
    return FINISHED


@_app.command()
@as_command
def run(
    study_file: _StudyFile,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Run folder, a path or a URL such as s3://bucket/x; runs/NAME-DATE-TIME by default. It must not hold "
            "a study yet, unless --resume goes on with it.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study in --out, if there is one.")] = False,
    force: _Force = False,
    overrides: _Overrides = None,
    executor: _Executor = None,
    master: _Master = None,
    warm_start: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="An earlier search to learn from: run folder, FILE.csv, Optuna's STORAGE_URL#STUDY, or hyperopt:PATH.",
        ),
    ] = None,
    quiet: _Quiet = False,
    verbose: _Verbose = False,
) -> int:
    """Run the search that a study file describes."""
    console = open_console()
    log_to(open_console(stderr=True) if quiet else console)
    if resume and out is None:
        raise ConfigError("--resume needs --out, the run folder of the search to go on with.")
    if out is not None and out.startswith("memory://"):
        raise ConfigError(
            f"--out {out}: is gone when this process ends; expected a path, or a URL such as s3://bucket/x."
        )
    if warm_start is not None:
        overrides = [*(overrides or []), f"warm_start={json.dumps(locate(warm_start, [Path.cwd()]))}"]
    file = _read(study_file, overrides, executor, master)
    folder = out or str(Path("runs") / f"{_as_folder(file.name)}-{time.strftime('%Y%m%d-%H%M%S')}")
    return _run(file, file.study(folder, resume=resume, force=force), master, console, quiet, verbose)


@_app.command()
@as_command
def resume(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The run folder of a search that was cut short.")],
    force: _Force = False,
    overrides: _Overrides = None,
    executor: _Executor = None,
    master: _Master = None,
    quiet: _Quiet = False,
    verbose: _Verbose = False,
) -> int:
    """Go on with a search: trials that have ended are not run again."""
    console = open_console()
    log_to(open_console(stderr=True) if quiet else console)
    file = _file_of(folder, overrides, executor, master)
    return _run(file, file.study(folder, resume=True, force=force), master, console, quiet, verbose)


@_app.command()
@as_command
def refit(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The run folder of a search.")],
    full: Annotated[bool, typer.Option("--full", help="Train on train and validation part together.")] = False,
    trial: Annotated[int | None, typer.Option(help="Train this trial's configuration, instead of the best.")] = None,
    overrides: _Overrides = None,
    executor: Annotated[ExecutorName, typer.Option(help="Where to train.")] = ExecutorName.processes,
    master: _Master = None,
) -> int:
    """Train the best configuration again, on this machine, and evaluate the test part."""
    from hpo_spark.refit import refit as train

    console = open_console()
    log_to(console)
    file = _file_of(folder, overrides, executor, master)
    if file.model.executor == "spark":
        check_environment(master)
    try:
        with _open_executor(file, master, slots=1) as pool:
            done = train(folder, file.objective, pool, trial=trial, full=full)
    except EvaluationError as error:
        open_console(stderr=True).print(f"hpo-spark: {redact(str(error))}", markup=False, soft_wrap=True)
        return NONE_SUCCEEDED
    console.print(refit_table(done))
    console.print(f"\nmodel in {folder}/{done.model}", soft_wrap=True, markup=False)
    return FINISHED


def _file_of(
    folder: str, overrides: Sequence[str] | None, executor: ExecutorName | None, master: str | None
) -> StudyFile:
    """The study file of a run folder."""
    storage = open_storage(folder)
    if not has_journal(storage):
        raise ConfigError(f"{storage} is no run folder of a search: it holds no {JOURNAL}.")
    try:
        content = storage.read("study.yaml")
    except OSError as error:
        raise ConfigError(f"{storage}/study.yaml cannot be read: {error.strerror or error}.") from None
    file = parse_study_file(content, f"{folder}/study.yaml", _overrides_of(overrides, executor))
    # What it has learned from before it began is not read again.
    if key := first_redacted(file.model.model_dump(exclude={"warm_start"})):
        raise ConfigError(
            f"{storage}/study.yaml was written without its secrets, and {key} had one. Go on with the study file that "
            f"has it: hpo-spark run STUDY.yaml --out {storage} --resume; or give it with --set {key}=..."
        )
    return _chosen(file, master)


def _run(file: StudyFile, study: Study, master: str | None, console: Console, quiet: bool, verbose: bool) -> int:
    """Search, once it is known that it can be done."""
    if file.model.executor == "spark":
        check_environment(master)
    study.check_out()
    with _open_executor(file, master) as pool:
        if not isinstance(pool, SerialExecutor):
            found = preflight(pool, study.objective)
            if found.problems:
                open_console(stderr=True).print(workers_table(found))
            _require(found)
        result = _search(study, file, pool, console, quiet, verbose)
    return _report(result, str(study.out), console, quiet)


@_app.command()
@as_command
def check(
    study_file: _StudyFile,
    overrides: _Overrides = None,
    executor: _Executor = None,
    master: _Master = None,
) -> int:
    """Find out whether a study file can be run: the file, its data, and every worker."""
    console = open_console()
    log_to(console)
    file = _read(study_file, overrides, executor, master)
    study = file.study(None)
    if file.model.executor == "spark":
        check_environment(master)
    with _open_executor(file, master) as pool:
        study.prepare()  # once more: what Spark reads can be looked at only now
        found = preflight(pool, study.objective)
    console.print(workers_table(found))
    for warning in found.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    _require(found)
    console.print(Text(f"{file.name}: {len(study.space)} parameter(s), {study.searcher.name}: can be run"))
    return FINISHED


@_app.command()
@as_command
def stop(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The run folder of a search that runs.")],
    trial: Annotated[int | None, typer.Option(help="Cancel only this trial; the search goes on.")] = None,
) -> int:
    """End a search: trials that run go on to their end, and the results are written."""
    request_stop(folder, trial)
    what = (
        "the search ends when the trials that run have ended" if trial is None else f"trial {trial} is being cancelled"
    )
    typer.echo(f"{folder}: {what}.")
    return FINISHED


@_app.command()
@as_command
def track(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A run folder whose search does not run.")],
    to: Annotated[
        list[str] | None, typer.Option(help="tensorboard or mlflow; where the study file says by default.")
    ] = None,
) -> int:
    """Write to TensorBoard and MLflow what they lack of a search: what their server was away for, or all of it."""
    from hpo_spark.tracking.track import track as write

    log_to(open_console(stderr=True))
    for sentence in write(folder, to or ()):
        typer.echo(sentence)
    return FINISHED


@_app.command()
@as_command
def export(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A run folder.")],
    to: Annotated[Format, typer.Option(help="What the trials are written as.")],
    out: Annotated[
        str,
        typer.Option(
            metavar="PATH_OR_URL", help="A file, or for optuna the URL of a storage, as sqlite:///studies.db."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="For optuna, the study's name there; its own by default.")] = None,
) -> int:
    """Write the trials of a search as CSV, Parquet, a study of Optuna, or an OptimizeResult of scikit-optimize."""
    typer.echo(export_run(folder, to, out, name))
    return FINISHED


for _looking in (show, report, compare):
    _app.command()(as_command(_looking))


def _read(
    study_file: Path, overrides: Sequence[str] | None, executor: ExecutorName | None, master: str | None
) -> StudyFile:
    """The study file with what the command line changes."""
    return _chosen(read_study_file(study_file, _overrides_of(overrides, executor)), master)


def _overrides_of(overrides: Sequence[str] | None, executor: ExecutorName | None) -> list[str]:
    return [*(overrides or []), *([] if executor is None else [f"executor={executor.value}"])]


def _chosen(file: StudyFile, master: str | None) -> StudyFile:
    """The study file, if its executor can do what it wants."""
    where, resources = file.model.executor, file.model.resources
    if master is not None and where != "spark":
        raise ConfigError(f"--master {master}: belongs to the executor 'spark', got --executor {where}.")
    if where == "serial":
        if resources.gpus:
            raise ConfigError("resources.gpus: the executor 'serial' assigns no devices; use processes or spark.")
        for name in ("timeout_s", "memory_mb"):
            if getattr(resources, name) is not None:
                raise ConfigError(
                    f"resources.{name}: the executor 'serial' cannot end a trial; use processes or spark."
                )
        if resources.isolation == "trial":
            raise ConfigError("resources.isolation: the executor 'serial' has one process; use processes or spark.")
    return file


def _require(found: Preflight) -> None:
    """Say what is odd about the workers, and refuse to begin where it cannot work."""
    if found.problems:
        raise EnvironmentProblem("The workers are not ready.\n" + "\n".join(found.problems))
    for warning in found.warnings:
        logging.getLogger(__name__).warning("%s", warning)


def _search(study: Study, file: StudyFile, pool: Executor, console: Console, quiet: bool, verbose: bool) -> Result:
    live = LiveProgress(console, lambda: slots_of(pool), verbose) if console.is_terminal else None
    if not quiet:
        console.print(Text(f"{study.name}: searching {len(study.space)} parameter(s) with {study.searcher.name}"))
        study.callbacks.append(live or PlainProgress(console))
    try:
        return study.run(pool, **vars(file.limits))
    finally:
        if live is not None:
            live.stop()


def _report(result: Result, folder: str, console: Console, quiet: bool) -> int:
    if result.state == "failed":
        cause = result.first_cause() or result.reason
        open_console(stderr=True).print(f"hpo-spark: no trial succeeded. {cause}", markup=False, soft_wrap=True)
        return NONE_SUCCEEDED
    if not quiet and any(trial.values for trial in result.trials):
        console.print()
        console.print(summary(result))
    if not quiet:
        console.print(f"\nresults in {folder}", soft_wrap=True, markup=False)
    if result.state == "interrupted":
        say = f"hpo-spark: interrupted; go on with: hpo-spark resume {folder}"
        open_console(stderr=True).print(say, soft_wrap=True, markup=False)
    return INTERRUPTED if result.state == "interrupted" else FINISHED


def _as_folder(name: str) -> str:
    """A study's name as the name of a folder."""
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "study"


@contextmanager
def _open_executor(file: StudyFile, master: str | None, slots: int | None = None) -> Iterator[Executor]:
    resources = file.model.resources
    if file.model.executor == "spark":
        from hpo_spark.executors.spark import SparkExecutor

        with (
            open_session(file.name, master, resources.cpus) as session,
            SparkExecutor(
                session,
                slots,
                task_timeout_s=resources.timeout_s,
                cpus=resources.cpus,
                gpus=resources.gpus,
                memory_mb=resources.memory_mb,
                isolation=resources.isolation,
            ) as pool,
        ):
            yield pool
    elif file.model.executor == "connect":
        from hpo_spark.executors.connect import ConnectExecutor
        from hpo_spark.remote import open_remote_session

        with (
            open_remote_session(file.name, file.model.remote) as remote,
            ConnectExecutor(
                remote,
                slots,
                task_timeout_s=resources.timeout_s,
                cpus=resources.cpus,
                gpus=resources.gpus,
                memory_mb=resources.memory_mb,
                isolation=resources.isolation,
            ) as pool,
        ):
            yield pool
    elif file.model.executor == "processes":
        with ProcessExecutor(
            slots,
            task_timeout_s=resources.timeout_s,
            cpus=resources.cpus or 1,
            gpus=resources.gpus,
            memory_mb=resources.memory_mb,
            isolation=resources.isolation,
        ) as pool:
            yield pool
    else:
        with SerialExecutor() as pool:
            yield pool


@contextmanager
def _log_as_before() -> Iterator[None]:
    """Have this package log afterwards as it did before: a program may go on after a command."""
    logger = logging.getLogger("hpo_spark")
    handlers, propagate, level = logger.handlers[:], logger.propagate, logger.level
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)
