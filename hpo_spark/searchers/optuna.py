"""Any sampler of Optuna, on a study that is made from what is known.

A choice without an order is suggested as a category, by its index; what has an order, as a number. Conditions are
Optuna's own for the samplers that can learn about a parameter which is not always there; others would only ever draw
it at random, and see the space flat.

References:
    Akiba, Sano, Yanase, Ohta and Koyama (2019), "Optuna: a next-generation hyperparameter optimization framework", KDD.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import inspect
import logging
import math
import threading
import warnings
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np

from hpo_spark.errors import ConfigError, MissingExtra
from hpo_spark.plain import to_plain
from hpo_spark.searchers.base import Direction, Proposal, SequentialSearcher
from hpo_spark.searchers.flat import say_flat
from hpo_spark.searchers.history import losses_of
from hpo_spark.searchers.timeline import Entry, Timeline
from hpo_spark.searchers.views import View, view_of
from hpo_spark.seeds import derive_seed
from hpo_spark.space import Params, SearchSpace
from hpo_spark.trial import Trial, TrialState

try:
    import optuna
except ImportError as error:
    raise MissingExtra("The searcher 'optuna'", "optuna", "optuna") from error

__all__ = ["OptunaSearcher"]

logger = logging.getLogger(__name__)
_lock = threading.RLock()

_STREAM = 0x0971
# Suggestions in a row that are known already, before a configuration is drawn evenly instead.
_MAX_REPEATS = 10
# Samplers that learn about parameters which are active only sometimes; others see the space flat.
_CONDITIONAL = ("BruteForceSampler", "RandomSampler", "TPESampler")
# Samplers of which a suggestion takes a few milliseconds, with a thousand trials too.
_FAST = ("BruteForceSampler", "CmaEsSampler", "NSGAIISampler", "NSGAIIISampler", "QMCSampler", "RandomSampler")
# Made-up trials with which a sampler is tried; by default none of Optuna's draws at random for longer.
_N_REHEARSED = 12
# What samplers need beside Optuna.
_PACKAGES = {"CmaEsSampler": "cmaes", "GPSampler": "torch"}


class OptunaSearcher(SequentialSearcher):
    """Asks one of `optuna.samplers`.

    Each ask has a sampler of its own, with a seed of its own, and sees what is known in the order of the asks: trials
    without a value as failed, pending ones as running. What a sampler keeps with a trial, or with the study, is in the
    proposal's token; `CmaEsSampler` keeps a pickle there, so restore no history that you would not run code from.
    It and the genetic samplers learn from the trials that they asked for, not from others.

    Args:
        space, directions, seed: As for every searcher.
        sampler: The name of the sampler's class.
        options: What the class takes, but ``seed``. `TPESampler` sees pending trials (``constant_liar``) unless told
            otherwise.

    Raises:
        ConfigError: If there is no such sampler or option, or the sampler cannot search this space or these directions.
        MissingExtra: If Optuna is not installed.
    """

    name = "optuna"
    several_objectives = True

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[Direction] = ("maximize",),
        seed: int = 0,
        *,
        sampler: str = "TPESampler",
        **options: Any,
    ) -> None:
        super().__init__(space, directions, seed)
        self.is_slow = sampler not in _FAST
        self._sampler = sampler
        self._options = options
        self._views = {name: view_of(space[name]) for name in space}
        self._distributions = {name: _distribution(view) for name, view in self._views.items()}
        self._is_flat = sampler not in _CONDITIONAL
        self._neutral = {name: space[name].decode(0.5) for name in space}
        self._timeline = Timeline()
        self._frozen: dict[str, tuple[Entry, optuna.trial.FrozenTrial]] = {}
        # What samplers keep with the study, each with the ask that it is from.
        self._study_attrs: dict[str, tuple[int, Any]] = {}
        self._is_noisy = self._check()

    def __getstate__(self) -> dict[str, Any]:
        """All but Optuna's trials, which are made again."""
        return {**self.__dict__, "_frozen": {}}

    def tell(self, trial: Trial) -> None:
        """Learn how a trial ended; in any order, also of trials that were never asked for."""
        super().tell(trial)
        self._timeline.tell(trial)
        self._remember(trial.token)

    def expect(self, trial: Trial) -> None:
        """Learn that a trial runs which this searcher object was not asked for."""
        super().expect(trial)
        self._timeline.expect(trial)
        self._remember(trial.token)

    def _propose(self, rng: np.random.Generator) -> Proposal | None:
        if self._n_asked == 0 and self._is_flat:
            say_flat(f"optuna:{self._sampler}", self.space)
        params, token = self._suggested()
        origin = {"by": self._sampler}
        if params is None:
            params, origin = self.history.draw_unseen(rng), {"by": "draw"}
        if params is None:
            return None
        token["ask"] = self._n_asked
        self._timeline.propose(params, self._n_asked, token)
        self._remember(token)
        return Proposal(params, token=token, origin=origin)

    def _suggested(self) -> tuple[Params | None, dict[str, Any]]:
        """The first suggestion that is new, or None where none is, and what the sampler wants to know again."""
        # 0 is the number of the trial to come.
        known = [self._frozen_trial(number, entry) for number, entry in enumerate(self._timeline.entries, start=1)]
        before = {name: value for name, (_, value) in self._study_attrs.items()}
        token: dict[str, Any] = {}
        after, suggested = before, None
        for attempt in range(_MAX_REPEATS):
            with _quiet(self._is_noisy):
                params, trial_attrs, after = self._suggest(known, after, attempt)
            if params not in self.history:
                suggested, token["trial"] = params, to_plain(trial_attrs)
                break
        token["study"] = {name: value for name, value in to_plain(after).items() if before.get(name) != value}
        return suggested, {name: attrs for name, attrs in token.items() if attrs}

    def _suggest(
        self, known: list[optuna.trial.FrozenTrial], study_attrs: dict[str, Any], attempt: int
    ) -> tuple[Params, dict[str, Any], dict[str, Any]]:
        """One suggestion, and the attributes of its trial and of the study."""
        storage = _KnownTrials(known)
        sampler = self._make_sampler(derive_seed(self.seed, _STREAM, self._n_asked, attempt))
        study = optuna.create_study(storage=storage, directions=list(self.directions), sampler=sampler)
        study_id = storage.get_study_id_from_name(study.study_name)
        for name, value in study_attrs.items():
            storage.set_study_system_attr(study_id, name, value)
        trial = study.ask()
        found: Params = {}
        for name in self.space.parents_first:
            is_active = self.space.is_active(name, found)
            if is_active or self._is_flat:
                number = _suggest_number(trial, name, self._distributions[name])
                found |= {name: self._views[name].value(number)} if is_active else {}
        params = {name: found[name] for name in self.space if name in found}
        trial_attrs = storage.get_all_trials(study_id, deepcopy=False)[-1].system_attrs
        return params, trial_attrs, storage.get_study_system_attrs(study_id)

    def _make_sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        cls, options = _samplers()[self._sampler], dict(self._options)
        if cls is optuna.samplers.TPESampler:
            options.setdefault("constant_liar", True)
        if cls is optuna.samplers.QMCSampler:
            # All asks take points of one sequence; only what is sampled apart from it has a seed of its own.
            options.setdefault("independent_sampler", optuna.samplers.RandomSampler(seed=seed))
            seed = derive_seed(self.seed, _STREAM)
        return cls(**options, **({"seed": seed} if "seed" in _options_of(cls) else {}))

    def _remember(self, token: Any) -> None:
        """Know the latest of what the sampler keeps with the study."""
        if isinstance(token, dict) and isinstance(token.get("study"), dict):
            for name, value in token["study"].items():
                ask, _ = self._study_attrs.get(name, (-1, None))
                if token["ask"] > ask:
                    self._study_attrs[name] = token["ask"], value

    def _frozen_trial(self, number: int, entry: Entry) -> optuna.trial.FrozenTrial:
        """An entry of the timeline as Optuna keeps it."""
        cached = self._frozen.get(entry.key)
        if cached is None or cached[0] is not entry:
            cached = self._frozen[entry.key] = entry, self._new_frozen_trial(entry)
        cached[1].number = number
        return cached[1]

    def _new_frozen_trial(self, entry: Entry) -> optuna.trial.FrozenTrial:
        values, state = None, optuna.trial.TrialState.FAIL
        steps: dict[int, float] = {}
        if entry.trial is None:
            state = optuna.trial.TrialState.RUNNING
        elif losses_of(entry.trial, self.directions) is not None:
            values, state = entry.trial.values, optuna.trial.TrialState.COMPLETE
        elif entry.trial.state is TrialState.PRUNED and (last := _last_finite(entry.trial)) is not None:
            values, state, steps = [last[1]], optuna.trial.TrialState.PRUNED, {int(last[0]): last[1]}
        shown = {**self._neutral, **entry.params} if self._is_flat else entry.params
        now = datetime.now()
        return optuna.trial.FrozenTrial(
            number=0,
            state=state,
            value=None,
            values=values,
            datetime_start=now,
            datetime_complete=None if entry.trial is None else now,
            params={name: self._views[name].number(value) for name, value in shown.items()},
            distributions={name: self._distributions[name] for name in shown},
            user_attrs={},
            system_attrs=entry.token.get("trial", {}),
            intermediate_values=steps,
            # Samplers remember trials by it, of those that they suggested; the next has 0.
            trial_id=-1 if entry.ask is None else entry.ask + 1,
        )

    def _check(self) -> bool:
        """Raise `ConfigError` unless the sampler, its options, the space and the directions go together.

        Returns:
            Whether the sampler warns when it is made, as those do that Optuna calls experimental.
        """
        samplers = _samplers()
        if self._sampler not in samplers:
            close = difflib.get_close_matches(str(self._sampler), samplers, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"Optuna has no sampler {self._sampler!r}; choose one of {list(samplers)}.{hint}")
        allowed = [name for name in _options_of(samplers[self._sampler]) if name != "seed"]
        if unknown := [name for name in self._options if name not in allowed]:
            takes = f"it takes {allowed}" if allowed else "it takes none"
            raise ConfigError(f"{self._sampler} has no option {unknown[0]!r}; {takes}.")
        if (package := _PACKAGES.get(self._sampler)) is not None:
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise ConfigError(f"{self._sampler} needs {package}. Install it with: pip install {package}") from error
        with _quiet(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                self._suggest([], {}, 0)
                self._suggest([self._rehearsed(number) for number in range(1, _N_REHEARSED + 1)], {}, 0)
            except Exception as error:  # whatever the sampler says, this search is not possible
                raise ConfigError(
                    f"{self._sampler} cannot search this space with options={self._options!r} and "
                    f"directions={list(self.directions)}; Optuna says: {_first_line(error)}"
                ) from error
        said = {
            str(one.message) for one in caught if not issubclass(one.category, optuna.exceptions.ExperimentalWarning)
        }
        for message in sorted(said):
            logger.warning("searcher 'optuna:%s': %s", self._sampler, message)
        return bool(caught)

    def _rehearsed(self, number: int) -> optuna.trial.FrozenTrial:
        """A made-up trial, to see what the sampler makes of some."""
        values = [float(number)] * len(self.directions)
        trial = Trial(number, self.space.sample(number), 0, state=TrialState.COMPLETED, values=values)
        frozen = self._new_frozen_trial(Entry((False, number, ""), trial.params, {}, trial))
        frozen.number = number
        return frozen


class _KnownTrials(optuna.storages.InMemoryStorage):  # type: ignore[misc]
    """A study's storage in which trials are known already, before those that the study asks for.

    Optuna's own would copy each of them, and never forgets one.
    """

    def __init__(self, known: list[optuna.trial.FrozenTrial]) -> None:
        super().__init__()
        self._known = known

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[optuna.trial.TrialState] | None = None
    ) -> list[optuna.trial.FrozenTrial]:
        known = [trial for trial in self._known if states is None or trial.state in states]
        known = copy.deepcopy(known) if deepcopy else known
        return [*known, *super().get_all_trials(study_id, deepcopy, states)]


