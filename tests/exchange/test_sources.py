"""A warm start from every source, results in every form, and the command line of both."""

import pickle
import warnings

import optuna
import pandas as pd
import pytest
import skopt
from exchanged import SMALL, exact, some_trials, sphere

from hpo_spark import ConfigError, Float, Int, SearchSpace, SerialExecutor, Study, TrialState, cli, yaml
from hpo_spark.exchange.csv import from_csv
from hpo_spark.exchange.frame import write_csv
from hpo_spark.exchange.optuna import from_optuna, to_optuna
from hpo_spark.exchange.source import locate, read_trials_from
from hpo_spark.journal import read_trials
from hpo_spark.results.result import Result

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import hyperopt
    import numpy as np
    from hyperopt import hp


def search(out=None, max_trials=12, **options):
    study = Study(SMALL, sphere, "evolution", "minimize", 0, out, **options)
    with SerialExecutor() as executor:
        return study, study.run(executor, max_trials)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("earlier") / "run"
    _, result = search(folder, 20)
    return folder, result


def by_hyperopt():
    trials = hyperopt.Trials()
    space = {
        "x": hp.uniform("x", -5, 5),
        "n": hp.quniform("n", 1, 3, 1),
        "kind": hp.choice("kind", ["bad", "good"]),
    }
    hyperopt.fmin(
        sphere,
        space,
        hyperopt.rand.suggest,
        20,
        trials=trials,
        rstate=np.random.default_rng(0),
        show_progressbar=False,
        verbose=False,
    )
    return trials


SOURCES = ("folder", "journal", "csv", "plain csv", "optuna url", "optuna study", "hyperopt", "hyperopt file", "list")


def source_of(kind, earlier, tmp_path):
    folder, result = earlier
    if kind == "plain csv":
        frame = pd.DataFrame([{**trial.params, "value": trial.value} for trial in result.trials])
        frame.to_csv(tmp_path / "plain.csv", index=False)
    if kind == "hyperopt file":
        (tmp_path / "trials.pkl").write_bytes(pickle.dumps(by_hyperopt()))
    if kind == "optuna url":
        result.to_optuna("old", f"sqlite:///{tmp_path}/old.db")
    return {
        "folder": lambda: folder,
        "journal": lambda: str(folder / "journal.jsonl"),
        "csv": lambda: folder / "trials.csv",
        "plain csv": lambda: str(tmp_path / "plain.csv"),
        "optuna url": lambda: f"sqlite:///{tmp_path}/old.db#old",
        "optuna study": lambda: result.to_optuna(),
        "hyperopt": by_hyperopt,
        "hyperopt file": lambda: f"hyperopt:{tmp_path}/trials.pkl",
        "list": lambda: result.trials,
    }[kind]()


@pytest.mark.parametrize("kind", SOURCES)
def test_a_warm_start_from_anywhere_tries_the_best_first_and_no_other_again(kind, earlier, tmp_path):
    source = source_of(kind, earlier, tmp_path)
    known = read_trials_from(source, SMALL, ["minimize"])
    assert len(known) == 20
    best = min((trial for trial in known if trial.values), key=lambda trial: trial.value)
    study, result = search(tmp_path / "later", warm_start=source)
    assert result.trials[0].params == best.params
    assert result.trials[0].value == best.value
    keys = {SMALL.key(SMALL.validate(trial.params)) for trial in known}
    assert not any(SMALL.key(trial.params) in keys for trial in result.trials[1:])
    assert len(study.searcher.history) == 20 + 12 - 1
    recorded = yaml.load((tmp_path / "later" / "study.yaml").read_text())["warm_start"]
    assert recorded == (str(source) if isinstance(source, str) or kind in ("folder", "csv") else None)
    if "hyperopt" not in kind:
        assert [trial.params for trial in known] == [trial.params for trial in earlier[1].trials]


