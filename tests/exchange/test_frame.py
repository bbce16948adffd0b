"""Trials as data frames, CSV and Parquet: nothing is lost on the way out, and CSV comes back."""

import sys

import pandas as pd
import pytest
from exchanged import SMALL, SPACE, a_trial, any_params, any_value, exact, some_trials
from hypothesis import given, settings

from hpo_spark import ConfigError, Trial, TrialState
from hpo_spark.errors import MissingExtra
from hpo_spark.exchange.csv import from_csv
from hpo_spark.exchange.frame import to_frame, write_csv, write_parquet
from hpo_spark.results.columns import csv_of


def test_a_frame_has_the_columns_of_trials_csv(tmp_path):
    trials = some_trials(20)
    frame = to_frame(trials)
    assert list(frame.columns) == csv_of(trials).splitlines()[0].split(",")
    assert len(frame) == 20
    types = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    assert types["number"] == types["seed"] == types["attempt"] == "int64"
    assert types["fidelity"] == types["parent"] == "Int64"
    assert frame["parent"].dropna().tolist() == [trial.parent for trial in trials if trial.parent is not None]
    assert types["value"] == types["started"] == types["param:rate"] == types["metric:loss"] == "float64"
    assert types["param:width"] == types["metric:n"] == "int64"
    assert types["state"] == types["host"] == types["error"] == types["param:optimizer"] == "string"
    assert types["param:mixed"] == types["param:odd"] == "object"
    assert frame["value"].isna().sum() == sum(trial.values is None for trial in trials)


def test_values_of_choices_stay_what_they_are():
    trials = some_trials(60)
    frame = to_frame(trials)
    for name in SPACE:
        column = frame[f"param:{name}"]
        for trial, value in zip(trials, column, strict=True):
            if name in trial.params:
                own = value.item() if hasattr(value, "item") else value
                assert repr(own) == repr(trial.params[name])
            else:
                assert value is not None
                assert pd.isna(value)


def test_types_of_params_that_are_not_always_there():
    trials = [Trial(0, {"b": True, "n": 1, "h": 2**70}, 0), Trial(1, {}, 0), Trial(2, {"b": False, "n": 3, "h": 1}, 0)]
    types = [str(dtype) for dtype in to_frame(trials)[["param:b", "param:n", "param:h"]].dtypes]
    assert types == ["boolean", "Int64", "object"]
    assert len(to_frame([])) == 0
    assert "value" in to_frame([])


def test_several_objectives_have_a_column_each():
    frame = to_frame(some_trials(5, n_values=2))
    assert [name for name in frame if name.startswith("value")] == ["value_0", "value_1"]


@pytest.mark.parametrize("where", ["path", "memory"])
def test_parquet_holds_numbers_exactly_and_mixed_types_as_json(tmp_path, where):
    trials = [*some_trials(60), Trial(60, {"odd": "\ud800"}, 0, state=TrialState.FAILED, error="\ud800")]
    place = str(tmp_path / "new" / "t.parquet") if where == "path" else "memory://exchange/t.parquet"
    write_parquet(trials, place)
    frame = pd.read_parquet(place)
    assert list(frame.columns) == list(to_frame(trials).columns)
    assert frame["param:rate"].tolist()[:60] == [trial.params["rate"] for trial in trials[:60]]
    assert {"null", "true", '"true"', "2.5"} < set(frame["param:odd"])
    assert {"[1, 2]", '{"a": 1}', "1", "true", '"1"', "1.0"} <= set(frame["param:mixed"].dropna())
    assert frame["metric:inf"][0] == -float("inf")


def test_csv_comes_back_exactly(tmp_path):
    trials = some_trials(60)
    for place in (str(tmp_path / "trials.csv"), "memory://exchange/trials.csv"):
        write_csv(trials, place)
        assert exact(from_csv(place, SPACE, ["maximize"])) == exact(trials)
    several = some_trials(10, n_values=2)
    write_csv(several, tmp_path / "trials.csv")
    assert exact(from_csv(tmp_path / "trials.csv", SPACE, ["maximize", "minimize"])) == exact(several)


