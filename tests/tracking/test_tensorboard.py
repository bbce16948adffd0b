"""What TensorBoard's own readers find of a search."""

import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from boards import hparams, scalars

from hpo_spark import Choice, ConfigError, Float, Int, SearchSpace, SerialExecutor, Study
from hpo_spark.cli import main
from hpo_spark.journal import read_trials

NASTY = "<b>\"n'ä\u2028/..;" + "x" * 300
SPACE = SearchSpace(
    lr=Float(1e-4, 1e-1, log=True),
    units=Int(4, 64),
    optimizer=Choice(["sgd", "adam"]),
    momentum=Float(0.0, 0.9, when={"optimizer": "sgd"}),
    bias=Choice([True, False]),
    mixed=Choice([None, 1, "one", [1, 2]]),
    **{NASTY: Choice(["../../x", "</script>", "ü" * 400])},
)


def objective(params, context):
    if params["units"] % 5 == 0:
        raise ValueError("fives are bad")
    for epoch in range(1, 4):
        context.report(epoch, params["lr"] * epoch)
    return {"value": params["lr"], "accuracy": 0.5, "name": "not a number"}


def search(out, n=12, resume=False, **options):
    study = Study(SPACE, objective, "random", "minimize", 3, out, tracking="tensorboard", resume=resume, **options)
    with SerialExecutor() as executor:
        return study.run(executor, max_trials=n)


def folders(out):
    return {int(path.name.split(",")[0].removeprefix("trial-")): path for path in out.glob("tensorboard/*/")}


def files(out):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.glob("tensorboard/trial*/*")}


def close_to(value):
    return pytest.approx(value, rel=1e-6)  # a scalar has 32 bits


def test_every_trial_has_its_scalars(tmp_path):
    result = search(tmp_path / "run")
    found = folders(tmp_path / "run")
    assert set(found) == {trial.number for trial in result.trials}
    assert 0 < result.counts["FAILED"] < 12
    for trial in result.trials:
        read = scalars(found[trial.number])
        assert read.pop("seconds") == [(3 if trial.values else 0, close_to(trial.seconds))]
        if trial.values:
            assert read.pop("value") == [(3, close_to(trial.value))]
            assert read.pop("accuracy") == [(3, 0.5)]
            assert read.pop("reported") == [(step, close_to(value)) for step, value in trial.curve]
        assert read == {}


def test_hparams_shows_parameters_beside_values(tmp_path):
    result = search(tmp_path / "run")
    experiment, groups = hparams(tmp_path / "run" / "tensorboard")
    infos = {info.name: info for info in experiment.hparam_infos}
    assert set(infos) == set(SPACE)
    assert (infos["lr"].domain_interval.min_value, infos["lr"].domain_interval.max_value) == (1e-4, 1e-1)
    assert list(infos["optimizer"].domain_discrete) == ["sgd", "adam"]
    assert list(infos["mixed"].domain_discrete) == ["null", "1", "one", "[1, 2]"]
    assert {info.name.tag for info in experiment.metric_infos} == {"value", "accuracy", "seconds", "reported"}
    assert set(groups) == {f"trial-{trial.number}" for trial in result.trials}
    for trial in result.trials:
        params, metrics, statuses = groups[f"trial-{trial.number}"]
        assert set(params) == set(trial.params)
        assert {name: params[name] for name in ("lr", "units", "optimizer", "bias", NASTY)} == {
            name: trial.params[name] for name in ("lr", "units", "optimizer", "bias", NASTY)
        }
        assert statuses == {"STATUS_SUCCESS" if trial.values else "STATUS_FAILURE"}
        if trial.values:
            assert metrics["value"] == close_to(trial.value)


def test_folders_carry_the_parameters_and_are_fit_for_any_file_system(tmp_path):
    search(tmp_path / "run")
    for number, path in folders(tmp_path / "run").items():
        trial = read_trials(tmp_path / "run")[number]
        lr, units = trial.params["lr"], trial.params["units"]
        assert path.name.startswith(f"trial-{number},lr={lr:.4g},units={units},optimizer=")
        assert len(path.name.encode()) <= 120
        assert not set(path.name) & set("/\\:*?\"<>|'#[]")


