"""Trials as studies of Optuna, and its studies as trials."""

import math
import sqlite3
import sys
import warnings

import optuna
import pytest
from exchanged import SMALL, SPACE, a_trial, any_params, any_value, exact, some_trials
from hypothesis import given, settings

import hpo_spark.exchange.optuna as exchange
from hpo_spark import Choice, ConfigError, Float, Int, SearchSpace, SpaceError, Trial, TrialState
from hpo_spark.errors import MissingExtra
from hpo_spark.exchange.optuna import from_optuna, to_optuna


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture(autouse=True)
def _optunas_log_is_an_error(caplog):
    yield
    assert not [record for record in caplog.records if record.name.startswith("optuna")]


@pytest.mark.parametrize("where", ["memory", "sqlite", "journal"])
def test_what_goes_to_optuna_comes_back(where, url, tmp_path):
    storage = {"memory": None, "sqlite": url, "journal": tmp_path / "optuna.log"}[where]
    if where == "journal":
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(storage)))
    trials = some_trials(40)
    study = to_optuna(trials, SPACE, ["maximize"], "all", storage)
    assert exact(from_optuna(study, SPACE)) == exact(trials)
    assert repr([trial.curve for trial in from_optuna(study, SPACE)]) == repr([trial.curve for trial in trials])
    if where == "sqlite":
        assert exact(from_optuna(f"{url}#all", SPACE)) == exact(trials)


@settings(max_examples=30, deadline=None)
@given(params=any_params, value=any_value)
def test_any_params_and_value_come_back(params, value):
    trials = [a_trial(0, params, values=[value])]
    assert exact(from_optuna(to_optuna(trials, SPACE, ["minimize"], "law"), SPACE)) == exact(trials)


def test_a_study_is_what_optuna_itself_would_have(url):
    trials = some_trials(10)
    study = to_optuna(trials, SPACE, ["minimize"], "all", url)
    best = min((trial for trial in trials if trial.values), key=lambda trial: trial.value)
    assert study.best_value == best.value
    assert study.best_trial.user_attrs["number"] == best.number
    assert study.best_trial.user_attrs["metric:nan"] == "NaN"  # JSON that a browser reads
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "FAIL"}
    first = study.trials[0]
    assert first.datetime_start.timestamp() == pytest.approx(trials[0].started, abs=1e-6)
    assert first.duration.total_seconds() == pytest.approx(2 / 3, abs=1e-6)
    assert repr(first.intermediate_values) == "{1: 0.5, 2: nan, 4: inf}"
    distributions = {name: one for trial in study.trials for name, one in trial.distributions.items()}
    assert distributions["rate"] == optuna.distributions.FloatDistribution(1e-4, 1.0, log=True)
    assert distributions["share"] == optuna.distributions.FloatDistribution(0.0, 1.0, step=0.1)
    assert distributions["width"] == optuna.distributions.IntDistribution(1, 64, log=True)
    assert distributions["layers"] == optuna.distributions.IntDistribution(1, 7, step=3)
    assert distributions["size"] == optuna.distributions.CategoricalDistribution((1, 2, 3))
    assert distributions["odd"].choices == tuple(SPACE["odd"].values)
    assert distributions["mixed"].choices == ("[1, 2]", '{"a": 1}', "1", "true", "1.0", '"1"', '"[1, 2]"')


def test_one_transaction_writes_what_optuna_writes_one_by_one(url, monkeypatch):
    trials = some_trials(12, n_values=2)
    to_optuna(trials, SPACE, ["maximize", "minimize"], "fast", url)
    slow_url = url.replace("studies", "slow")
    monkeypatch.setattr(exchange, "_insert", lambda *args: 1 / 0)
    to_optuna(trials, SPACE, ["maximize", "minimize"], "fast", slow_url)
    rows = []
    for path in (url, slow_url):
        connection = sqlite3.connect(path.removeprefix("sqlite:///"))
        rows.append(
            {
                table: sorted(
                    [row[1:] for row in connection.execute(f"select * from {table}")],
                    key=lambda row: list(map(str, row)),
                )
                for table in (
                    "studies",
                    "study_directions",
                    "trials",
                    "trial_values",
                    "trial_params",
                    "trial_user_attributes",
                    "trial_system_attributes",
                    "trial_intermediate_values",
                )
            }
        )
        connection.close()
    assert rows[0] == rows[1]


@pytest.mark.timeout(60)
def test_ten_thousand_trials_take_seconds(url):
    to_optuna(some_trials(10_000, SMALL), SMALL, ["maximize"], "many", url)
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    assert connection.execute("select count(*) from trials").fetchone() == (10_000,)
    connection.close()


def test_a_study_that_exists_is_not_changed(url):
    to_optuna(some_trials(5), SPACE, ["maximize"], "all", url)
    with pytest.raises(ConfigError, match=r"studies.db has a study 'all' already"):
        to_optuna(some_trials(9), SPACE, ["maximize"], "all", url)
    assert len(from_optuna(f"{url}#all")) == 5
    to_optuna(some_trials(9), SPACE, ["maximize"], "other", url)
    assert len(from_optuna(f"{url}#all")) == 5


def test_a_failed_export_leaves_no_study(url, monkeypatch):
    monkeypatch.setattr(exchange, "_add", lambda *args: 1 / 0)
    with pytest.raises(ConfigError, match="cannot be used as a storage of Optuna: division by zero"):
        to_optuna(some_trials(5), SPACE, ["maximize"], "all", url)
    assert optuna.get_all_study_names(url) == []