def _distribution(view: View) -> optuna.distributions.BaseDistribution:
    """What Optuna draws a parameter from."""
    distributions = optuna.distributions
    if view.kind == "category":
        return distributions.CategoricalDistribution(tuple(range(view.n_levels)))
    if view.kind == "level":
        return distributions.IntDistribution(0, view.n_levels - 1)
    if view.kind == "log_int":
        return distributions.IntDistribution(int(view.low), int(view.high), log=True)
    if view.kind == "gene":
        return distributions.FloatDistribution(0.0, 1.0)
    return distributions.FloatDistribution(view.low, view.high, log=view.kind == "log")


def _suggest_number(trial: optuna.Trial, name: str, distribution: Any) -> Any:
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    suggest = (
        trial.suggest_int if isinstance(distribution, optuna.distributions.IntDistribution) else trial.suggest_float
    )
    return suggest(name, distribution.low, distribution.high, log=distribution.log)


@cache
def _samplers() -> dict[str, Any]:
    """Optuna's samplers that can be made from options alone, by name."""
    classes = {name: getattr(optuna.samplers, name) for name in sorted(optuna.samplers.__all__)}
    return {
        name: cls
        for name, cls in classes.items()
        if inspect.isclass(cls)
        and not inspect.isabstract(cls)
        and all(parameter.default is not parameter.empty for parameter in _options_of(cls).values())
    }


def _last_finite(trial: Trial) -> list[float] | None:
    """The last step and value that a trial has reported, of those that are numbers; None where there is none."""
    return next((pair for pair in reversed(trial.curve) if math.isfinite(pair[1])), None)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _options_of(cls: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(cls).parameters)


@contextmanager
def _quiet(warnings_too: bool = False) -> Iterator[None]:
    """Keep what Optuna logs below an error out of the user's log, and what it warns of if asked to.

    Both are the process's, so one thread at a time.
    """
    optunas = logging.getLogger("optuna")
    with _lock, warnings.catch_warnings() if warnings_too else nullcontext():
        if warnings_too:
            warnings.simplefilter("ignore")
        level = optunas.level
        optunas.setLevel(logging.ERROR)
        try:
            yield
        finally:
            optunas.setLevel(level)