def test_several_objectives_come_from_optuna_and_csv(tmp_path):
    trials = some_trials(10, SMALL, n_values=2)
    ways = ["minimize", "maximize"]
    study = to_optuna(trials, SMALL, ways, "two")
    write_csv(trials, tmp_path / "two.csv")
    for source in (study, tmp_path / "two.csv"):
        assert exact(read_trials_from(source, SMALL, ways)) == exact(trials)
    with pytest.raises(ConfigError, match=r"is of a search with direction=\['minimize', 'maximize'\], this one has"):
        Study(SMALL, sphere, direction="minimize", warm_start=study)


def test_what_other_libraries_give_to_inactive_parameters_is_left_out(tmp_path):
    space = SearchSpace(n=Int(1, 3), extra=Float(0.0, 1.0, when={"n": 2}))
    study = optuna_study({"n": 1, "extra": 0.5}, {"n": 2, "extra": 0.25})
    (tmp_path / "t.csv").write_text("n,extra,value\n1,anything,1.0\n2.0,0.25,2.0\n")
    for source in (study, tmp_path / "t.csv"):
        params = [trial.params for trial in read_trials_from(source, space, ["minimize"])]
        assert params == [{"n": 1}, {"n": 2, "extra": 0.25}]


def optuna_study(*params):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    for number, one in enumerate(params):
        ranges = {
            "n": optuna.distributions.IntDistribution(1, 3),
            "extra": optuna.distributions.FloatDistribution(0, 1),
        }
        study.add_trial(optuna.trial.create_trial(value=number, params=one, distributions={k: ranges[k] for k in one}))
    return study


def test_sources_that_are_none_are_refused_in_a_sentence(tmp_path):
    for source, words in [
        (tmp_path / "none", r"warm_start: expected a run folder .* got '.*none'"),
        (tmp_path / "none.csv", "warm_start: .*none.csv cannot be read"),
        (f"hyperopt:{tmp_path}/none.pkl", "warm_start: .*none.pkl cannot be read"),
        (f"sqlite:///{tmp_path}/none.db#x", "warm_start: .*no file"),
        (17, "warm_start: expected a run folder, .* got 17"),
        ("postgresql+nothing://ann:hunter2@db/x#y", r"warm_start: postgresql\+nothing://ann:\*\*\*@db/x"),
    ]:
        with pytest.raises(ConfigError, match=words) as caught:
            Study(SMALL, sphere, warm_start=source)
        assert "hunter2" not in str(caught.value)


def test_a_cell_of_any_depth_is_only_text(tmp_path):
    (tmp_path / "deep.csv").write_text(f"x,n,kind,value,more\n0.5,1,good,1.0,{'[' * 100_000}\n")
    assert len(from_csv(tmp_path / "deep.csv", SMALL, ["minimize"])) == 1
    (tmp_path / "deep.csv").write_text(f"x,n,kind,value\n{'[' * 100_000},1,good,1.0\n")
    with pytest.raises(ConfigError, match="row 2, column 'x': expected a number"):
        from_csv(tmp_path / "deep.csv", SMALL, ["minimize"])


def test_no_password_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr("hpo_spark.known.read_trials_from", lambda *args: some_trials(5, SMALL))
    search(tmp_path / "run", 2, warm_start="postgresql://ann:hunter2@db/x#y")
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes()
    assert "postgresql://ann:***@db/x#y" in (tmp_path / "run" / "study.yaml").read_text()


def test_files_are_looked_up_and_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "old.db").touch()
    folders = [tmp_path / "conf", tmp_path]
    assert locate("old.db", folders) == f"{tmp_path}/conf/old.db"
    assert locate("runs/x", folders) == f"{tmp_path}/runs/x"
    assert locate("sqlite:///old.db#a", folders) == f"sqlite:///{tmp_path}/conf/old.db#a"
    assert locate("sqlite:////old.db#a", folders) == "sqlite:////old.db#a"
    assert locate("hyperopt:t.pkl", folders) == f"hyperopt:{tmp_path}/t.pkl"
    for url in ("s3://bucket/t.csv", "postgresql://host/db#a"):
        assert locate(url, folders) == url


