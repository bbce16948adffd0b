"""Writes the report of a run folder: once, or again and again while its search runs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from shlex import quote

from hpo_spark.errors import ConfigError, JournalError, MissingExtra
from hpo_spark.exchange.files import write_file
from hpo_spark.journal import NAME as JOURNAL
from hpo_spark.redaction import redact
from hpo_spark.report.labels import for_matplotlib
from hpo_spark.report.page import render
from hpo_spark.report.plots import NothingToShow
from hpo_spark.report.run import Run
from hpo_spark.report.sections import sections_of
from hpo_spark.results.tables import format_seconds
from hpo_spark.storage import Storage, open_storage

__all__ = ["NAME", "check_extra", "leave_report", "watch", "write_pictures", "write_report"]

logger = logging.getLogger(__name__)

NAME = "report.html"
_PICTURES = "plots"
# A page loads itself again somewhat later than it is written; and writing may take no more than this share of the time.
_DELAY_S = 1.0
_MAX_SHARE = 0.2


def check_extra() -> None:
    """Find out whether what draws reports is installed.

    Raises:
        MissingExtra: If it is not.
    """
    for package in ("jinja2", "optuna", "plotly"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtra("The report", package, "report") from error


def write_report(
    folder: str | os.PathLike[str] | Storage,
    out: str | os.PathLike[str] | None = None,
    *,
    reload_s: float | None = None,
) -> str:
    """Write ``report.html`` from a run folder's journal.

    Args:
        folder: The run folder: a path, a URL, or its storage.
        out: The page's own path or URL; None for ``report.html`` in the run folder.
        reload_s: Seconds after which the page loads itself again in the browser, while the search runs; None for never.

    Returns:
        Where it is.

    Raises:
        ConfigError: If there is no journal, or the page cannot be written.
        JournalError: If the journal is damaged.
        MissingExtra: If what draws it is not installed.
    """
    check_extra()
    storage = _opened(folder)
    return _write(Run.read(storage), storage, out, reload_s)


def leave_report(folder: Storage) -> None:
    """Write the report of a search that is over; whatever fails there, its outcome stands.

    With ``HPO_SPARK_REPORT=0`` in the environment none is written: for test suites that run many small searches.
    """
    if os.environ.get("HPO_SPARK_REPORT") == "0":
        return
    try:
        write_report(folder)
    except MissingExtra as error:
        logger.info("no %s: %s", NAME, error)
    except (Exception, KeyboardInterrupt) as error:
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        logger.warning("no %s: %s. Make it with: hpo-spark report %s", NAME, redact(what), quote(str(folder)))


def write_pictures(folder: str | os.PathLike[str] | Storage) -> list[str]:
    """Write the main plots as PNG files into the folder ``plots`` of a run folder.

    Returns:
        Where they are. A plot that has nothing to show is left out, and said so in the log.

    Raises:
        ConfigError, JournalError, MissingExtra: As `write_report`.
    """
    from hpo_spark.report.pictures import PICTURES, to_png

    check_extra()
    storage = _opened(folder)
    run = Run.read(storage)
    view = run.view(for_matplotlib)
    written = []
    for name, draw in PICTURES.items():
        try:
            content = to_png(draw(view))
        except NothingToShow as error:
            logger.info("%s.png is left out: %s", name, error)
            continue
        except MissingExtra:
            raise
        except Exception as error:
            logger.warning("%s.png could not be drawn: %s: %s", name, type(error).__name__, error)
            continue
        written.append(_put(storage, f"{_PICTURES}/{name}.png", content))
    return written


def watch(
    folder: str | os.PathLike[str] | Storage, out: str | os.PathLike[str] | None = None, every_s: float = 10.0
) -> Iterator[str]:
    """Keep the report of a search current until it ends; from any machine that sees its run folder.

    Args:
        folder, out: As for `write_report`.
        every_s: Seconds between two looks at the journal.

    Yields:
        Where the report is, each time that it was written.

    Raises:
        ConfigError, JournalError, MissingExtra: As `write_report`, at the first look only. Later a journal that cannot
            be read, as when a mount has gone for a while, is waited for.
    """
    check_extra()
    storage = _opened(folder)
    run = Run.read(storage)
    seen: tuple[int, ...] | None = None
    while True:
        began = time.monotonic()
        now = run.record.size, run.record.check, *(len(trial.curve) for trial in run.running)
        if now != seen:
            seen = now
            yield _write(run, storage, out, every_s if run.is_running else None)
        if not run.is_running:
            return
        time.sleep(max(every_s, (time.monotonic() - began) / _MAX_SHARE))
        run = _read_again(storage) or run


def _opened(folder: str | os.PathLike[str] | Storage) -> Storage:
    """The run folder, also where its journal is named."""
    return folder if isinstance(folder, Storage) else open_storage(os.fspath(folder).removesuffix(f"/{JOURNAL}"))


def _read_again(storage: Storage) -> Run | None:
    try:
        return Run.read(storage)
    except (ConfigError, JournalError, OSError) as error:
        logger.warning("the journal cannot be read at the moment: %s", error)
        return None


def _write(run: Run, storage: Storage, out: str | os.PathLike[str] | None, reload_s: float | None) -> str:
    subtitle = f"{len(run.trials)} trials, {run.state}, {format_seconds(run.record.seconds)} of search"
    reload_s = None if reload_s is None else reload_s + _DELAY_S
    page = render(run.name, subtitle, sections_of(run), reload_s)
    if out is None:
        return _put(storage, NAME, page)
    write_file(out, page)
    return os.fspath(out)


def _put(storage: Storage, name: str, content: bytes) -> str:
    try:
        storage.write(name, content)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{storage}/{name} cannot be written: {reason}. Give another place with --out.") from None
    return f"{storage}/{name}"
