"""Run folders of all kinds, each empty."""

import gc
import itertools

import fsspec
import pytest
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow.fs import LocalFileSystem
from s3server import Proxy, Server

from hpo_spark.storage import open_storage, retrying

SECRET = "wJalrXUtnFEMIsecretEXAMPLEKEY"
KEY = "AKIAIOSFODNN7EXAMPLE"

_numbers = itertools.count(1)


class ArrowLocal(ArrowFSWrapper):
    """Stands for Hadoop's file system: folders, and renaming into place."""

    protocol = "arrowlocal"

    def __init__(self, **kwargs):
        super().__init__(LocalFileSystem(), **kwargs)


@pytest.fixture(scope="session")
def s3():
    """The proxy before a server that has the bucket ``studies``."""
    server = Server()
    server.start()
    proxy = Proxy(server.port)
    proxy.server = server
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.delenv("AWS_PROFILE", raising=False)
        server.request("PUT", "/studies")
        try:
            yield proxy
        finally:
            close_s3()
            proxy.stop()
            server.stop()


def close_s3():
    """Have fsspec let go of its S3 clients, which then close their connections."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    gc.collect()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(retrying, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(retrying, "_MAX_PAUSE_S", 0.1)


@pytest.fixture
def healthy(s3):
    """The proxy, without faults before and after."""
    s3.faults.clear()
    s3.requests.clear()
    yield s3
    s3.faults.clear()


@pytest.fixture
def s3_url(healthy):
    return f"s3://studies/runs/{next(_numbers)}"


@pytest.fixture
def memory_url():
    yield f"memory://runs/{next(_numbers)}"
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


@pytest.fixture
def arrow_url(tmp_path):
    fsspec.register_implementation("arrowlocal", ArrowLocal, clobber=True)
    return f"arrowlocal://{tmp_path}/run"


@pytest.fixture(params=["local", "memory", "arrow", "s3"])
def place(request, tmp_path):
    """A path or URL of each kind."""
    return str(tmp_path / "run") if request.param == "local" else request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def storage(place):
    storage = open_storage(place)
    storage.check_writable()
    return storage
