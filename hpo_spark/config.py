"""The study file: read, checked as a whole, and turned into objects, with errors that name file, line and key."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hpo_spark import yaml
from hpo_spark.confirm import Confirm, check_confirm
from hpo_spark.data.source import PATH_KEYS, DataSource
from hpo_spark.determinism import check_lookahead, check_no_clock
from hpo_spark.errors import ConfigError, DataError, JournalError, SpaceError
from hpo_spark.exchange.source import locate
from hpo_spark.executors.supervisor import Isolation
from hpo_spark.fuse import Fuse
from hpo_spark.known import read_point
from hpo_spark.objectives import mlp
from hpo_spark.objectives.function import FunctionObjective
from hpo_spark.objectives.keras import KerasObjective
from hpo_spark.objectives.sklearn import SklearnObjective
from hpo_spark.redaction import redact
from hpo_spark.searchers import has_fidelities, make_searcher
from hpo_spark.space import SearchSpace
from hpo_spark.stopping import Limits
from hpo_spark.study import DEFAULT_GIVE_UP_AFTER, DEFAULT_KEEP_MODELS, Study
from hpo_spark.study_options import check_pruner, check_recordable, check_reference_point, resolve_fidelity
from hpo_spark.symbols import load_symbol
from hpo_spark.tracking import Tracking, make_trackers

__all__ = ["StudyFile", "parse_study_file", "read_study_file"]

# What a metric's name holds where less is better.
_LOSSES = (
    "loss",
    "error",
    "mse",
    "mae",
    "mape",
    "msle",
    "entropy",
    "divergence",
    "hinge",
    "logcosh",
    "poisson",
    "huber",
)

_Way = Literal["minimize", "maximize"]

# The keys of `objective` that belong to one kind of it.
_OPTIONS = {
    "keras": (
        *("epochs", "batch_size", "metric", "class_weight", "callbacks", "jit_compile"),
        "test_every_trial",
    ),
    "sklearn": ("cv", "scoring", "all_rows"),
    "function": (),
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StudySection(_Section):
    """``study``: what is searched for, and for how long."""

    name: str | None = Field(None, min_length=1)
    direction: _Way | Annotated[list[_Way], Field(min_length=1)] | None = None
    seed: int | None = Field(None, ge=0)
    max_trials: int | None = Field(None, gt=0)
    max_epochs: int | None = Field(None, gt=0)
    timeout_s: float | None = Field(None, gt=0)
    target: float | None = Field(None, allow_inf_nan=False)
    patience: int | None = Field(None, gt=0)
    max_failures: int | None = Field(None, gt=0)
    give_up_after: int | None = Field(DEFAULT_GIVE_UP_AFTER, gt=0)
    reference_point: list[float] | None = None
    keep_models: int = Field(DEFAULT_KEEP_MODELS, ge=0)
    deterministic: bool = False
    lookahead: int | None = Field(None, gt=0)


class ObjectiveSection(_Section):
    """``objective``: what one trial is."""

    keras: str | None = None
    sklearn: str | None = None
    function: str | None = None
    data: str | dict[str, Any] | None = None
    epochs: int | None = Field(None, gt=0)
    batch_size: int | None = Field(None, gt=0)
    metric: str | list[str] | None = None
    validation: float | str | None = None
    class_weight: dict[int, float] | None = None
    callbacks: list[str | dict[str, dict[str, Any] | None]] | None = None
    jit_compile: bool | None = None
    test_every_trial: bool | None = None
    cv: int | None = Field(None, ge=2)
    scoring: str | list[str] | None = None
    all_rows: bool | None = None


class ResourcesSection(_Section):
    """``resources``: what one trial may use."""

    cpus: int | None = Field(None, gt=0)
    gpus: float = Field(0, ge=0, allow_inf_nan=False)
    memory_mb: float | None = Field(None, gt=0)
    timeout_s: float | None = Field(None, gt=0)
    isolation: Isolation = "worker"


class ConfirmSection(_Section):
    """``confirm``: what is trained again, with other seeds, once the search has ended."""

    top_k: int = Field(5, gt=0)
    repeats: int = Field(3, gt=0)
    in_budget: bool = False


class FuseSection(_Section):
    """``fuse``: how trials are trained together."""

    max_group: int = Field(Fuse.max_group, ge=2)
    memory_mb: float = Field(Fuse.memory_mb, gt=0, allow_inf_nan=False)
    wait_s: float = Field(Fuse.wait_s, ge=0, allow_inf_nan=False)


class FidelitySection(_Section):
    """``fidelity``: few epochs first, and more for the best."""

    min: int = Field(1, gt=0)
    max: int | None = Field(None, gt=0)
    eta: int = Field(3, gt=1)


class FileModel(_Section):
    """A whole study file.

    Keys that allow a single value belong to what this version does not do; study files may say so.
    """

    study: StudySection = StudySection()
    space: dict[str, Any]
    fixed: dict[str, Any] = {}
    x0: list[dict[str, Any]] = []
    warm_start: str | None = None
    searcher: str | dict[str, Any] | None = None
    objective: ObjectiveSection
    executor: Literal["spark", "connect", "processes", "serial"] = "spark"
    remote: str | None = Field(None, min_length=1)
    resources: ResourcesSection = ResourcesSection()
    pruner: str | dict[str, Any] | None = None
    fidelity: FidelitySection | None = None
    confirm: ConfirmSection | None = None
    fuse: Literal["auto", "off"] | FuseSection = "auto"
    tracking: Any = []
    report: bool = True


def read_study_file(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> StudyFile:
    """Read and check a study file.

    Args:
        path: The file.
        overrides: ``key=value`` with a dotted key and a value in YAML, such as ``searcher.population=20``.

    Raises:
        ConfigError: Names the file, the line, the key and what was expected.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"The study file {path} cannot be read: {error.strerror or error}.") from None
    return parse_study_file(content, path, overrides)


