"""MLflow: a run for the study, and nested in it a run for each trial that has ended.

The server has the truth. A run is found again by its tags: the search's id, and a trial's number. A trial's run is
terminated once all of it is there; one that is not has been written in part, and what is missing is found out from the
server. So the same trial may be written as often as one likes.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from hpo_spark.errors import ConfigError, MissingExtra
from hpo_spark.plain import canonical, dump_json, plain_text
from hpo_spark.redaction import redact
from hpo_spark.results.result import rank
from hpo_spark.storage import Storage
from hpo_spark.tracking.base import FILES, Outcome, StudyFacts, Tracker
from hpo_spark.tracking.mlflow_model import log_best_model
from hpo_spark.tracking.names import clean, keys_of
from hpo_spark.tracking.series import Point, series_of
from hpo_spark.trial import Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["MlflowTracker"]

# Where the runs of a search are, so that they are found at once, and by people too.
_STATE = "tracking.json"
_STUDY, _NUMBER, _PARENT = "hpo_spark.study", "number", "mlflow.parentRunId"
_FILES_DIGEST = "hpo_spark.files"
_BEST = "best_value"
_PAGE = 1000
# MLflow takes 1000 metrics, 100 params and 100 tags at once, 1000 of all together, in a megabyte.
_MAX_METRICS, _MAX_PARAMS, _MAX_BYTES = 900, 100, 400_000
_MAX_TEXT = 5000
# A try ends soon, and is not repeated by MLflow: it would create a run twice whose first answer was lost.
_TIMEOUT_S = "30"
_REJECTED = 400

_ENDS = {"COMPLETED": "FINISHED", "PRUNED": "FINISHED", "CANCELLED": "KILLED"}
_STUDY_ENDS = {"finished": "FINISHED", "interrupted": "KILLED"}

T = TypeVar("T")


@dataclass
class _Child:
    """A trial's run."""

    run_id: str
    is_complete: bool


