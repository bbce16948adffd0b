import builtins
import logging
import statistics
import sys

import numpy as np
import pytest
from skopt.acquisition import gaussian_ei, gaussian_lcb, gaussian_pi
from threadpoolctl import threadpool_info

from hpo_spark import Choice, ConfigError, Float, Int, SearchSpace, SerialExecutor, Study
from hpo_spark.errors import MissingExtra
from hpo_spark.searchers import make_searcher
from hpo_spark.searchers.acquisition import Acquisition
from hpo_spark.searchers.features import Features
from hpo_spark.searchers.likelihood import _loss_and_slope, fit_theta
from hpo_spark.searchers.outlook import Outlook
from hpo_spark.searchers.surrogates import TREES, Process
from hpo_spark.searchers.threads import one_thread
from hpo_spark.trial import Trial, TrialState

SQUARE = SearchSpace(x=Float(0.0, 1.0), y=Float(0.0, 1.0))
MIXED = SearchSpace(
    rate=Float(1e-4, 1e-1, log=True),
    layers=Int(1, 5),
    units=Int(8, 1024, log=True),
    optimizer=Choice(["sgd", "adam", "rmsprop"]),
    momentum=Float(0.0, 0.99, when={"optimizer": ["sgd", "rmsprop"]}),
    wide=Choice([1, 2, 4], ordered=True, when={"units": [8, 1024], "layers": 3}),
)


def bowl(params):
    """Least, 0, at (0.3, 0.7)."""
    return 4 * (params["x"] - 0.3) ** 2 + (params["y"] - 0.7) ** 2


def make(space=SQUARE, seed=0, **options):
    return make_searcher({"name": "bayes", **options}, space, ("minimize",), seed)


def ended(proposal, number, value, seconds=None):
    state = TrialState.FAILED if value is None else TrialState.COMPLETED
    values = None if value is None else [value]
    return Trial(number, proposal.params, 0, token=proposal.token, state=state, values=values, seconds=seconds)


def best_of(searcher, seed, n=30):
    study = Study(SQUARE, bowl, searcher, "minimize", seed)
    with SerialExecutor() as executor:
        return study.run(executor, max_trials=n).best_trial.value


def some_trials(n=25, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, 2)), rng.normal(size=n)


def process(columns, losses):
    gene_of = np.arange(columns.shape[1])
    return Process(columns, losses, fit_theta(columns, losses, gene_of, None), gene_of)


def test_a_smooth_minimum_is_found_in_a_few_trials():
    found = statistics.median(best_of({"name": "bayes", "candidates": 200}, seed) for seed in range(3))
    by_chance = statistics.median(best_of("random", seed) for seed in range(3))
    assert found < 1e-4 < by_chance


@pytest.mark.parametrize("model", ["gp", "forest", "random_forest", "gbrt"])
@pytest.mark.parametrize("acquisition", ["gp_hedge", "EI", "LCB", "PI", "EIps"])
def test_every_model_goes_with_every_acquisition(model, acquisition):
    searcher = make(MIXED, model=model, acquisition=acquisition, start=6, candidates=40)
    chosen = []
    for number in range(10):
        (proposal,) = searcher.ask(1)
        assert MIXED.validate(proposal.params) == proposal.params
        chosen.append(proposal.origin["by"])
        searcher.tell(ended(proposal, number, float(proposal.params["layers"]), seconds=1.0 + number))
    assert chosen[:6] == ["start"] * 6
    assert set(chosen[6:]) <= ({"EI", "LCB", "PI"} if acquisition == "gp_hedge" else {acquisition})


def test_acquisitions_agree_with_those_of_scikit_optimize():
    columns, losses = some_trials()
    model = process(columns, losses)
    at = np.random.default_rng(1).random((200, 2))
    mean, std = model.predict(at)
    best = float(losses.min())
    theirs = {
        "EI": np.log(gaussian_ei(at, model.model, best, 0.01)),
        "PI": np.log(gaussian_pi(at, model.model, best, 0.01)),
        "LCB": -gaussian_lcb(at, model.model, 1.5),
    }
    for name, expected in theirs.items():
        assert Acquisition(name, best, 0.01, 1.5)(mean, std)[0] == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", ["EI", "PI", "LCB"])
def test_acquisitions_have_their_slopes_however_small_they_are(name):
    acquisition = Acquisition(name, 0.0, 0.01, 1.96)
    for mean in (-5.0, 0.0, 0.5, 1.2, 50.0, 3e3):
        value, by_mean, by_std = (float(one[0]) for one in acquisition(np.array([mean]), np.array([1.0])))
        step = 1e-5
        other = [
            acquisition(np.array([mean + i * step]), np.array([1.0 + j * step]))[0][0] for i, j in ((1, 0), (0, 1))
        ]
        assert np.isfinite(value)
        assert ((other[0] - value) / step, (other[1] - value) / step) == pytest.approx(
            (by_mean, by_std), rel=1e-3, abs=1e-4
        )