def test_a_search_that_goes_on_writes_nothing_twice_and_all_that_is_missing(tmp_path):
    out = tmp_path / "run"
    search(out, n=5)
    before = files(out)
    lost = folders(out)[2]
    (gone,) = lost.iterdir()
    gone.unlink()
    search(out, n=9, resume=True)
    after = files(out)
    assert set(folders(out)) == set(range(9))
    assert len(after) == 9
    assert {path: content for path, content in before.items() if path != gone}.items() <= after.items()
    assert scalars(lost)["seconds"] == [(3 if read_trials(out)[2].values else 0, close_to(read_trials(out)[2].seconds))]


def test_a_search_that_begins_anew_has_only_its_own_trials(tmp_path):
    out = tmp_path / "run"
    search(out, n=5)
    smaller = SearchSpace(lr=Float(1e-4, 1e-1, log=True), units=Int(4, 64))
    study = Study(smaller, objective, "random", "minimize", 3, out, tracking="tensorboard", resume=True, force=True)
    with SerialExecutor() as executor:
        study.run(executor, max_trials=3)
    assert set(folders(out)) == {0, 1, 2}
    experiment, groups = hparams(out / "tensorboard")
    assert {info.name for info in experiment.hparam_infos} == {"lr", "units"}
    assert len(groups) == 3


def test_what_was_not_tracked_can_be_written_later(tmp_path, capsys):
    out = tmp_path / "run"
    study = Study(SPACE, objective, "random", "minimize", 3, out)
    with SerialExecutor() as executor:
        study.run(executor, max_trials=4)
    assert main(["track", str(out)]) == 2
    assert "--to tensorboard or --to mlflow" in capsys.readouterr().err
    assert main(["track", str(out), "--to", "tensorboard"]) == 0
    assert "4 of 4 trial(s) are new" in capsys.readouterr().out
    assert len(hparams(out / "tensorboard")[1]) == 4
    before = files(out)
    assert main(["track", str(out), "--to", "tensorboard"]) == 0
    assert "0 of 4 trial(s) are new" in capsys.readouterr().out
    assert files(out) == before


def test_a_run_folder_at_a_url_has_them_too(tmp_path):
    result = search("memory://tracked/run", n=3)
    fsspec.filesystem("memory").get("/tracked/run/tensorboard", str(tmp_path / "tensorboard"), recursive=True)
    assert set(hparams(tmp_path / "tensorboard")[1]) == {f"trial-{trial.number}" for trial in result.trials}


def test_a_trial_that_can_never_be_written_is_left_out(tmp_path, caplog):
    def reports(params, context):
        context.report(2**70 if params["units"] == 5 else 1, 0.5)
        return {"value": 1.0, "huge": 10**400}

    space = SearchSpace(units=Int(4, 6))
    study = Study(space, reports, "grid", out=tmp_path / "run", tracking="tensorboard")
    with SerialExecutor() as executor:
        study.run(executor)
    assert set(folders(tmp_path / "run")) == {0, 2}
    assert "cannot take trial 1" in caplog.text


def test_repeats_of_a_configuration_are_one_group(tmp_path):
    def counts(params, context):
        return float(context.number)

    result = search_again(tmp_path / "run", counts, confirm={"top_k": 1, "repeats": 2})
    _, groups = hparams(tmp_path / "run" / "tensorboard")
    assert set(groups) == {f"trial-{number}" for number in range(3)}
    best = result.confirmed[0].original.number
    assert groups[f"trial-{best}"][1]["value"] == close_to((best + 3 + 4) / 3)


def search_again(out, function, **options):
    space = SearchSpace(lr=Float(0.0, 1.0))
    with SerialExecutor() as executor:
        return Study(space, function, "random", "maximize", 3, out, tracking="tensorboard", **options).run(executor, 3)


def test_it_needs_a_folder():
    study = Study(SPACE, objective, tracking=["tensorboard"])
    with SerialExecutor() as executor, pytest.raises(ConfigError, match="tensorboard is written to the run folder"):
        study.run(executor, max_trials=1)


def test_the_driver_imports_no_tensorflow(tmp_path):
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_tensorboard import search
search({str(tmp_path / "run")!r}, n=2)
assert "tensorboard.compat.proto.event_pb2" in sys.modules
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
