"""``hpo-spark show``, ``report`` and ``compare``, as users type them."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from searches import KINDS, MIXED, ONE, some_trials, write_journal
from sklearn.tree import DecisionTreeClassifier

from hpo_spark import Choice, Float, Int, SearchSpace, SerialExecutor, SklearnObjective, Study
from hpo_spark.cli import main
from hpo_spark.report.run import Run
from hpo_spark.results.result import Result
from hpo_spark.results.tables import summary


@pytest.fixture
def run(tmp_path):
    return str(KINDS["mixed"](tmp_path / "run"))


def shown(capsys, *words):
    assert main(["show", *words]) == 0
    return capsys.readouterr().out


def test_trials_are_shown_best_first(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "220")
    text = shown(capsys, run, "--top", "5")
    assert "5 of 60 trial(s), finished" in text
    values = [float(line.split("│")[3]) for line in text.splitlines() if "COMPLETED" in line]
    assert len(values) == 5
    best = sorted((trial.value for trial in some_trials(60, MIXED) if trial.values), reverse=True)
    assert values == pytest.approx(best[:5], rel=1e-5)


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("number", lambda trial: trial.number),
        ("seconds", lambda trial: trial.seconds),
        ("learning_rate", lambda trial: trial.params["learning_rate"]),
        ("momentum", lambda trial: trial.params.get("momentum")),
        ("metric:val_loss", lambda trial: trial.metrics.get("val_loss")),
    ],
)
def test_trials_are_sorted_by_any_column_and_what_lacks_it_comes_last(run, capsys, column, key):
    trials = some_trials(60, MIXED)
    known = sorted((trial for trial in trials if key(trial) is not None), key=lambda trial: (key(trial), trial.number))
    lacking = [trial.number for trial in trials if key(trial) is None]
    for words, expected in (((), known), (("--reverse",), known[::-1])):
        numbers = [record["number"] for record in json.loads(shown(capsys, run, "--sort", column, "--json", *words))]
        assert numbers == [trial.number for trial in expected] + lacking


def test_json_and_csv_hold_the_records(run, capsys):
    records = json.loads(shown(capsys, run, "--json", "--sort", "number"))
    trials = some_trials(60, MIXED)
    assert [record["params"] for record in records] == [trial.params for trial in trials]
    rows = list(csv.DictReader(io.StringIO(shown(capsys, run, "--csv", "--top", "3"))))
    assert len(rows) == 3
    assert float(rows[0]["value"]) == max(trial.value for trial in trials if trial.values)


def test_an_unknown_column_is_named_with_those_that_there_are(run, capsys):
    assert main(["show", run, "--sort", "speed"]) == 2
    assert "--sort speed: there is no such column; expected 'best' or one of ['number'," in capsys.readouterr().err
    assert main(["show", run, "--json", "--csv"]) == 2


def test_what_was_trained_again_has_mean_deviation_and_number_and_comes_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    folder = str(KINDS["repeats"](tmp_path / "run"))
    text = shown(capsys, folder, "--top", "3")
    header, first, second, third = [
        [cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]]
        for line in text.splitlines() if line.startswith(("┃", "│"))
    ]  # fmt: skip
    place = header.index("mean")
    assert header[place : place + 3] == ["mean", "std", "n"]
    assert first[place : place + 3] == ["0.7", "0.1", "3"]
    assert second[place : place + 3] == ["0.3", "0.1", "3"]
    assert third[place : place + 3] == ["-", "-", "-"]
    assert f"best: trial {first[0]}, by the mean of 3 repeats; its model is that of trial 23" in text
    records = json.loads(shown(capsys, folder, "--json", "--sort", "mean"))
    assert [record["confirmed"]["mean"] for record in records[:2]] == pytest.approx([0.3, 0.7])
    assert "confirmed" not in records[2]


def test_a_control_character_in_a_name_changes_nothing_in_the_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    space = SearchSpace(**{"x\x1b[2J": Float(0, 1), "[red]y[/red]": Choice(["\x1b]0;title\x07", "\x9b31m"])})
    trials = some_trials(6, space, reason="ValueError: \x1b[31mred")
    folder = str(write_journal(tmp_path / "run", space, trials, name="a\x1b[2Jb"))
    assert main(["show", folder]) == 0
    assert main(["compare", folder, folder, "--out", str(tmp_path / "page.html")]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\x9b" not in said and "\x07" not in said
    assert "x␛[2J" in said and "␛]0;title" in said and "[red]y[/red]" in said and "␛[31mred" in said


def test_a_metric_is_no_markup(tmp_path):
    trial = replace(some_trials(1, ONE)[0], params={"[bold]x[/bold]": 0.5})
    result = Result("a", ("maximize",), [trial], "finished", 1.0, 1, "[end]", test={"[red]acc[/red]": 0.5, "[/x]": 1.0})
    console = Console(file=io.StringIO(), width=200)
    console.print(summary(result))
    written = console.file.getvalue()
    assert "test [red]acc[/red]" in written and "test [/x]" in written and "[bold]x[/bold]" in written


def test_a_picture_that_is_left_out_is_said(tmp_path, capsys):
    folder = str(KINDS["one choice"](tmp_path / "run"))
    assert main(["report", folder, "--png"]) == 0
    assert "evaluations.png is left out: scikit-optimize's plot_evaluations needs" in capsys.readouterr().err


def test_a_search_without_trials_is_shown(tmp_path, capsys):
    assert "0 trial(s)" in shown(capsys, str(KINDS["empty"](tmp_path / "run")), "--sort", "value")


def test_compare_prints_a_table_and_writes_a_page(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = str(KINDS["single"](tmp_path / "other"))
    assert main(["compare", run, other, "--reach", "0.2"]) == 0
    text = capsys.readouterr().out
    assert "to 0.2" in text and "compare.html" in text
    assert (tmp_path / "compare.html").stat().st_size < 6e6
    assert main(["compare", run]) == 2


def test_report_writes_where_it_is_told(run, tmp_path, capsys):
    assert main(["report", run, "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").exists()
    assert not (tmp_path / "run" / "report.html").exists()
    assert main(["report", str(tmp_path / "nothing")]) == 2
    assert "holds no journal.jsonl" in capsys.readouterr().err


def a_study(folder, code):
    (folder / "mine.py").write_text(f"def score(params):\n    {code}\n")
    (folder / "study.yaml").write_text(
        "study: {seed: 1, max_trials: 3}\nspace: {x: {float: [0, 1]}}\n"
        "objective: {function: mine.py:score}\nexecutor: serial\n"
    )
    return str(folder / "study.yaml")


@pytest.fixture
def reports(monkeypatch):
    """Searches leave reports, as they do wherever nobody says otherwise."""
    monkeypatch.delenv("HPO_SPARK_REPORT")


def test_a_run_leaves_a_report_and_keeps_its_exit_code(tmp_path, capsys, reports):
    assert main(["run", a_study(tmp_path, "return 1 / 0"), "--out", str(tmp_path / "run")]) == 3
    page = (tmp_path / "run" / "report.html").read_text()
    assert "3 of 3 trials failed" in page
    assert "ZeroDivisionError" in page
    assert "hpo-spark run" in page


@pytest.mark.parametrize("error", [RuntimeError("no ink"), KeyboardInterrupt()])
def test_a_report_that_fails_fails_no_run(error, tmp_path, capsys, monkeypatch, reports):
    from hpo_spark.report import write

    def fail(out):
        raise error

    monkeypatch.setattr(write, "write_report", fail)
    folder = str(tmp_path / "run")
    assert main(["run", a_study(tmp_path, "return params['x']"), "--out", folder]) == 0
    said = capsys.readouterr().out
    assert f"no report.html: {type(error).__name__}" in said
    assert f"Make it with: hpo-spark report {folder}" in said


def test_a_study_file_may_want_no_report(tmp_path, capsys, reports):
    study = a_study(tmp_path, "return params['x']")
    assert main(["run", study, "--out", str(tmp_path / "run"), "--set", "report=false"]) == 0
    assert not (tmp_path / "run" / "report.html").exists()


def a_search(folder, **options):
    with SerialExecutor() as executor:
        return Study(ONE, lambda params: params["x"], "random", seed=0, out=folder, **options).run(executor, 3)


def test_a_search_in_python_leaves_a_report_too(tmp_path, reports):
    a_search(tmp_path / "run")
    assert "3 trials, finished" in (tmp_path / "run" / "report.html").read_text()
    a_search(tmp_path / "none", report=False)
    assert not (tmp_path / "none" / "report.html").exists()
    a_search(None)


def test_the_environment_may_want_no_report(tmp_path):
    a_search(tmp_path / "run")
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_report_that_fails_fails_no_search_in_python(tmp_path, reports, monkeypatch, caplog):
    from hpo_spark.report import write

    monkeypatch.setattr(write, "render", None)
    assert a_search(tmp_path / "run").state == "finished"
    assert "no report.html: TypeError" in caplog.text
    assert f"Make it with: hpo-spark report {tmp_path / 'run'}" in caplog.text


def test_a_result_in_python_calls_objectives_as_the_report_does(tmp_path):
    x, y = np.eye(40)[:, :4], np.arange(40) % 2
    objective = SklearnObjective(DecisionTreeClassifier, (x, y), cv=2, scoring="accuracy")
    with SerialExecutor() as executor:
        study = Study(SearchSpace(max_depth=Int(1, 9)), objective, "random", seed=0, out=tmp_path / "run")
        result = study.run(executor, 3)
    assert result.plot_history().layout.yaxis.title.text == "accuracy"
    assert Run.read(tmp_path / "run").view().objectives == ["accuracy"]
