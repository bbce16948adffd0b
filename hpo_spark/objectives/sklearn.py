"""Cross-validating a scikit-learn estimator as an objective.

Each fold is a part of its trial that can be evaluated apart from the others, so that the folds of one trial run side by
side where slots are free; the last part trains the model that is kept.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import io
import pickle
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from hpo_spark.data import DataSource, Part
from hpo_spark.errors import MissingExtra
from hpo_spark.objectives.context import Context
from hpo_spark.objectives.function import call_with_context
from hpo_spark.pickling import dumps
from hpo_spark.seeds import derive_seed, seeded
from hpo_spark.trial import Trial

__all__ = ["SklearnObjective"]

# What the score of an estimator's own method is called.
_OWN_SCORE = "score"
# The draws of the model that is kept, beside those of folds 0, 1, ...
_MODEL_STREAM = 0x0DE1


class SklearnObjective:
    """Cross-validates an estimator or a pipeline for a configuration, and returns the mean of its folds' scores.

    The folds depend on the study's seed only, so that trials are compared on the same rows (those of a configuration's
    repeats are others). Every ``random_state`` that is None, also inside a pipeline, becomes the trial's seed. Images
    are flattened to one row each.

    The model of a trial that leads is fitted on all training rows at the end, and kept as `joblib` writes it.

    Args:
        estimator: An estimator or a pipeline, or its class: the params are given to ``set_params``, with names such as
            ``step__param``. Or a function ``build_estimator(params)`` or ``build_estimator(params, context)`` that
            returns one which is not fitted.
        data: Whatever `DataSource.of` takes, but no streams. A validation part that it brings is among the rows to fit.
        cv: Number of folds, 2 or more, shuffled, and stratified for a classifier; or a splitter of scikit-learn, or
            pairs of row numbers to train and to score on.
        scoring: A scorer's name, such as ``"accuracy"`` or ``"neg_log_loss"``; a function ``score(estimator, x, y)``; a
            list of names for several objectives; None for the estimator's own ``score``. Larger is better in all.
        all_rows: Whether folds are cut from all rows, those of the test part too, to compare with publications that do.
            Nothing is left to test the best model on then.

    Attributes:
        has_epochs: False: ``fit`` is one step, so that a trial has no fidelity and cannot be stopped early.
    """

    has_epochs = False

    def __init__(
        self,
        estimator: Any,
        data: Any,
        cv: Any = 5,
        scoring: str | Sequence[str] | Callable[..., float] | None = None,
        all_rows: bool = False,
    ) -> None:
        if not _is_estimator(estimator) and (inspect.isclass(estimator) or not callable(estimator)):
            raise TypeError(
                f"estimator must be a scikit-learn estimator, its class, or a function that returns one, got "
                f"{estimator!r}."
            )
        self.estimator = estimator
        self.data = DataSource.of(data).unsplit(all_rows)
        self.cv = _check_cv(cv)
        self.scoring = _check_scoring(scoring)
        self.all_rows = all_rows
        self._is_full = False

    def check_names(self, names: Iterable[str]) -> None:
        """Raise `ValueError` for a parameter that the estimator has not; a function's are its own affair."""
        if not _is_estimator(self.estimator):
            return
        known = list(self._built({}, None).get_params(deep=True))
        for name in names:
            if name not in known:
                inner = [other for other in known if other.endswith(f"__{name}")]
                close = inner or difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"the estimator has no parameter {name!r}.{hint} It has {sorted(known)}.")

    def on_all_data(self) -> SklearnObjective:
        """The same objective without folds: the model is fitted on all training rows, and scored on the same rows."""
        other = copy.copy(self)
        other._is_full = True
        return other

    def preload(self) -> None:
        """Import scikit-learn before the first trial.

        Raises:
            MissingExtra: If it is not installed here.
        """
        _import_sklearn()

    @property
    def names(self) -> list[str]:
        """What the scores are called, one an objective."""
        if isinstance(self.scoring, list):
            return self.scoring
        return [self.scoring if isinstance(self.scoring, str) else _OWN_SCORE]

    @property
    def n_parts(self) -> int:
        """Parts that can be evaluated apart from one another, the folds; 1 where only the data tells how many."""
        if self._is_full or isinstance(self.cv, int):
            return 1 if self._is_full else self.cv
        try:
            return int(self.cv.get_n_splits())
        except (TypeError, ValueError):  # one that leaves out each row, or each group
            return 1

    def __call__(self, params: dict[str, Any], context: Context) -> dict[str, Any]:
        """Score all folds one after the other, and keep a model if the trial leads.

        Returns:
            ``value``, the mean of the folds' scores; ``mean``, ``std``, the standard deviation over the folds, and
            ``scores``, a list of them, each beginning with the score's name where there are several.
        """
        if self._is_full:
            return self._fit_and_score_alike(params, context)
        folds = self._folds(params, context)
        outcome = self.combine([self._score(params, context, folds, part) for part in range(len(folds))])
        if context.keeps_model(outcome["value"]):
            try:
                context.keep_model(self.train_model(params, context))
            except Exception as error:
                context.lose_model(f"it could not be trained: {type(error).__name__}: {error}")
        return outcome

    def evaluate_part(self, params: dict[str, Any], context: Context, part: int) -> list[float]:
        """Fit on the other folds and score on fold number ``part``: one score an objective."""
        return self._score(params, context, self._folds(params, context), part)

    def combine(self, outcomes: Sequence[Sequence[float]]) -> dict[str, Any]:
        """What `__call__` returns, from what `evaluate_part` returned for each fold."""
        found: dict[str, Any] = {}
        means = []
        for name, scores in zip(self.names, zip(*outcomes, strict=True), strict=True):
            prefix = f"{name}_" if len(self.names) > 1 else ""
            means.append(float(np.mean(scores)))
            found |= {f"{prefix}mean": means[-1], f"{prefix}std": float(np.std(scores)), f"{prefix}scores": [*scores]}
        return {"value": tuple(means), **found}

    def train_model(self, params: dict[str, Any], context: Context) -> bytes:
        """Fit on all training rows; the model as `joblib` writes it."""
        return _to_bytes(self._fitted(params, context))

    def test(self, model: bytes, params: dict[str, Any], study_seed: int) -> dict[str, float]:
        """Score a trained model on the test part.

        Args:
            model: What `train_model` returned.
            params: What it was built from.
            study_seed: The study's seed.

        Returns:
            Its scores by name; empty where the data has no test part.
        """
        _import_sklearn()
        context = Context(Trial(0, params, study_seed), study_seed, self.data.load)
        part = context.data.test if context.data else None
        if part is None:
            return {}
        import joblib

        return self._scores_of(joblib.load(io.BytesIO(model)), part)

    def _fit_and_score_alike(self, params: dict[str, Any], context: Context) -> dict[str, Any]:
        fitted = self._fitted(params, context)
        context.keep_model(_to_bytes(fitted))
        scores = self._scores_of(fitted, _training_rows(context))
        return {"value": tuple(scores.values()), **scores}

    def _fitted(self, params: dict[str, Any], context: Context) -> Any:
        rows = _training_rows(context)
        with seeded(derive_seed(context.seed, _MODEL_STREAM)):
            estimator = self._seeded(params, context)
            return estimator.fit(rows.x, rows.y, **_weights(estimator, rows))

    def _scores_of(self, fitted: Any, part: Part) -> dict[str, float]:
        from sklearn.metrics import check_scoring

        flat = _flat(part)
        scores = check_scoring(fitted, self.scoring)(fitted, flat.x, flat.y)
        return {name: float(scores[name] if isinstance(scores, dict) else scores) for name in self.names}

    def _score(self, params: dict[str, Any], context: Context, folds: Sequence[Any], part: int) -> list[float]:
        from sklearn.model_selection import cross_validate

        rows = _training_rows(context)
        with seeded(derive_seed(context.seed, part)):
            estimator = self._seeded(params, context)
            try:
                found = cross_validate(
                    estimator,
                    rows.x,
                    rows.y,
                    cv=[folds[part]],
                    scoring=self.scoring,
                    params=_weights(estimator, rows),
                    error_score="raise",
                )
            except Exception as error:
                error.add_note(f"It was raised in fold {part + 1} of {len(folds)}.")
                raise
        keys = [f"test_{name}" if isinstance(self.scoring, list) else "test_score" for name in self.names]
        return [float(found[key][0]) for key in keys]

    def _folds(self, params: dict[str, Any], context: Context) -> list[tuple[Any, Any]]:
        """Row numbers to train and to score on, a pair a fold; the same for all trials, and for one part alone."""
        _import_sklearn()
        from sklearn.base import is_classifier
        from sklearn.model_selection import check_cv

        rows = _training_rows(context)
        seed = context.shuffle_seed % 2**32
        splitter = check_cv(copy.deepcopy(self.cv), rows.y, classifier=is_classifier(self._built(params, context)))
        if isinstance(self.cv, int):
            splitter = type(splitter)(self.cv, shuffle=True, random_state=seed)
        elif getattr(splitter, "random_state", seed) is None:
            splitter.random_state = seed
        return list(splitter.split(rows.x, rows.y))

    def _seeded(self, params: dict[str, Any], context: Context) -> Any:
        """The estimator, with the trial's seed wherever it may draw."""
        estimator = self._built(params, context)
        return estimator.set_params(
            **{
                name: context.seed
                for name, value in estimator.get_params(deep=True).items()
                if value is None and name.rpartition("__")[2] == "random_state"
            }
        )

    def _built(self, params: dict[str, Any], context: Context | None) -> Any:
        """The estimator of a configuration, not fitted."""
        if _is_estimator(self.estimator):
            from sklearn.base import clone

            fresh: Any = self.estimator() if inspect.isclass(self.estimator) else clone(self.estimator)
            return fresh.set_params(**params)
        built = call_with_context(self.estimator, params, context)
        if inspect.isclass(built) or not _is_estimator(built):
            raise TypeError(f"the builder must return a scikit-learn estimator, got {built!r}.")
        return built


