"""Bayesian optimisation on scikit-optimize: a model of the loss says where trying is most promising.

    start     a Latin hypercube
    each ask  fit a model to what is known, in which what is pending has a made-up loss (a lie);
              forecast random configurations, neighbours of the best, and neighbours of the most promising;
              propose the new one with the largest acquisition

Each ask fits one model, however much is pending. scikit-optimize's own `Optimizer` gives the same point until it is
told, or fits a model for each lie; its models, its acquisitions and its portfolio are here, its asking is not.

References:
    Jones, Schonlau and Welch (1998), "Efficient global optimization of expensive black-box functions", Journal of
    Global Optimization 13, 455-492.
    Ginsbourger, Le Riche and Carraro (2010), "Kriging is well-suited to parallelize optimization", in Computational
    Intelligence in Expensive Optimization Problems, Springer: the lie.
    Hoffman, Brochu and de Freitas (2011), "Portfolio allocation for Bayesian optimization", UAI: ``gp_hedge``.
    Hutter, Hoos and Leyton-Brown (2011), "Sequential model-based optimization for general algorithm configuration",
    LION 5: forests, and neighbours of the best as candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import qmc

from hpo_spark.errors import MissingExtra
from hpo_spark.searchers.acquisition import Acquisition
from hpo_spark.searchers.base import Direction, Proposal, SequentialSearcher
from hpo_spark.searchers.features import Features
from hpo_spark.searchers.flat import say_flat
from hpo_spark.searchers.genome import Genes
from hpo_spark.searchers.history import Known
from hpo_spark.searchers.likelihood import fit_theta
from hpo_spark.searchers.options import check_choice, check_not_negative, check_whole
from hpo_spark.searchers.outlook import Forecast, Outlook, joined
from hpo_spark.searchers.threads import one_thread
from hpo_spark.seeds import derive_seed
from hpo_spark.space import Params, SearchSpace
from hpo_spark.trial import Trial

__all__ = ["BayesSearcher"]

Numbers = npt.NDArray[np.float64]

# Tells the generators of the start and of the models from those of asks.
_STREAM = 0xBA7E
_HEDGED = ("EI", "LCB", "PI")
_ACQUISITIONS = ("gp_hedge", *_HEDGED, "EIps")
# A model learns from so many trials: a third the best, the others spread over the search.
_MAX_TRIALS, _MAX_BEST = 300, 100
# The kernel's hyperparameters are fitted to so many of them, and again whenever there are a tenth more trials.
_MAX_FITTED, _REFIT_AT = 150, 1.1
# The share of the candidates that are neighbours of the best trials, and as many again of the most promising
# candidates; of how many of each.
_NEIGHBOUR_SHARE, _N_BASES = 0.25, 5
# A loss further above the median than this many times the median's distance from the best says no more than "bad".
_OUTLYING = 5.0
# A float can hold the square of this loss.
_MAX_LOSS = 1e100
# Standard deviations of the losses; no model promises such an improvement, nor can a float square many more.
_MAX_XI = 100.0
# To which genes are rounded: sums differ in the last digits from one processor, and one copy in memory, to another.
_DIGITS = 8
# Asks that the portfolio looks back at.
_MAX_LOOK_BACK = 50


class BayesSearcher(SequentialSearcher):
    """Models the loss and proposes where the model promises most.

    Args:
        space, directions, seed: As for every searcher; a conditional space is seen flat.
        model: ``"gp"``, a Gaussian process; ``"forest"``, extremely randomised trees, or ``"random_forest"``;
            ``"gbrt"``, gradient-boosted trees.
        acquisition: ``"EI"``, expected improvement; ``"PI"``, its probability; ``"LCB"``, the lower confidence bound;
            ``"gp_hedge"``, one of these three at each ask, by what they have found; ``"EIps"``, expected improvement
            a second, by the seconds that trials took.
        kappa: Standard deviations from the mean to the confidence bound, 0 or more; more explores more.
        xi: The least improvement that counts, in units of the objective, 0 or more; more explores more, and
            less suits an objective whose values differ by less than a tenth.
        start: Points of the Latin hypercube, with those that are known already; 1 or more.
        candidates: Configurations of which the acquisition is computed at each ask; 10 or more.

    Raises:
        MissingExtra: If scikit-optimize is not installed.
    """

    name = "bayes"
    is_slow = True

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[Direction] = ("maximize",),
        seed: int = 0,
        *,
        model: str = "gp",
        acquisition: str = "gp_hedge",
        kappa: float = 1.96,
        xi: float = 0.01,
        start: int = 10,
        candidates: int = 1000,
    ) -> None:
        super().__init__(space, directions, seed)
        try:
            from hpo_spark.searchers import surrogates
        except ImportError as error:
            raise MissingExtra("The searcher 'bayes'", "scikit-optimize", "bayes") from error
        check_choice(("gp", *surrogates.TREES), model=model)
        check_choice(_ACQUISITIONS, acquisition=acquisition)
        check_not_negative(kappa=kappa, xi=xi)
        check_whole(start=(start, 1), candidates=(candidates, 10))
        self._process, self._trees = surrogates.Process, surrogates.TREES.get(model)
        self._acquisition, self._kappa, self._xi = acquisition, kappa, xi
        self._n_neighbours = int(_NEIGHBOUR_SHARE * candidates)
        self._n_drawn = candidates - 2 * self._n_neighbours
        self._features = Features(space)
        self._genes: dict[str, Genes] = {}
        self._start = qmc.LatinHypercube(len(space), rng=np.random.default_rng([seed, _STREAM])).random(start)
        # By what is modelled, the process's hyperparameters, and how many trials had ended when they were fitted.
        self._thetas: dict[str, tuple[list[float], int]] = {}

    @property
    def depends_on_clock(self) -> bool:
        """Whether what it proposes depends on how long trials took."""
        return self._acquisition == "EIps"

    def _propose(self, rng: np.random.Generator) -> Proposal | None:
        if self._n_asked == 0:
            say_flat(self.name, self.space)
        n_known = self.history.n_seen
        if n_known < len(self._start):
            params = self.space.decode(self._start[n_known].tolist())
            if params not in self.history:
                return Proposal(params, token=self._token(), origin={"by": "start"})
        ranked = self.history.ranked
        if len(ranked) > 1 and ranked[1].loss is not None and len(ranked) >= len(self._start) / 2:
            with one_thread():
                promising = self._most_promising(rng)
            if promising is not None:
                return promising
        drawn = self.history.draw_unseen(rng)
        return None if drawn is None else Proposal(drawn, token=self._token(), origin={"by": "draw"})

    def _token(self, hedge: list[list[float]] | None = None) -> dict[str, Any]:
        """What must be known again: hyperparameters that are still good, and between which points a portfolio chose."""
        thetas = {what: list(fitted) for what, fitted in self._thetas.items()}
        return {**({"theta": thetas} if thetas else {}), **({"hedge": hedge} if hedge else {})}

    def _resume(self, trial: Trial) -> None:
        self._thetas = {what: (theta, n) for what, (theta, n) in trial.token.get("theta", {}).items()}

    def _most_promising(self, rng: np.random.Generator) -> Proposal | None:
        """The new configuration with the largest acquisition; None where no candidate is new."""
        trials = self._training()
        genes = np.array([self._genes_of(known.key, known.trial.params) for known in trials])
        losses, scale = _standardised(self._losses(trials))
        outlook = self._outlook(trials, genes, losses)
        names = _HEDGED if self._acquisition == "gp_hedge" else (self._acquisition,)
        xi = min(self._xi / scale, _MAX_XI)
        acquisitions = [Acquisition(name, float(losses.min()), xi, self._kappa) for name in names]

        best = genes[np.argsort(losses, kind="stable")[:_N_BASES]]
        vary = self._features.vary
        candidates = np.concatenate([self._features.draw(rng, self._n_drawn), vary(rng, best, self._n_neighbours)])
        forecast = outlook.at(candidates)
        promising = np.concatenate([forecast.best(acquisition, _N_BASES) for acquisition in acquisitions])
        forecast = joined(forecast, outlook.at(vary(rng, promising, self._n_neighbours)))
        found = [self._best_new(outlook, acquisition, forecast) for acquisition in acquisitions]
        options = [(name, *one) for name, one in zip(names, found, strict=True) if one is not None]
        if not options:
            return None
        # Where hardly anything is new, some may have found nothing, and there is no portfolio to choose from.
        is_portfolio = len(options) == len(_HEDGED)
        name, _, params = options[self._choice(outlook, rng) if is_portfolio else 0]
        token = self._token(hedge=[genes for _, genes, _ in options] if is_portfolio else None)
        return Proposal(params, token=token, origin={"by": name})

    def _best_new(
        self, outlook: Outlook, acquisition: Acquisition, forecast: Forecast
    ) -> tuple[list[float], Params] | None:
        if self._trees is None and len(self._features.smooth):
            forecast = joined(outlook.climb(acquisition, forecast.best(acquisition, _N_BASES)), forecast)
        for row in np.argsort(-forecast.values(acquisition), kind="stable"):
            genes = forecast.genes[row].round(_DIGITS).tolist()
            params = self.space.decode(genes)
            if params not in self.history:
                return genes, params
        return None

    def _choice(self, outlook: Outlook, rng: np.random.Generator) -> int:
        """Which of the hedged acquisitions is followed: each by the losses that are now expected where it pointed."""
        tokens = [known.trial.token for known in self.history.ranked if isinstance(known.trial.token, dict)]
        shape = (len(_HEDGED), len(self.space))
        pointed = [token for token in tokens if np.shape(token.get("hedge", ())) == shape]
        pointed = sorted(pointed, key=lambda token: token.get("ask") or 0)[-_MAX_LOOK_BACK:]
        gains = np.zeros(len(_HEDGED))
        if pointed:
            genes = np.array([token["hedge"] for token in pointed]).reshape(-1, len(self.space))
            gains = -outlook.at(self._features.settle(genes)).mean.reshape(-1, len(_HEDGED)).sum(axis=0)
        odds = np.exp(gains - gains.max())
        return int(rng.choice(len(_HEDGED), p=odds / odds.sum()))

    def _outlook(self, trials: Sequence[Known], genes: Genes, losses: Numbers) -> Outlook:
        pending = [self._genes_of(self.space.key(params), params) for params in self.history.pending]
        columns = self._features.columns(genes)
        lies = self._features.columns(np.array(pending).reshape(-1, len(self.space)))
        model = self._fitted("loss", columns, losses, lies)
        seconds = np.array([known.trial.seconds or np.nan for known in trials])
        timed = np.flatnonzero(seconds > 0)
        if not self.depends_on_clock or len(timed) < 2:
            return Outlook(self._features, model)
        standard, scale = _standardised(np.log(seconds[timed]))
        return Outlook(self._features, model, self._fitted("seconds", columns[timed], standard, lies[:0]), scale)

    def _fitted(self, what: str, columns: Numbers, losses: Numbers, lies: Numbers) -> Any:
        """A model of what is known, and of lies at what is pending."""
        rows = np.concatenate([columns, lies])
        # The lie is the least loss: with 8 pending a process finds far better by it than by the mean or the worst.
        values = np.concatenate([losses, np.full(len(lies), losses.min())])
        if self._trees is not None:
            return self._trees(rows, values, derive_seed(self.seed, _STREAM, self._n_asked, int(what == "seconds")))
        gene_of = self._features.gene_of
        n_genes = len(self.space)
        theta, n_then = self._thetas.get(what, ([], 0))
        n_now = len(self.history)
        if len(theta) != n_genes + 2 or n_now >= _REFIT_AT * n_then:
            some = _spread(len(columns), _MAX_FITTED)
            former = np.array(theta) if len(theta) == n_genes + 2 else None
            theta = fit_theta(columns[some], losses[some], gene_of, former).round(_DIGITS).tolist()
            self._thetas = {**self._thetas, what: (theta, n_now)}
        return self._process(rows, values, np.array(theta), gene_of)

    def _training(self) -> Sequence[Known]:
        ranked = self.history.ranked
        if len(ranked) <= _MAX_TRIALS:
            return ranked
        others = sorted(ranked[_MAX_BEST:], key=lambda known: (known.trial.number, known.key))
        return [*ranked[:_MAX_BEST], *(others[row] for row in _spread(len(others), _MAX_TRIALS - _MAX_BEST))]

    def _losses(self, trials: Sequence[Known]) -> Numbers:
        """Their losses, the worst so far where there is none, with outliers cut."""
        worst = self.history.worst_loss
        losses: Numbers = np.array([worst if known.loss is None else known.loss for known in trials])
        losses = np.clip(losses, -_MAX_LOSS, _MAX_LOSS)
        median = float(np.median(losses))
        if median > losses.min():
            losses = np.minimum(losses, median + _OUTLYING * (median - losses.min()))
        return losses

    def _genes_of(self, key: str, params: Params) -> Genes:
        if key not in self._genes:
            self._genes[key] = self._features.encode(params)
        return self._genes[key]


def _standardised(values: Numbers) -> tuple[Numbers, float]:
    """Values with mean 0 and variance 1, and what one of them is in the values' own units."""
    scale = float(values.std()) or 1.0
    return (values - values.mean()) / scale, scale


def _spread(n: int, most: int) -> npt.NDArray[np.int_]:
    """Indices below ``n``, evenly apart, ``most`` at most."""
    return np.linspace(0, n - 1, min(n, most)).round().astype(int)
