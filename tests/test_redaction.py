"""Secrets are taken out of text, and nothing else is."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_spark import Choice, ConfigError, Float, SearchSpace, SerialExecutor, Study
from hpo_spark.redaction import redact, redact_all

URL = "postgresql://ann:hunter2@db/x"


@pytest.fixture(autouse=True)
def _no_secrets_of_this_machine(monkeypatch):
    import os

    for name in list(os.environ):
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("postgresql://ann:hunter2@db:5432/x#mnist", "postgresql://ann:***@db:5432/x#mnist"),
        ("postgresql+psycopg2://ann:p@ss:word@db/x", "postgresql+psycopg2://ann:***@db/x"),
        ("mysql://ann:pa/ss@db/x", "mysql://ann:***@db/x"),
        ("redis://:hunter2@host:6379/0", "redis://:***@host:6379/0"),
        ("(redis://:a@b, redis://:c@d)", "(redis://:***@b, redis://:***@d)"),
        ("key AKIAIOSFODNN7EXAMPLE, ASIAIOSFODNN7EXAMPLE.", "key ***, ***."),
        (
            "https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIA%2F1&X-Amz-Date=2&X-Amz-Signature=ab12",
            "https://b.s3.amazonaws.com/k?X-Amz-Credential=***&X-Amz-Date=2&X-Amz-Signature=***",
        ),
        ("https://x.blob/c?sv=1&sig=a%2Bb&se=3", "https://x.blob/c?sv=1&sig=***&se=3"),
        ("https://x/y?token=abc#part", "https://x/y?token=***#part"),
    ],
)
def test_what_is_secret_is_taken_out(text, redacted):
    assert redact(text) == redacted
    assert redact(redacted) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "http://host:8080/path/me@there",
        "http://host:8080 and ann@example.org",
        "sqlite:///studies.db#mnist",
        "s3://bucket/runs/x",
        "ann@example.org",
        "token=3 sig=0.5 momentum=0.9",
        "{'learning_rate': 0.012345678, 'token': 'abc'}",
        "2026-11-27 14:00:00 INFO trial 17: value 0.9812",
        "AKIA and ASIA are continents' names to some",
        "['http://a:80', 'b@c']",
        "",
    ],
)
def test_ordinary_text_stays(text):
    assert redact(text) == text


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)))
def test_numbers_and_keys_stay(data):
    assert redact_all(data) == data
    assert redact(repr(list(data.values()))) == repr(list(data.values()))


def test_values_of_secret_environment_variables_are_taken_out(monkeypatch):
    monkeypatch.setenv("MY_SECRET", "correct horse")
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    monkeypatch.setenv("DB_PASSWORD", 'q"uo/te+8')
    monkeypatch.setenv("SOME_KEY", "12345678")
    monkeypatch.setenv("SHORT_TOKEN", "digits")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "sometimes")
    monkeypatch.setenv("HOME", "/home/ann")
    assert redact("correct horse, hf_0123456789 of /home/ann") == "***, *** of /home/ann"
    assert redact('q"uo/te+8 q%22uo%2Fte%2B8 q\\"uo/te+8') == "*** *** ***"
    assert redact("digits and sometimes") == "digits and sometimes"
    assert redact("key 12345678: value 0.12345678, 123456789") == "key ***: value 0.12345678, 123456789"


def test_nested_data(monkeypatch):
    monkeypatch.setenv("A_SECRET", "correct horse")
    data = {"a": ["correct horse", {"url": "s3://u:p@b"}, 1.5, None, True], "correct horse": ("x",)}
    assert redact_all(data) == {"a": ["***", {"url": "s3://u:***@b"}, 1.5, None, True], "correct horse": ["x"]}


def test_it_is_fast(monkeypatch):
    for number in range(60):
        monkeypatch.setenv(f"VARIABLE_{number}", "x" * 30)
    monkeypatch.setenv("A_SECRET", "correct horse")
    for text in ("a trial's line of ordinary length, value=0.5 " * 5, "http://" * 20_000, "a:b@" * 50_000):
        start = time.perf_counter()
        redact(text)
        assert time.perf_counter() - start < 0.5


class Reader:
    """What somebody sees who watches the search."""

    def __init__(self):
        self.seen = []

    def on_trial_end(self, study, trial):
        self.seen.append(repr(trial))


def connect(params):
    if params["x"] > 0.5:
        raise ConnectionError(f"{params['url']} is not there")
    return {"value": params["x"], "where": params["url"]}


def test_a_search_tells_nobody_the_passwords_that_its_objective_knows(tmp_path, capsys):
    reader = Reader()
    study = Study(SearchSpace(x=Float(0.0, 1.0)), connect, "random", seed=1, out=tmp_path / "run",
                  fixed={"url": URL}, callbacks=[reader])  # fmt: skip
    with SerialExecutor() as executor:
        result = study.run(executor, 8, give_up_after=None)
    assert {"COMPLETED", "FAILED"} == {*result.counts}
    told = ["".join(reader.seen), repr(result.trials), result.first_cause(), *capsys.readouterr()]
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"result.json", "trials.csv", "journal.jsonl", "study.yaml", "params.yaml"} <= {path.name for path in files}
    for text in (*told, *(path.read_text() for path in files)):
        assert "hunter2" not in text
    assert "ConnectionError: postgresql://ann:***@db/x is not there" in result.first_cause()


def test_a_search_that_cannot_succeed_keeps_the_password_too(tmp_path):
    study = Study(SearchSpace(x=Float(0.6, 1.0)), connect, "random", seed=1, out=tmp_path, fixed={"url": URL})
    with SerialExecutor() as executor:
        study.run(executor, 2)
    assert "ann:***@db/x is not there" in (tmp_path / "result.json").read_text()


@pytest.mark.parametrize("values", [[URL, "b"], [["a", URL]], [{"a": URL}]], ids=str)
def test_secrets_are_no_choices(tmp_path, values):
    """Params are recorded as they are."""
    space = SearchSpace(url=Choice(values))
    with pytest.raises(ConfigError, match="Parameter 'url': .* holds a password, a key or a token") as caught:
        Study(space, connect, out=tmp_path)
    assert "hunter2" not in str(caught.value)
    Study(space, connect)  # which records nothing