def test_a_result_in_every_form(earlier):
    _, result = earlier
    assert result.to_frame()["value"].tolist() == [trial.value for trial in result.trials]
    study = result.to_optuna()
    assert (study.study_name, study.best_params) == ("run", result.best_trial.params)
    assert result.to_skopt().x == list(result.best_trial.params.values())
    with pytest.raises(ConfigError, match="does not know its search space"):
        Result("x", ("minimize",), result.trials, "finished", 1.0, 1, "done").to_skopt()


@pytest.mark.parametrize("form", ["csv", "parquet", "optuna", "skopt"])
def test_the_command_exports_from_the_journal_alone(form, earlier, tmp_path, capsys):
    folder, result = earlier
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "journal.jsonl").write_bytes((folder / "journal.jsonl").read_bytes())
    out = f"sqlite:///{tmp_path}/x.db" if form == "optuna" else str(tmp_path / "out")
    assert cli.main(["export", str(tmp_path / "only"), "--to", form, "--out", out]) == 0
    assert "20 trial(s) of" in capsys.readouterr().out
    if form == "csv":
        assert (tmp_path / "out").read_bytes() == (folder / "trials.csv").read_bytes()
        assert exact(from_csv(out, SMALL, ["minimize"])) == exact(result.trials)
    elif form == "parquet":
        assert pd.read_parquet(out)["param:x"].tolist() == [trial.params["x"] for trial in result.trials]
    elif form == "optuna":
        assert exact(from_optuna(f"{out}#run", SMALL)) == exact(read_trials(folder / "journal.jsonl"))
        assert cli.main(["export", str(folder), "--to", form, "--out", out]) == 2
        assert "has a study 'run' already" in capsys.readouterr().err
        assert cli.main(["export", str(folder), "--to", form, "--out", out, "--name", "again"]) == 0
    else:
        assert skopt.load(out).fun == result.best_trial.value


def test_the_command_refuses_what_makes_no_sense(earlier, tmp_path, capsys):
    folder, _ = earlier
    assert cli.main(["export", str(tmp_path), "--to", "csv", "--out", str(tmp_path / "x")]) == 2
    assert "is no run folder of a search" in capsys.readouterr().err
    assert cli.main(["export", str(folder), "--to", "csv", "--out", str(tmp_path / "x"), "--name", "y"]) == 2
    assert "belongs to --to optuna" in capsys.readouterr().err


def test_a_study_file_and_the_command_line_take_every_source(earlier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, result = earlier
    result.to_optuna("old", "sqlite:///old.db")
    (tmp_path / "work.py").write_text("def sphere(params):\n    return (params['x'] - 1.0) ** 2 + params['n']\n")
    (tmp_path / "study.yaml").write_text(
        "study: {direction: minimize, seed: 0, max_trials: 2}\n"
        "space: {x: {float: [-5.0, 5.0]}, n: {int: [1, 3]}, kind: {choice: [bad, good]}}\n"
        "objective: {function: work.py:sphere}\nexecutor: serial\nwarm_start: 'sqlite:///old.db#old'\n"
    )
    assert cli.main(["run", "study.yaml", "--out", "first", "--quiet"]) == 0
    assert read_trials(tmp_path / "first" / "journal.jsonl")[0].params == result.best_trial.params
    recorded = yaml.load((tmp_path / "first" / "study.yaml").read_text())["warm_start"]
    assert recorded == f"sqlite:///{tmp_path}/old.db#old"
    (tmp_path / "more.csv").write_text("x,n,kind,value\n1.5,1,good,1.25\n2.5,1,bad,3.25\n")
    assert cli.main(["run", "study.yaml", "--out", "second", "--quiet", "--warm-start", "more.csv"]) == 0
    first = read_trials(tmp_path / "second" / "journal.jsonl")[0]
    assert first.params == {"x": 1.5, "n": 1, "kind": "good"}
    assert first.state is TrialState.COMPLETED