@settings(max_examples=50, deadline=None)
@given(params=any_params, value=any_value)
def test_any_params_and_value_come_back_from_csv(tmp_path_factory, params, value):
    place = tmp_path_factory.getbasetemp() / "law.csv"
    trials = [a_trial(0, params, values=[value])]
    write_csv(trials, place)
    assert exact(from_csv(place, SPACE, ["minimize"])) == exact(trials)


def test_a_plain_csv_is_read_by_the_types_of_the_parameters(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "\ufeffx,n,kind,value,note\n0.5,2,good,1.25,hm\n-1e0, 3.0 ,bad,,\n99,1,good,0.5,\n", encoding="utf-8"
    )
    first, second, third = from_csv(path, SMALL, ["minimize"])
    assert (first.params, first.values) == ({"x": 0.5, "n": 2, "kind": "good"}, [1.25])
    assert repr(second.params) == "{'x': -1.0, 'n': 3, 'kind': 'bad'}"
    assert (second.state, second.values) == ("FAILED", None)
    assert third.params["x"] == 99  # outside the space: of no use, but no mistake


def test_the_state_of_a_plain_csv(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,n,kind,value,state\n0.5,2,good,1,completed\n0.5,2,good,,CANCELLED\n")
    assert [str(trial.state) for trial in from_csv(path, SMALL, ["minimize"])] == ["COMPLETED", "CANCELLED"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,n,kind,value\n0.5,many,good,1\n", "row 2, column 'n': expected a whole number, got 'many'"),
        ("x,n,kind,value\n0.5,2.5,good,1\n", "row 2, column 'n': expected a whole number, got '2.5'"),
        ("x,n,kind,value\n0.5,2,good,1\n,2,good,1\n", "row 3, column 'x': expected a number, got ''"),
        ("x,n,kind,value\n0.5,2,ugly,1\n", r"column 'kind': expected one of \['bad', 'good'\], got 'ugly'"),
        ("x,n,kind,value\n0.5,2,good,nan\n", "column 'value': expected a finite number, got 'nan'"),
        ("x,n,kind,value\n0.5,2,good\n", "row 2: expected as many cells as the header"),
        ("x,n,kind,value\n0.5,2,good,1,1\n", "row 2: expected as many cells as the header"),
        ("x,n,kind,value,state\n0.5,2,good,1,DONE\n", "column 'state': expected one of"),
        ("x,n,kind,value,state\n0.5,2,good,,COMPLETED\n", "column 'state': expected a value"),
        ("x,kind\n0.5,good\n", r"the column\(s\) \['n', 'value'\] are missing; it has \['x', 'kind'\]"),
        ("", r"the column\(s\) \['x', 'n', 'kind', 'value'\] are missing"),
        ('x,n,kind,value\n0.5,2,"good,1\n', "is no CSV"),
    ],
)
def test_a_wrong_csv_is_refused_with_row_and_column(tmp_path, text, words):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        from_csv(path, SMALL, ["minimize"])


def test_a_row_with_one_of_two_values_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,n,kind,value_0,value_1\n0.5,2,good,1,\n")
    with pytest.raises(ConfigError, match="column 'value_1': expected a number, since another value is there"):
        from_csv(path, SMALL, ["minimize", "minimize"])


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none.csv cannot be read: No such file"):
        from_csv(tmp_path / "none.csv", SMALL, ["minimize"])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"t.csv cannot be written"):
        write_csv([], tmp_path / "file" / "t.csv")
    with pytest.raises(ConfigError, match=r"nowhere://u:\*\*\*@b/t.csv cannot be written: Protocol not known"):
        write_csv([], "nowhere://u:password@b/t.csv")
    (tmp_path / "t.csv").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        from_csv(tmp_path / "t.csv", SMALL, ["minimize"])


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r'pyarrow.*"hpo_spark\[export\]"'):
        write_parquet([], tmp_path / "t.parquet")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r'pandas.*"hpo_spark\[export\]"'):
        to_frame([])
    write_csv([], tmp_path / "t.csv")