def parse_study_file(content: bytes, path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> StudyFile:
    """Check the content of a study file.

    Args:
        content: The content.
        path: Where it comes from, for messages and as the place of files that it names.
        overrides: As for `read_study_file`.

    Raises:
        ConfigError: Names the file, the line, the key and what was expected.
    """
    path = Path(path)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"The study file {path} is not UTF-8 text: {error}.") from None
    data, lines = yaml.load_with_lines(text, str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping with the keys space and objective, got {type(data).__name__}.")
    overridden = [_override(data, override) for override in overrides]
    where = _Locator(path, lines, overridden)
    try:
        model = FileModel.model_validate({key: value for key, value in data.items() if value is not None})
    except ValidationError as error:
        raise ConfigError("\n".join(where.explain(item) for item in error.errors()[:5])) from None
    return StudyFile(path, model, where)


@dataclass(frozen=True)
class StudyFile:
    """A study file that was read and whose form is right.

    Attributes:
        path: The file.
        model: Its content, with all defaults.
    """

    path: Path
    model: FileModel
    where: _Locator

    @property
    def name(self) -> str:
        """The study's name; the file's where it has none."""
        return self.model.study.name or self.path.stem

    @property
    def limits(self) -> Limits:
        """When the study stops."""
        section = self.model.study
        return Limits(**{name: getattr(section, name) for name in Limits.__dataclass_fields__})

    @cached_property
    def space(self) -> SearchSpace:
        """The search space."""
        try:
            return SearchSpace.from_dict(self.model.space)
        except SpaceError as error:
            key = ("space",) if error.parameter is None else ("space", error.parameter)
            raise self.where.error(key, str(error)) from None

    @cached_property
    def objective(self) -> KerasObjective | SklearnObjective | FunctionObjective:
        """The objective; imports what the file names."""
        section = self.model.objective
        kinds = [kind for kind in _OPTIONS if getattr(section, kind) is not None]
        if len(kinds) != 1:
            raise self.where.error(("objective",), "expected exactly one of the keys keras, sklearn and function.")
        (kind,) = kinds
        with self.where.at("objective", kind):
            made_by = load_symbol(_as_symbol(getattr(section, kind)), self._folders)
            if not callable(made_by) and kind != "sklearn":
                raise ConfigError(f"{getattr(section, kind)!r} is {type(made_by).__name__}, expected a function.")
        given = self._options(kind)
        with self.where.at("objective", "data"):
            data = self._data()
        if kind == "function":
            return FunctionObjective(made_by, data)
        if data is None:
            raise self.where.error(("objective",), f"a {kind} objective needs the key data, such as data: digits.")
        if kind == "sklearn":
            return self._sklearn(made_by, data, given)
        with self.where.at("objective"):
            if made_by is mlp.build_model:
                mlp.check_names([*self.space, *self.model.fixed])
            return KerasObjective(made_by, data, **given)

    def _sklearn(self, estimator: Any, data: DataSource, given: dict[str, Any]) -> SklearnObjective:
        with self.where.at("objective", "validation"):
            if self.model.objective.validation is not None:
                raise ConfigError("a sklearn objective validates by its folds; leave it out.")
        with self.where.at("objective", "scoring" if "scoring" in given else "sklearn"):
            try:
                objective = SklearnObjective(estimator, data, **given)
            except TypeError as error:
                raise ConfigError(str(error)) from None
        with self.where.at("space"):
            objective.check_names([*self.space, *self.model.fixed])
        return objective

    def _options(self, kind: str) -> dict[str, Any]:
        """The options of the objective that are given, all of which must belong to its kind."""
        section = self.model.objective
        given = {}
        for other, names in _OPTIONS.items():
            for name in names:
                if (value := getattr(section, name)) is None:
                    continue
                if other != kind:
                    raise self.where.error(("objective", name), f"belongs to a {other} objective, not to a {kind}.")
                given[name] = value
        return given

    @property
    def direction(self) -> str | list[str]:
        """The direction; where the file has none, minimize for a loss or an error and maximize for all else."""
        section = self.model.study
        if section.direction is not None:
            return section.direction if isinstance(section.direction, str) else [*section.direction]
        # Of a scorer larger is better, whatever its name.
        metrics = self.model.objective.metric or ["value"] * self._n_scores
        ways = [
            "minimize" if any(word in metric for word in _LOSSES) else "maximize"
            for metric in ([metrics] if isinstance(metrics, str) else metrics)
        ]
        return ways[0] if len(ways) == 1 else ways

    def study(
        self, out: str | Path | None, callbacks: Sequence[Any] = (), *, resume: bool = False, force: bool = False
    ) -> Study:
        """Build the study.

        Args:
            out, callbacks, resume, force: As for `Study`.

        Raises:
            ConfigError: If what the file says makes no sense, or its data cannot be had.
        """
        model = self.model
        space = self.space
        objective = self.objective
        directions = [self.direction] if isinstance(self.direction, str) else self.direction
        fidelity = self._fidelity(objective)
        with self.where.at("space"):
            if out is not None:
                check_recordable(space)
        with self.where.at("searcher"):
            if not has_fidelities(model.searcher):
                make_searcher(model.searcher, space, directions, 0)
        with self.where.at("searcher" if model.fidelity is None else "fidelity"):
            searcher = make_searcher(model.searcher, space, directions, 0, fidelity)
        with self.where.at("pruner"):
            check_pruner(model.pruner, directions, objective)
        with self.where.at("study", "reference_point"):
            check_reference_point(model.study.reference_point, directions)
        confirm = None if model.confirm is None else Confirm(**model.confirm.model_dump())
        with self.where.at("confirm"):
            check_confirm(confirm, directions)
        for index, entry in enumerate(model.x0):
            with self.where.at("x0", index):
                read_point(entry, space, len(directions))
        if model.study.deterministic:
            with self.where.at("resources", "timeout_s"):
                check_no_clock({"timeout_s": model.resources.timeout_s})
            with self.where.at("study", "timeout_s"):
                check_no_clock({"timeout_s": model.study.timeout_s})
        with self.where.at("study", "deterministic" if model.study.lookahead is None else "lookahead"):
            check_lookahead(model.study.deterministic, model.study.lookahead, searcher)
        with self.where.at("tracking"):
            Tracking(make_trackers(model.tracking)).check()
        with self.where.at("warm_start" if self._earlier_run is not None else "fixed"):
            study = Study(
                space,
                objective,
                model.searcher,
                self.direction,
                model.study.seed,
                out,
                callbacks,
                fixed=model.fixed,
                x0=model.x0,
                warm_start=self._earlier_run,
                pruner=model.pruner,
                fidelity=None if model.fidelity is None else model.fidelity.model_dump(exclude_none=True),
                deterministic=model.study.deterministic,
                lookahead=model.study.lookahead,
                name=self.name,
                reference_point=model.study.reference_point,
                keep_models=model.study.keep_models,
                confirm=confirm,
                fuse=model.fuse if isinstance(model.fuse, str) else Fuse(**model.fuse.model_dump()),
                tracking=model.tracking,
                report=model.report,
                resume=resume,
                force=force,
            )
        n_metrics, key = len(directions), "metric"
        if isinstance(objective, KerasObjective):
            n_metrics = len(objective.metric_names)
        elif isinstance(objective, SklearnObjective):
            n_metrics, key = self._n_scores, "scoring"
        if n_metrics != len(directions):
            raise self.where.error(
                ("objective", key),
                f"names {n_metrics} metric(s), but study.direction {len(directions)} direction(s).",
            )
        with self.where.at("objective", "data"):
            study.prepare()
        study.set_description(self._resolved(study.seed))
        return study

    @property
    def _n_scores(self) -> int:
        scoring = self.model.objective.scoring
        return len(scoring) if isinstance(scoring, list) else 1

    def _fidelity(self, objective: Any) -> Mapping[str, int] | None:
        section = self.model.fidelity
        with self.where.at("fidelity"):
            given = None if section is None else section.model_dump(exclude_none=True)
            return resolve_fidelity(given, self.model.searcher, objective)

    def _data(self) -> DataSource | None:
        section = self.model.objective
        if section.data is None:
            if section.validation is not None:
                raise ConfigError("validation needs data to cut it from.")
            return None
        try:
            return DataSource.of(self._located(section.data), section.validation)
        except DataError as error:
            raise ConfigError(str(error)) from None

    def _located(self, data: str | dict[str, Any]) -> Any:
        """Data with its files looked up beside the study file first, then in the working directory."""
        if isinstance(data, dict):
            return {key: self._paths(value) if key in PATH_KEYS else value for key, value in data.items()}
        if data.endswith(".npz"):
            return self._beside(data)
        if ":" in data and "://" not in data:
            return load_symbol(data, self._folders)
        return data

    def _paths(self, value: Any) -> Any:
        """A path, or a list of paths, where they are found."""
        if isinstance(value, list):
            return [self._paths(item) for item in value]
        return self._beside(value) if isinstance(value, str) else value

    def _beside(self, path: str) -> str:
        if "://" in path:
            return path
        found = next((folder / path for folder in self._folders if (folder / path).exists()), None)
        return str(found or path)

    @property
    def _earlier_run(self) -> str | None:
        run = self.model.warm_start
        return None if run is None else locate(run, self._folders)

    def _absolute(self, value: Any) -> Any:
        """A value of the objective section, with relative files made absolute: the run folder lies elsewhere."""
        if isinstance(value, dict):
            return {key: self._absolute_paths(item) if key in PATH_KEYS else item for key, item in value.items()}
        if not isinstance(value, str):
            return value
        file, colon, name = value.partition(":") if ".py:" in value else (value, "", "")
        return f"{self._absolute_paths(file)}{colon}{name}" if file.endswith((".py", ".npz")) else value

    def _absolute_paths(self, value: Any) -> Any:
        """A path, or a list of paths, made absolute where it exists."""
        if isinstance(value, list):
            return [self._absolute_paths(item) for item in value]
        if not isinstance(value, str) or "://" in value:
            return value
        beside = self._beside(value)
        return os.path.abspath(beside) if os.path.exists(beside) else value

    @property
    def _folders(self) -> list[Path]:
        return [self.path.parent, Path.cwd()]

    def _resolved(self, seed: int) -> dict[str, Any]:
        """The file with its overrides and defaults: what ``study.yaml`` in the run folder says."""
        content = self.model.model_dump()
        if self._earlier_run is not None:
            content["warm_start"] = redact(self._earlier_run)
        content["study"] |= {"name": self.name, "direction": self.direction, "seed": seed}
        content["objective"] = {
            key: self._absolute(value) for key, value in content["objective"].items() if value is not None
        }
        if isinstance(self.objective, KerasObjective):
            content["objective"] |= {name: getattr(self.objective, name) for name in ("epochs", "batch_size", "metric")}
            if self.objective.callbacks:
                content["objective"]["callbacks"] = self.objective.callbacks
        elif isinstance(self.objective, SklearnObjective):
            content["objective"] |= {name: getattr(self.objective, name) for name in ("cv", "scoring")}
        return content


class _Locator:
    """Says where in the study file a key stands."""

    def __init__(
        self, path: Path, lines: Mapping[tuple[str | int, ...], int], overridden: Sequence[tuple[str, ...]]
    ) -> None:
        self._path = path
        self._lines = lines
        self._overridden = overridden

    def error(self, key: Sequence[str | int], message: str) -> ConfigError:
        """An error about a key."""
        key = tuple(key)
        name = ".".join(map(str, key))
        message = message.removeprefix(f"{name}: ")
        if any(key[: len(other)] == other for other in self._overridden):
            return ConfigError(f"{self._path}: --set {name}: {message}")
        line = next((self._lines[key[:end]] for end in range(len(key), 0, -1) if key[:end] in self._lines), None)
        where = f"{self._path}, line {line}" if line else str(self._path)
        if changed := [".".join(other) for other in self._overridden if other[: len(key)] == key]:
            where += f", changed by --set {changed[0]}"
        return ConfigError(f"{where}: {name}: {message}")

    def at(self, *key: str | int) -> _At:
        """Put the place of a key into whatever `ConfigError` is raised inside, unless it is about a run folder."""
        return _At(self, key)

    def explain(self, item: Mapping[str, Any]) -> str:
        """One of pydantic's errors in our words."""
        key = [part for part in item["loc"] if not _is_union_branch(part)]
        if item["type"] == "extra_forbidden":
            known = _known_keys(key[:-1])
            close = difflib.get_close_matches(str(key[-1]), known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            return str(self.error(key, f"unknown key.{hint} Expected one of {known}."))
        if item["type"] == "missing":
            return str(self.error(key, "is missing, and has no default."))
        message = item["msg"].replace("Input should", "should")
        return str(self.error(key, f"{message}, got {item['input']!r}."))


class _At:
    def __init__(self, locator: _Locator, key: tuple[str | int, ...]) -> None:
        self._locator, self._key = locator, key

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ValueError) and not isinstance(error, JournalError):  # ConfigError and DataError are
            raise self._locator.error(self._key, str(error)) from None


def _override(data: dict[str, Any], override: str) -> tuple[str, ...]:
    """Put a ``key=value`` into the data of a study file."""
    name, equals, text = override.partition("=")
    keys = tuple(part.strip() for part in name.split("."))
    if not equals or not all(keys):
        raise ConfigError(f"--set {override!r}: expected key=value with a dotted key, such as searcher.population=20.")
    value = yaml.load(text, f"--set {name}")
    inner = data
    for depth, key in enumerate(keys[:-1]):
        following = inner.get(key)
        if keys[: depth + 1] == ("searcher",) and (following is None or isinstance(following, str)):
            # searcher: genetic is short for searcher: {name: genetic}
            following = {} if following is None else {"name": following}
        if following is None:
            following = {}
        if not isinstance(following, dict):
            raise ConfigError(f"--set {override!r}: {'.'.join(keys[: depth + 1])} is {following!r}, which has no keys.")
        inner[key] = following
        inner = following
    inner[keys[-1]] = value
    return keys


def _as_symbol(reference: str) -> str:
    """A reference in the form of a symbol's: a dotted name is that of something in a module."""
    if ":" in reference or "." not in reference:
        return reference
    module, _, name = reference.rpartition(".")
    return f"{module}:{name}"


def _known_keys(section: Sequence[str | int]) -> list[str]:
    model: Any = FileModel
    for key in section:
        annotation = model.model_fields[key].annotation
        model = next(kind for kind in (annotation, *get_args(annotation)) if hasattr(kind, "model_fields"))
    return list(model.model_fields)


def _is_union_branch(part: Any) -> bool:
    """Whether a part of pydantic's location is the name of a type that it tried, not a key."""
    return isinstance(part, str) and ("[" in part or part in ("str", "int", "float", "bool", "list", "dict"))