class MlflowTracker(Tracker):
    """Writes to an MLflow tracking server.

    Args:
        uri: The server's; None for the environment's ``MLFLOW_TRACKING_URI``. User and password may be in it, and
            better in ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD``.
        experiment: Name of the experiment, which is made where there is none; None for the environment's
            ``MLFLOW_EXPERIMENT_NAME`` or ``MLFLOW_EXPERIMENT_ID``, or else the study's name.
        register: Name in the model registry for the best model; None not to register it.
    """

    name: ClassVar[str] = "mlflow"

    def __init__(self, uri: str | None = None, experiment: str | None = None, register: str | None = None) -> None:
        self._options = {"uri": uri, "experiment": experiment, "register": register}
        # One that was read from a run folder has no password any more.
        self._given_uri = None if uri is None or "***" in uri else uri
        self._experiment = experiment
        self._register = register
        self._facts: StudyFacts | None = None
        self._folder: Storage | None = None
        self._goes_on = True
        self._client: MlflowClient | None = None
        self._parent: Run | None = None
        self._children: dict[int, _Child] = {}
        self._best: Trial | None = None
        self._seen: set[int] = set()
        self._improvements: list[Point] = []
        self._improvements_there: set[int] = set()

    def check(self) -> None:
        """Raise unless mlflow is installed, and it is known which server is meant."""
        if find_spec("mlflow") is None:
            raise MissingExtra("tracking: mlflow", "mlflow", "mlflow")
        if self._uri is None:
            raise ConfigError(
                "tracking: mlflow needs the URI of a tracking server: {mlflow: {uri: http://host:5000}}, or the "
                "environment variable MLFLOW_TRACKING_URI."
            )

    def describe(self) -> str | dict[str, Any]:
        """Its entry in a study file."""
        options = {name: value for name, value in self._options.items() if value is not None}
        return {self.name: options} if options else self.name

    def open(self, facts: StudyFacts, folder: Storage | None, goes_on: bool) -> None:
        """Find the study's run and those of its trials; make the study's where there is none."""
        self._facts, self._folder, self._goes_on = facts, folder, goes_on
        with self._connected():
            pass

    def write(self, trial: Trial) -> None:
        """Write what the server lacks of a trial."""
        with self._connected() as client:
            self._follow_best(client, trial)
            child = self._children.get(trial.number)
            if child is None or not child.is_complete:
                try:
                    self._complete(client, trial, child)
                except Exception as error:
                    if _is_rejected(error):  # and would be the next time too
                        raise ValueError(str(error)) from error
                    raise

    def close(self, outcome: Outcome) -> None:
        """Write how the search ended, its files and the best model.

        What cannot be uploaded keeps nothing else from being written.
        """
        with self._connected() as client:
            parent = self._run
            problem = None
            summary, best = outcome.summary, outcome.summary.get("best_trial") or {}
            self._log_missing(client, parent.info.run_id, {_BEST: self._improvements, **_points_of(summary)})
            for name, value in {
                "state": outcome.state,
                "reason": summary.get("reason"),
                "best_trial": best.get("number"),
                "best_params": canonical(best["params"]) if best else None,
            }.items():
                if value is not None:
                    client.set_tag(parent.info.run_id, name, clean(str(value))[:_MAX_TEXT])
            for upload in (self._upload_files, self._upload_model):
                try:
                    upload(client, parent, outcome)
                except Exception as error:
                    problem = problem or error
            client.set_terminated(parent.info.run_id, _STUDY_ENDS.get(outcome.state, "FAILED"))
            if problem is not None:
                raise problem

    @property
    def place(self) -> str:
        """The server's URI."""
        return f"mlflow at {redact(self._uri or '')}"

    @property
    def _uri(self) -> str | None:
        return self._given_uri or os.environ.get("MLFLOW_TRACKING_URI") or None

    @property
    def _run(self) -> Run:
        assert self._parent is not None
        return self._parent

    @property
    def _known(self) -> StudyFacts:
        assert self._facts is not None
        return self._facts

    @contextlib.contextmanager
    def _connected(self) -> Iterator[MlflowClient]:
        """The client, once what the server has is known; that is asked for again after an error."""
        with _settings():
            if self._client is None:
                self._client = self._connect()
            try:
                yield self._client
            except Exception:
                self._client = None
                raise

    def _connect(self) -> MlflowClient:
        from mlflow import MlflowClient

        facts = self._known
        client = MlflowClient(tracking_uri=self._uri)
        experiment_id, experiment = self._find_experiment(client)
        self._parent, self._children = None, {}
        strays = []
        for run in _runs_of(client, experiment_id, facts.id):
            number = run.data.tags.get(_NUMBER)
            is_complete = run.info.status not in ("RUNNING", "SCHEDULED")
            if number is None:
                self._parent = self._parent or run
            elif (known := self._children.get(int(number))) is None or not known.is_complete:
                self._children[int(number)] = _Child(run.info.run_id, is_complete)
                strays.append((run.info.run_id, run.data.tags.get(_PARENT)))
        if self._parent is None:
            self._parent = client.create_run(
                experiment_id,
                start_time=_ms(facts.began),
                tags={_STUDY: facts.id, **_user()},
                run_name=clean(facts.name)[:250],
            )
        own = self._parent.info.run_id
        for run_id, parent_id in strays:
            if parent_id != own:  # the study's run was deleted on the server, and those of trials were not
                client.set_tag(run_id, _PARENT, own)
        self._describe_study(client, self._parent)
        if self._goes_on and self._parent.info.status != "RUNNING":
            client.update_run(own, status="RUNNING")
        self._improvements_there = {metric.step for metric in client.get_metric_history(own, _BEST)}
        self._write_state({"experiment": experiment, "experiment_id": experiment_id, "run_id": own})
        return client

    def _find_experiment(self, client: MlflowClient) -> tuple[str, str]:
        """The experiment's id and name."""
        state = self._read_state()
        wanted = self._experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME")
        chosen_id = None if wanted else os.environ.get("MLFLOW_EXPERIMENT_ID")
        if chosen_id is None and state and wanted in (None, state.get("experiment")):
            chosen_id = state.get("experiment_id")  # it may have another name since
            if not _exists(client, chosen_id):
                chosen_id = None
        if chosen_id is not None:
            return chosen_id, client.get_experiment(chosen_id).name
        name = clean(wanted or self._known.name)[:500]
        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return client.create_experiment(name), name
            except Exception:
                if (found := client.get_experiment_by_name(name)) is None:  # nobody else was quicker
                    raise
        if found.lifecycle_stage != "active":
            raise ConfigError(f"the experiment {name!r} is deleted there: restore it, or name another")
        return found.experiment_id, name

    def _describe_study(self, client: MlflowClient, parent: Run) -> None:
        """Have the study's run tell what is searched, and how."""
        from mlflow.entities import Param

        facts = self._known
        study = facts.description.get("study") or {}
        told = {"seed": study.get("seed"), "direction": " ".join(facts.directions)}
        told |= {f"space.{name}": json.dumps(spec) for name, spec in facts.space.to_dict().items()}
        for section in ("objective", "fixed"):
            told |= {f"{section}.{name}": value for name, value in (facts.description.get(section) or {}).items()}
        keys = keys_of(told)
        params = [
            Param(keys[name], _param_text(value))
            for name, value in told.items()
            if value is not None and keys[name] not in parent.data.params
        ]
        self._log(client, parent.info.run_id, [], params)
        if (searcher := facts.description.get("searcher")) is not None:
            client.set_tag(parent.info.run_id, "searcher", _param_text(searcher))

    def _complete(self, client: MlflowClient, trial: Trial, child: _Child | None) -> None:
        """Write a trial's run, or the rest of one, and then say that it is whole."""
        from mlflow.entities import Metric, Param

        facts = self._known
        started = facts.began if trial.started is None else trial.started
        series = series_of(trial, facts)
        is_new = child is None
        if child is None:
            run = client.create_run(
                self._run.info.experiment_id,
                start_time=_ms(started),
                tags={
                    _STUDY: facts.id,
                    _PARENT: self._run.info.run_id,
                    **_user(),
                    **{name: clean(redact(str(fact)))[:_MAX_TEXT] for name, fact in _facts_of(trial).items()},
                },
                run_name=f"trial-{trial.number}",
            )
            child = self._children[trial.number] = _Child(run.info.run_id, is_complete=False)
        names, params = keys_of(series), keys_of(trial.params)
        if is_new:
            metrics = [
                Metric(names[name], point.value, _ms(point.at), point.step)
                for name, points in series.items()
                for point in points
            ]
        else:
            metrics = self._missing(client, child.run_id, series)
        given = [Param(params[name], _param_text(value)) for name, value in trial.params.items()]
        self._log(client, child.run_id, metrics, given)
        status = _ENDS.get(str(trial.state), "FAILED")
        client.set_terminated(child.run_id, status, end_time=_ms(trial.ended or started))
        child.is_complete = True
        self.n_written += 1

    def _follow_best(self, client: MlflowClient, trial: Trial) -> None:
        """Have the study's run show the best value after each trial that improved it."""
        directions = self._known.directions
        if trial.number in self._seen:
            return
        step = len(self._seen) + 1
        # A repeat's value says nothing of the search.
        is_best = (
            bool(trial.values)
            and trial.repeat is None
            and (self._best is None or rank(trial, directions)[:-1] < rank(self._best, directions)[:-1])
        )
        if is_best and trial.values and len(directions) == 1:
            at = trial.ended or self._known.began
            if step not in self._improvements_there:
                client.log_metric(self._run.info.run_id, _BEST, trial.values[0], _ms(at), step, synchronous=True)
                self._improvements_there.add(step)
            self._improvements.append(Point(step, trial.values[0], at))
            self._best = trial
        self._seen.add(trial.number)

    def _missing(self, client: MlflowClient, run_id: str, series: Mapping[str, Sequence[Point]]) -> list[Any]:
        """What a run lacks of metrics."""
        from mlflow.entities import Metric

        keys = keys_of(series)
        missing = []
        for name, points in series.items():
            there = Counter(metric.step for metric in client.get_metric_history(run_id, keys[name]))
            for point in points:
                if there[point.step] > 0:
                    there[point.step] -= 1
                else:
                    missing.append(Metric(keys[name], point.value, _ms(point.at), point.step))
        return missing

    def _log_missing(self, client: MlflowClient, run_id: str, series: Mapping[str, Sequence[Point]]) -> None:
        self._log(client, run_id, self._missing(client, run_id, series), [])

    def _log(self, client: MlflowClient, run_id: str, metrics: Sequence[Any], params: Sequence[Any]) -> None:
        parts = zip_longest(_batches(metrics, _MAX_METRICS), _batches(params, _MAX_PARAMS), fillvalue=())
        for some_metrics, some_params in parts:
            client.log_batch(run_id, metrics=some_metrics, params=some_params, synchronous=True)

    def _upload_files(self, client: MlflowClient, parent: Run, outcome: Outcome) -> None:
        """Upload the run folder's files, unless they are there as they are."""
        files = {name: content for name in FILES if (content := outcome.read(name)) is not None}
        digest = blake2b(digest_size=16)
        for name, content in files.items():
            digest.update(b"%s %d " % (name.encode(), len(content)) + content)
        if not files or parent.data.tags.get(_FILES_DIGEST) == digest.hexdigest():
            return
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder) / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            client.log_artifacts(parent.info.run_id, folder)
        client.set_tag(parent.info.run_id, _FILES_DIGEST, digest.hexdigest())

    def _upload_model(self, client: MlflowClient, parent: Run, outcome: Outcome) -> None:
        log_best_model(client, parent, outcome.read, self._register)

    def _read_state(self) -> dict[str, str]:
        """Where the runs were before; empty where they were on another server, or of another search."""
        if self._folder is None:
            return {}
        try:
            state = json.loads(self._folder.read(_STATE))[self.name]
            is_same = state["study"] == self._known.id and state["uri"] == redact(self._uri or "")
            return dict(state) if is_same else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _write_state(self, found: Mapping[str, str]) -> None:
        state = {"study": self._known.id, "uri": redact(self._uri or ""), **found}
        if self._folder is not None and state != self._read_state():
            with contextlib.suppress(OSError):  # it only saves a search
                self._folder.write(_STATE, (dump_json({self.name: state}) + "\n").encode())