@pytest.mark.parametrize("kind", ["ET", "RF"])
def test_forests_agree_with_those_of_scikit_optimize(kind):
    columns, losses = some_trials(60)
    model = TREES["forest" if kind == "ET" else "random_forest"](columns, losses, 3)
    at = np.random.default_rng(1).random((50, 2)).astype(np.float32)
    for ours, theirs in zip(model.predict(at), model.model.predict(at, return_std=True), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-4)


def test_a_process_agrees_with_that_of_scikit_optimize():
    columns, losses = some_trials()
    model = process(columns, losses)
    at = np.random.default_rng(1).random((50, 2))
    for ours, theirs in zip(model.predict(at), model.model.predict(at, return_std=True), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
    slopes = model.slopes(at[:1])
    _, _, *expected = model.model.predict(at[:1], return_std=True, return_mean_grad=True, return_std_grad=True)
    for ours, theirs in zip(slopes, expected, strict=True):
        assert ours[0] == pytest.approx(theirs, rel=1e-5)


def test_the_likelihood_has_its_slope():
    rng = np.random.default_rng(0)
    columns, losses, gene_of = rng.random((12, 4)), rng.normal(size=12), np.array([0, 1, 1, 2])
    theta = rng.normal(size=5)
    _, slope = _loss_and_slope(theta, columns, losses, gene_of)
    for index in range(5):
        step = 1e-6 * np.eye(5)[index]
        above, below = (_loss_and_slope(theta + way * step, columns, losses, gene_of)[0] for way in (1, -1))
        assert (above - below) / 2e-6 == pytest.approx(slope[index], rel=1e-4, abs=1e-6)


def test_climbing_raises_the_acquisition():
    columns, losses = some_trials()
    outlook = Outlook(Features(SQUARE), process(columns, losses), process(columns, losses[::-1]), 0.5)
    acquisition = Acquisition("EI", float(losses.min()), 0.01, 1.96)
    starts = np.random.default_rng(2).random((5, 2))
    before, after = outlook.at(starts).values(acquisition), outlook.climb(acquisition, starts).values(acquisition)
    assert after.sum() > before.sum() + 1
    assert after.max() > before.max()


def test_pending_points_keep_their_distance():
    searcher = make(acquisition="EI", candidates=200)
    for number in range(20):
        (proposal,) = searcher.ask(1)
        searcher.tell(ended(proposal, number, bowl(proposal.params)))
    points = np.array([list(proposal.params.values()) for proposal in searcher.ask(4)])
    distances = [np.abs(one - other).max() for i, one in enumerate(points) for other in points[:i]]
    assert min(distances) > 1e-3


def test_improvement_a_second_prefers_what_is_quick_at_equal_gain():
    features, rng = Features(SQUARE), np.random.default_rng(0)
    columns = rng.random((30, 2))
    losses = process(columns, (columns[:, 1] - 0.5) ** 2)
    seconds = process(columns, np.where(columns[:, 0] < 0.5, -1.0, 1.0))
    forecast = Outlook(features, losses, seconds, 1.5).at(np.array([[0.2, 0.5], [0.8, 0.5]]))
    quick, slow = forecast.values(Acquisition("EIps", 0.1, 0.01, 1.96))
    assert quick - slow == pytest.approx(3.0, abs=0.5)


def test_improvement_a_second_tries_the_quick_half_first():
    """The loss is the same in both halves of x, which take 1 s and 20 s."""

    def n_quick(acquisition, seed):
        searcher, n = make(seed=seed, acquisition=acquisition, candidates=200), 0
        for number in range(20):
            (proposal,) = searcher.ask(1)
            is_quick = proposal.params["x"] < 0.5
            value = (abs(proposal.params["x"] - 0.5) - 0.25) ** 2 + (proposal.params["y"] - 0.5) ** 2
            searcher.tell(ended(proposal, number, value, seconds=1.0 if is_quick else 20.0))
            n += is_quick and number >= 10
        return n

    assert make(acquisition="EIps").depends_on_clock
    assert not make(acquisition="EI").depends_on_clock
    by_second, by_trial = (sum(n_quick(name, seed) for seed in range(3)) for name in ("EIps", "EI"))
    assert by_second >= by_trial + 4


def test_failed_trials_poison_nothing():
    searcher, values = make(candidates=200), []
    for number in range(40):
        (proposal,) = searcher.ask(1)
        value = None if proposal.params["x"] > 0.6 else bowl(proposal.params)
        values += [] if value is None else [value]
        searcher.tell(ended(proposal, number, value))
    assert min(values) < 1e-3
    assert len(values) > 25


def test_an_absurd_loss_hides_nothing():
    """Without the cut the median is 0.045."""
    bests = []
    for seed in range(3):
        searcher, values = make(seed=seed, candidates=200), []
        for number in range(35):
            (proposal,) = searcher.ask(1)
            values.append(1e12 if number in (2, 11) else bowl(proposal.params))
            searcher.tell(ended(proposal, number, values[-1]))
        bests.append(min(values))
    assert statistics.median(bests) < 0.005


@pytest.mark.parametrize("model", ["gp", "forest"])
@pytest.mark.parametrize("values", [(1e308, 1e-3), (0.1,), (1e-12, 2e-12), (-1e308, 1e308)])
def test_losses_of_any_size_are_modelled(model, values):
    searcher = make(MIXED, model=model, start=5, candidates=40)
    for number in range(12):
        (proposal,) = searcher.ask(1)
        searcher.tell(ended(proposal, number, values[number % len(values)]))
    assert proposal.origin["by"] in ("EI", "LCB", "PI")


def test_asks_without_a_tell_differ():
    searcher = make(MIXED, start=5, candidates=40)
    for number in range(8):
        (proposal,) = searcher.ask(1)
        searcher.tell(ended(proposal, number, float(proposal.params["layers"])))
    assert len({MIXED.key(proposal.params) for proposal in searcher.ask(12)}) == 12


def test_hyperparameters_travel_with_the_proposals():
    """So that a restored search fits none again before it is due."""
    searcher = make(acquisition="EI", start=5, candidates=40)
    trials = []
    for number in range(30):
        (proposal,) = searcher.ask(1)
        trials.append(ended(proposal, number, bowl(proposal.params)))
        searcher.tell(trials[-1])
    fitted_at = [trial.token["theta"]["loss"][1] for trial in trials[5:]]
    assert fitted_at == sorted(fitted_at)
    assert len(set(fitted_at)) < 20
    restored = make(acquisition="EI", start=5, candidates=40)
    restored.restore(trials)
    assert restored.ask(1) == searcher.ask(1)


def test_a_conditional_space_is_seen_flat_and_said_to_be_so_once(caplog):
    with caplog.at_level(logging.WARNING):
        searcher = make(MIXED, start=5, candidates=40)
        for number in range(10):
            (proposal,) = searcher.ask(1)
            searcher.tell(ended(proposal, number, float(proposal.params["layers"])))
    (record,) = caplog.records
    assert "momentum, wide" in record.getMessage()
    features = Features(MIXED)
    genes = features.draw(np.random.default_rng(0), 300)
    params = [MIXED.decode(row.tolist()) for row in genes]
    inactive = np.array([[name not in one for name in MIXED] for one in params])
    assert inactive[:, 4].any() and inactive[:, 5].any() and not inactive[:, 5].all()
    assert (genes[inactive] == 0.5).all()
    columns = features.columns(genes)
    assert columns.shape == (300, 8)
    assert (columns[:, 3:6].sum(axis=1) == 1).all()
    assert genes[:50, [1, 3]] == pytest.approx(np.array([features.encode(one)[[1, 3]] for one in params[:50]]))


def test_neighbours_differ_a_little():
    features = Features(MIXED)
    rng = np.random.default_rng(0)
    base = features.encode({"rate": 1e-2, "layers": 2, "units": 64, "optimizer": "adam"})
    neighbours = features.vary(rng, base[None], 200)
    assert (neighbours >= 0).all() and (neighbours <= 1).all()
    changed = (neighbours[:, :4] != base[:4]).sum(axis=1)
    assert changed.mean() < 2
    assert (neighbours == features.settle(neighbours)).all()


def test_linear_algebra_has_one_thread_until_the_last_has_done():
    def n_threads():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = n_threads()
    with one_thread():
        with one_thread():
            assert set(n_threads()) == {1}
        assert set(n_threads()) == {1}
    assert n_threads() == before


def test_the_library_is_asked_for_by_name(monkeypatch):
    for module in ("hpo_spark.searchers.surrogates", *[name for name in sys.modules if name.startswith("skopt")]):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.delattr("hpo_spark.searchers.surrogates", raising=False)
    real = builtins.__import__

    def without_skopt(name, *args, **kwargs):
        if name.partition(".")[0] == "skopt":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_skopt)
    with pytest.raises(MissingExtra) as raised:
        make()
    assert 'needs scikit-optimize. Install it with: pip install "hpo_spark[bayes]"' in str(raised.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "GP"}, "model must be one of ['gp', 'forest', 'random_forest', 'gbrt'], got model='GP'"),
        ({"acquisition": "ei"}, "acquisition='ei'"),
        ({"kappa": -1}, "kappa must be 0 or more, got kappa=-1"),
        ({"xi": float("nan")}, "xi=nan"),
        ({"start": 0}, "start=0"),
        ({"candidates": 9}, "candidates=9"),
    ],
)
def test_bad_options_are_refused_with_a_sentence(options, words):
    with pytest.raises(ConfigError) as raised:
        make(**options)
    assert words in str(raised.value)