class _Pairs:
    """A splitter of rows that are given."""

    def __init__(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        self._pairs = [(np.asarray(train), np.asarray(test)) for train, test in pairs]

    def __repr__(self) -> str:
        content = b"|".join(rows.tobytes() for pair in self._pairs for rows in pair)
        return f"{len(self._pairs)} pairs of row numbers ({blake2b(content, digest_size=8).hexdigest()})"

    def split(self, x: Any, y: Any = None, groups: Any = None) -> list[tuple[Any, Any]]:
        """The pairs."""
        return self._pairs

    def get_n_splits(self, x: Any = None, y: Any = None, groups: Any = None) -> int:
        """How many they are."""
        return len(self._pairs)


def _is_estimator(value: Any) -> bool:
    """Whether it is an estimator, or the class of some."""
    return all(hasattr(value, name) for name in ("fit", "get_params", "set_params"))


def _training_rows(context: Context) -> Part:
    assert context.data is not None
    return _flat(context.data.train)


def _flat(part: Part) -> Part:
    """The part with one row of numbers a sample: a view, no copy."""
    return part if part.x.ndim == 2 else Part(part.x.reshape(len(part), -1), part.y, part.sample_weight)


def _weights(estimator: Any, rows: Part) -> dict[str, Any]:
    """Arguments of ``fit`` that give the rows their weights; in a pipeline its last step has them."""
    if rows.sample_weight is None:
        return {}
    steps = getattr(estimator, "steps", None)
    return {f"{steps[-1][0]}__sample_weight" if steps else "sample_weight": rows.sample_weight}


def _to_bytes(fitted: Any) -> bytes:
    """A fitted estimator as `joblib` writes it, or as cloudpickle does where it holds what no worker can import."""
    import joblib

    buffer = io.BytesIO()
    try:
        joblib.dump(fitted, buffer)
    except (pickle.PicklingError, AttributeError, TypeError):
        return dumps(fitted)
    return buffer.getvalue()


def _check_cv(cv: Any) -> Any:
    if isinstance(cv, bool) or (isinstance(cv, int) and cv < 2):
        raise ValueError(f"cv must be a number of folds of 2 or more, or a splitter of scikit-learn, got cv={cv!r}.")
    if isinstance(cv, int) or (hasattr(cv, "split") and not isinstance(cv, str)):
        return cv
    try:
        pairs = [(train, test) for train, test in cv]
    except (TypeError, ValueError):
        raise TypeError(
            "cv must be a number of folds, a splitter of scikit-learn, or pairs of row numbers to train and to score "
            f"on, got cv={cv!r}."
        ) from None
    if not pairs:
        raise ValueError("cv must hold at least one pair of row numbers to train and to score on, got none.")
    return _Pairs(pairs)


def _check_scoring(scoring: Any) -> Any:
    if scoring is None or (callable(scoring) and not isinstance(scoring, str)):
        return scoring
    names = [scoring] if isinstance(scoring, str) else list(scoring)
    _import_sklearn()
    from sklearn.metrics import get_scorer_names

    known = get_scorer_names()
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" It has {known}."
            raise ValueError(f"scoring: scikit-learn has no scorer {name!r}.{hint}")
    if not names:
        raise ValueError("scoring must name a scorer, such as 'accuracy', got none.")
    return scoring if isinstance(scoring, str) else names


def _import_sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise MissingExtra("SklearnObjective", "scikit-learn", "sklearn") from error
