"""The clusters that tests run on: one at a time, each with a session in a driver JVM of its own."""

import pytest
from cluster import local, standalone

MASTERS = ("local[2,3]", "local-cluster[2,1,1024]", "standalone")


def open_cluster(master, folder, **options):
    return standalone(folder, **options) if master == "standalone" else local(master, folder, **options)


@pytest.fixture(scope="module", params=MASTERS)
def cluster(request, tmp_path_factory):
    with open_cluster(request.param, tmp_path_factory.mktemp("cluster")) as made:
        yield made
