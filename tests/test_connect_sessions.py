"""What is wrong with a Connect session is said before anything begins; none of it needs a server."""

import pytest

from hpo_spark import ConnectExecutor, remote
from hpo_spark.cli import main
from hpo_spark.errors import ConfigError, EnvironmentProblem, MissingExtra
from hpo_spark.remote import open_remote_session

pytest.importorskip("grpc_status", reason="needs the extra connect")


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("SPARK_REMOTE", raising=False)
    monkeypatch.setattr(remote, "_PATIENCE_S", 0.5)


def refused(error, *words, url=None):
    with pytest.raises(error) as raised, open_remote_session("x", url):
        pass
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_a_url_is_needed():
    refused(ConfigError, "executor: connect needs the URL", "remote: sc://HOST:15002", "SPARK_REMOTE")


@pytest.mark.parametrize("url", ["yarn", "http://host", "sc://"])
def test_what_is_no_url_of_a_server_is_refused(url):
    refused(ConfigError, "remote: ", url, url=url)


def test_a_server_that_does_not_answer_is_no_riddle():
    url = "sc://127.0.0.1:1/;token=hunter2-secret"
    refused(EnvironmentProblem, "No Spark Connect server has answered at sc://127.0.0.1:1", "start-connect", url=url)
    with pytest.raises(EnvironmentProblem) as raised, open_remote_session("x", url):
        pass
    assert "hunter2" not in str(raised.value)


def test_a_missing_package_names_the_extra(monkeypatch):
    found = remote.find_spec
    monkeypatch.setattr(remote, "find_spec", lambda name: None if name == "grpc_status" else found(name))
    refused(MissingExtra, "The executor 'connect' needs grpcio-status", "hpo_spark[connect]", url="sc://host")


def test_an_old_pyspark_is_refused(monkeypatch):
    monkeypatch.setattr(remote, "version", lambda name: "3.5.1")
    refused(EnvironmentProblem, "needs pyspark 4 or newer, got 3.5.1", url="sc://host")


def test_the_command_says_so_and_ends(tmp_path, capsys):
    (tmp_path / "my.py").write_text("def f(params):\n    return params['x']\n")
    lines = "space: {x: {float: [0, 1]}}\nobjective: {function: 'my.py:f'}\nexecutor: connect\nreport: false\n"
    (tmp_path / "study.yaml").write_text(lines)
    words = ["run", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "SPARK_REMOTE" in capsys.readouterr().err
    assert main([*words, "--set", "remote=sc://127.0.0.1:1"]) == 2
    assert "No Spark Connect server has answered" in capsys.readouterr().err


def test_what_is_no_session_is_refused():
    with pytest.raises(TypeError, match="spark must be a session of Spark Connect, got builtins.str"):
        ConnectExecutor("sc://localhost")