def test_params_outside_the_space_and_running_trials(url):
    with pytest.raises(SpaceError, match="between"):
        to_optuna([a_trial(0, {"x": 99.0, "n": 1, "kind": "good"})], SMALL, ["maximize"], "all", url)
    running = Trial(0, {"x": 1.0, "n": 1, "kind": "good"}, 0)
    assert to_optuna([running], SMALL, ["maximize"], "all").trials == []


def test_steps_that_optuna_would_count_otherwise_are_left_out():
    space = SearchSpace(
        third=Float(0.0, 1.0, step=1 / 3),
        fine=Float(0.0, 1.0, step=1e-9),
        rest=Float(0.0, 1.0, step=0.3),
        prior=Float(0.0, 2.0, step=0.5, prior="normal", mean=1.0, sd=1.0),
        log=Float(1.0, 9.0, log=True, step=1.0),
        n=Int(1, 64, log=True, step=7),
        m=Int(0, 10, step=4),
        one=Choice(["only"]),
    )
    trials = [Trial(n, space.sample(n), 0, state=TrialState.FAILED) for n in range(40)]
    trials += [
        Trial(n, space.decode([gene] * len(space)), 0, state=TrialState.FAILED) for n, gene in ((40, 0.0), (41, 1.0))
    ]
    study = to_optuna(trials, space, ["maximize"], "steps")
    assert [trial.params for trial in from_optuna(study, space)] == [trial.params for trial in trials]
    assert study.trials[0].distributions["rest"].step == 0.3
    assert study.trials[0].distributions["m"].high == 8


def test_optuna_goes_on_with_an_exported_study(url):
    study = to_optuna(some_trials(20, SMALL), SMALL, ["minimize"], "all", url)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study.optimize(
        lambda trial: (
            trial.suggest_float("x", -5.0, 5.0)
            + trial.suggest_int("n", 1, 3)
            + len(trial.suggest_categorical("kind", ["bad", "good"]))
        ),
        n_trials=3,
    )
    trials = from_optuna(f"{url}#all", SMALL)
    assert [trial.number for trial in trials] == list(range(23))
    assert trials[22].state is TrialState.COMPLETED
    assert trials[22].seed == 0


def test_a_study_of_optunas_own():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trial(
        optuna.trial.create_trial(
            values=[1.0, math.inf],
            params={"x": 1.0},
            distributions={"x": optuna.distributions.FloatDistribution(0, 2)},
            user_attrs={"number": 77, "state": "excellent"},
        )
    )
    study.add_trial(
        optuna.trial.create_trial(
            values=[1.0, 2.0],
            params={"x": 1.5},
            distributions={"x": optuna.distributions.FloatDistribution(0, 2)},
            user_attrs={"number": 77, "state": "excellent"},
        )
    )
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.PRUNED, intermediate_values={1: 0.5}))
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
    study.enqueue_trial({"x": 0.5})
    study.ask()
    trials = from_optuna(study)
    assert [(trial.number, str(trial.state), trial.values) for trial in trials] == [
        (0, "FAILED", None),
        (1, "COMPLETED", [1.0, 2.0]),
        (2, "PRUNED", None),
        (3, "FAILED", None),
    ]
    assert trials[2].reason == "Pruned: Optuna ended it early."
    assert trials[2].curve == [[1, 0.5]]
    assert exchange.directions_of(study) == ["maximize", "minimize"]


def test_storages_that_cannot_be_used_are_said_in_a_sentence(url, tmp_path):
    with pytest.raises(ConfigError, match=r"no file '.*studies.db'"):
        from_optuna(f"{url}#all")
    assert not (tmp_path / "studies.db").exists()
    to_optuna([], SPACE, ["maximize"], "all", url)
    with pytest.raises(ConfigError, match=r"has no study 'other'; it has \['all'\]"):
        from_optuna(f"{url}#other")
    with pytest.raises(ConfigError, match=r"needs the name of its study behind a #; it has \['all'\]"):
        from_optuna(url)
    (tmp_path / "text.db").write_text("no database " * 100)
    with pytest.raises(ConfigError, match="text.db cannot be used as a storage of Optuna: .*not a database"):
        from_optuna(f"sqlite:///{tmp_path}/text.db#all")
    with pytest.raises(ConfigError, match="cannot be used as a storage of Optuna"):
        to_optuna([], SPACE, ["maximize"], "all", f"sqlite:///{tmp_path}/none/studies.db")
    with pytest.raises(ConfigError, match=r"postgresql\+nothing://ann:\*\*\*@host/db") as caught:
        to_optuna([], SPACE, ["maximize"], "all", "postgresql+nothing://ann:hunter2@host/db")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("n_values", [1, 2])
def test_optunas_plots_are_drawn_from_an_export(n_values):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    study = to_optuna(some_trials(25, n_values=n_values), SPACE, ["maximize"] * n_values, "all")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all of Optuna's matplotlib plots are experimental
        if n_values == 1:
            plots.plot_optimization_history(study)
            plots.plot_parallel_coordinate(study, params=["rate", "odd", "mixed"])
            plots.plot_intermediate_values(study)
            plots.plot_slice(study, params=["rate", "momentum", "size"])
        else:
            plots.plot_pareto_front(study)
    pyplot.close("all")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r'optuna.*"hpo_spark\[optuna\]"'):
        to_optuna([], SPACE, ["maximize"], "all")