def _runs_of(client: MlflowClient, experiment_id: str, study_id: str) -> Iterator[Run]:
    """The runs of a search, that of the study among them."""
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], f"tags.`{_STUDY}` = '{study_id}'", max_results=_PAGE, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _exists(client: MlflowClient, experiment_id: str | None) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return experiment_id is not None and client.get_experiment(experiment_id).lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def _facts_of(trial: Trial) -> dict[str, Any]:
    """A trial's tags."""
    facts = {
        _NUMBER: trial.number,
        "state": trial.state,
        "attempt": trial.attempt,
        "host": trial.host,
        "seed": trial.seed,
        "fidelity": trial.fidelity,
        "parent": trial.parent,
        "repeat_of": trial.repeat_of,
        "repeat": trial.repeat,
        "error": trial.reason,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _points_of(summary: Mapping[str, Any]) -> dict[str, list[Point]]:
    """The numbers of ``result.json``, at the number of trials as their step."""
    test = {f"test_{name}": value for name, value in (summary.get("test") or {}).items()}
    numbers = {name: summary.get(name) for name in ("trials", "epochs", "seconds", "slot_use", "hypervolume")} | test
    step, now = int(summary.get("trials") or 0), time.time()
    return {name: [Point(step, float(value), now)] for name, value in numbers.items() if isinstance(value, int | float)}


def _param_text(value: object) -> str:
    return clean(plain_text(value))[:_MAX_TEXT]


def _batches(items: Sequence[T], limit: int) -> Iterator[list[T]]:
    """Items in parts that a server takes in one request."""
    part: list[T] = []
    size = 0
    for item in items:
        own = sum(len(json.dumps(text)) for text in vars(item).values() if isinstance(text, str))
        if part and (len(part) == limit or size + own > _MAX_BYTES):
            yield part
            part, size = [], 0
        part.append(item)
        size += own
    if part:
        yield part


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """How MLflow's client behaves meanwhile; it reads that from the environment alone."""
    wanted = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", _TIMEOUT_S),
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _is_rejected(error: Exception) -> bool:
    """Whether a server, or the client in its place, does not take what was sent."""
    status = getattr(error, "get_http_status_code", None)
    return status is not None and status() == _REJECTED


def _user() -> dict[str, str]:
    with contextlib.suppress(Exception):  # a container may have a user without a name
        return {"mlflow.user": getpass.getuser()}
    return {}


def _ms(at: float) -> int:
    return int(at * 1000)
