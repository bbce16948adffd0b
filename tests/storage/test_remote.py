"""URLs: what they lead to, what is hidden of them, and what is missing or wrong."""

import os
import pickle
import subprocess
import sys

import fsspec
import pytest
from conftest import KEY, SECRET

from hpo_spark.errors import ConfigError, MissingExtra
from hpo_spark.storage import is_url, open_storage
from hpo_spark.storage.local import LocalStorage
from hpo_spark.storage.remote import RemoteStorage


@pytest.mark.parametrize(
    ("url", "place", "name"),
    [
        ("s3://bucket/runs/x/", "s3://bucket/runs/x", "x"),
        ("s3://bucket", "s3://bucket", "bucket"),
        (f"s3://{KEY}:{SECRET}@bucket/x", "s3://bucket/x", "x"),
        (f"s3://{KEY}:wJ/al+rX@bucket/x", "s3://bucket/x", "x"),
        ("ftp://ann:p@ss@host:21/x", "ftp://host:21/x", "x"),
        ("hdfs://ann@host:8020/x", "hdfs://host:8020/x", "x"),
        ("hdfs://host:8020/x@y?replication=2", "hdfs://host:8020/x@y", "x@y"),
        ("hdfs:///x", "hdfs:///x", "x"),
        ("viewfs://cluster/user/ann/x", "viewfs://cluster/user/ann/x", "x"),
        ("memory://a b/ü", "memory://a b/ü", "ü"),
    ],
)
def test_place(url, place, name):
    storage = RemoteStorage(url)
    assert (storage.place, storage.name, str(storage)) == (place, name, place)
    assert repr(storage) == f"RemoteStorage({place!r})"
    again = pickle.loads(pickle.dumps(storage))
    assert again.place == place
    assert again.__reduce__() == storage.__reduce__()


def test_a_url_or_a_path(tmp_path):
    assert is_url("s3://bucket/x")
    assert not is_url(f"file://{tmp_path}")
    assert not is_url("runs/x")
    assert isinstance(open_storage(f"file://{tmp_path}"), LocalStorage)
    assert isinstance(open_storage("memory://x"), RemoteStorage)
    assert open_storage(tmp_path).is_local
    assert not open_storage("memory://x").is_local


@pytest.mark.parametrize(
    "url", ["/tmp/a b", "file:///tmp/a b", "file:/tmp/a b", "file://localhost/tmp/a b", "local:///tmp/a b"]
)
def test_a_url_of_this_machines_files(url):
    assert open_storage(url).place == "/tmp/a b"


@pytest.mark.parametrize("url", ["file://elsewhere/tmp/x", "file://runs/x", "file://", "file://localhost", "file:///"])
def test_a_url_of_another_machines_files_is_refused(url):
    with pytest.raises(ConfigError, match="expected the URL of a folder of this machine, such as file:///tmp/runs/x"):
        open_storage(url)


@pytest.mark.parametrize(
    "url", ["s4://bucket/x", "s3://", "s3:///", "simplecache::s3://bucket/x", "s3://bucket/x[1]", "s3://b/*"]
)
def test_what_is_no_folder(url):
    with pytest.raises(ConfigError, match="scheme 's4'; expected|expected the URL of one folder"):
        open_storage(url)


def test_a_library_that_is_not_installed(monkeypatch):
    with pytest.raises(MissingExtra, match="gs://bucket/x needs gcsfs. Install it with: pip install gcsfs"):
        open_storage("gs://bucket/x")
    fsspec.register_implementation("s5", "s3fs_not_there.S3FileSystem")
    with pytest.raises(MissingExtra, match="pip install s3fs_not_there"):
        open_storage("s5://bucket/x")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(MissingExtra, match=r'needs s3fs. Install it with: pip install "hpo_spark\[s3\]"'):
        open_storage("s3://bucket/x")


def test_a_file_system_that_cannot_write(monkeypatch):
    storage = RemoteStorage("memory://x")

    def refuse(*_):
        raise NotImplementedError

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", refuse)
    with pytest.raises(OSError, match="something that this file system cannot do"):
        storage.check_writable()


def test_options_that_the_user_has_set(monkeypatch):
    given = {"retries": {"max_attempts": 7}, "read_timeout": 3, "max_pool_connections": 5}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": given})
    assert RemoteStorage("s3://bucket/x")._connect()[0].config_kwargs == given
    given = {"read_timeout": 3, "max_pool_connections": 5}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": given})
    found = RemoteStorage("s3://bucket/x")._connect()[0].config_kwargs
    assert found == {**given, "retries": {"total_max_attempts": 1, "mode": "standard"}}
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "9")
    assert RemoteStorage("s3://bucket/x")._connect()[0].config_kwargs == given


def test_credentials_in_the_url_are_used():
    fs, root = RemoteStorage(f"s3://{KEY}:a%2Fb@bucket/x")._connect()
    assert (fs.key, fs.secret, root) == (KEY, "a/b", "bucket/x")


_WORKER = """
import os, pickle, sys
storage = pickle.loads(sys.stdin.buffer.read())
storage.write("b", storage.read("a") + b"2")
if os.fork() == 0:
    storage.write("c", storage.read("b") + b"3")
    os._exit(0)
os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_another_process(s3_url):
    """A worker that gets it pickled, and one that is forked after its use."""
    storage = open_storage(s3_url)
    storage.write("a", b"1")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(
        [sys.executable, "-c", _WORKER], input=pickle.dumps(storage), check=True, env=environment, timeout=60
    )
    assert storage.read("b") == b"12"
    assert storage.read("c") == b"123"


def test_listings_are_fresh(s3_url):
    storage, other = open_storage(s3_url), open_storage(s3_url)
    assert storage.names("control") == []
    for number in range(3):
        other.write(f"control/{number}", b"")
        assert len(storage.names("control")) == number + 1
    fsspec.filesystem("s3").pipe_file(f"{s3_url}/control/3", b"")
    assert len(storage.names("control")) == 4
