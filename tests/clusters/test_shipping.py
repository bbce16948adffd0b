"""Searches on a standalone cluster whose hosts lack hpo_spark, or everything: what `make dist` builds travels there."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cluster import ROOT, SPARK_HOME

from jobs.standalone import Standalone

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

STUDY = """\
study: {name: shipped, seed: 1, max_trials: 4}
space:
  C: {float: [1.0e-2, 1.0e+1], log: true}
fixed: {notes: NOTES}
searcher: random
objective:
  sklearn: MODELS:build_estimator
  data: digits
  cv: 2
report: false
"""
MODELS = """\
import json
import sys

import sklearn
from my_helpers import classifier

import hpo_spark


def build_estimator(params):
    here = {"hpo_spark": hpo_spark.__file__, "python": sys.executable, "sklearn": sklearn.__file__}
    here["helpers"] = getattr(sys.modules.get("my_helpers"), "__file__", None)
    with open(params["notes"], "a") as file:
        file.write(json.dumps(here) + "\\n")
    return classifier(params["C"])
"""
HELPERS = """\
from sklearn.linear_model import LogisticRegression

def classifier(strength):
    return LogisticRegression(C=strength, max_iter=200)
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """What `make dist` builds, with no more than these trials need."""
    folder = tmp_path_factory.mktemp("dist")
    program = [sys.executable, ROOT / "jobs" / "pack.py", "--extras", "sklearn", "--out", folder]
    subprocess.run(program, check=True)
    return folder


@pytest.fixture(scope="module")
def complete(dist, tmp_path_factory):
    """The Python of an environment that has everything but pyspark."""
    return unpack(dist, tmp_path_factory.mktemp("complete"))


@pytest.fixture(scope="module")
def libraries(dist, tmp_path_factory):
    """The Python of an environment that has what hpo_spark needs, and neither it nor pyspark."""
    python = unpack(dist, tmp_path_factory.mktemp("libraries"))
    for entry in python.parents[1].glob("lib/python*/site-packages/hpo_spark*"):
        shutil.rmtree(entry)
    return python


def unpack(dist, folder):
    with tarfile.open(dist / "environment.tar.gz") as archive:
        archive.extractall(folder, filter="tar")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def cluster(dist, tmp_path_factory):
    """Two hosts with Spark and a bare Python, as far as their daemons know."""
    path = os.pathsep.join([str(SPARK_HOME / "bin"), str(Path(shutil.which("java")).parent), os.defpath])
    with Standalone(tmp_path_factory.mktemp("cluster"), variables={"PATH": path, "PYTHONPATH": ""}) as cluster:
        yield cluster


def submit(cluster, script, folder, models="my_models.py", **variables):
    """Run a script of ``conf/standalone`` in a folder with a study: exit code, output, and what the trials noted."""
    (folder / "study.yaml").write_text(STUDY.replace("NOTES", str(folder / "notes")).replace("MODELS", models))
    (folder / "notes").touch()
    command = [ROOT / "conf" / "standalone" / script, "run", "study.yaml", "--out", "run"]
    variables = {"MASTER": cluster.url, **{name: str(value) for name, value in variables.items()}}
    with (folder / "log").open("wb") as log:
        code = cluster.spawn(command, variables, cwd=folder, stdout=log, stderr=log).wait(timeout=400)
    notes = [json.loads(line) for line in (folder / "notes").read_text().splitlines()]
    return code, (folder / "log").read_text(), notes


def write_models(folder):
    folder.mkdir(exist_ok=True)
    (folder / "my_models.py").write_text(MODELS)
    (folder / "my_helpers.py").write_text(HELPERS)


def assert_finished(folder, code, log):
    assert code == 0, log
    result = json.loads((folder / "run" / "result.json").read_text())
    assert (result["state"], result["counts"]) == ("finished", {"COMPLETED": 4}), log
    assert result["best_trial"]["value"] > 0.9


def test_hosts_without_the_package_get_it_as_a_zip_and_my_models_by_value(cluster, dist, libraries, tmp_path):
    write_models(tmp_path)
    code, log, notes = submit(cluster, "py-files.sh", tmp_path, DIST=dist, PYSPARK_PYTHON=libraries)
    assert_finished(tmp_path, code, log)
    assert len(notes) >= 8  # two folds of four trials
    for note in notes:
        assert is_below(note["hpo_spark"], cluster.folder) and "hpo_spark.zip" in note["hpo_spark"]
        assert is_below(note["sklearn"], libraries.parents[1])
        assert note["helpers"] is None  # what my_models.py has from there has come with it


def test_modules_of_ones_own_travel_in_a_zip_too(cluster, dist, libraries, tmp_path):
    write_models(tmp_path / "my_package")
    archive = shutil.make_archive(str(tmp_path / "my_package"), "zip", tmp_path / "my_package")
    shutil.rmtree(tmp_path / "my_package")
    code, log, notes = submit(
        cluster, "py-files.sh", tmp_path, "my_models", DIST=dist, PYSPARK_PYTHON=libraries, MODULES=archive
    )
    assert_finished(tmp_path, code, log)
    assert len(notes) >= 8  # two folds of four trials
    for note in notes:
        assert is_below(note["helpers"], cluster.folder) and "my_package.zip" in note["helpers"]


def test_hosts_with_a_bare_python_get_all_of_it_packed(cluster, dist, complete, tmp_path):
    write_models(tmp_path)
    code, log, notes = submit(cluster, "archives.sh", tmp_path, DIST=dist, DRIVER_PYTHON=complete)
    assert_finished(tmp_path, code, log)
    assert len(notes) >= 8  # two folds of four trials
    for note in notes:
        for name in ("hpo_spark", "python", "sklearn"):
            assert is_below(note[name], cluster.folder) and "/environment/" in note[name]
        assert note["helpers"] is None


def test_a_search_whose_hosts_lack_the_package_says_so(cluster, complete, tmp_path):
    write_models(tmp_path)
    bare = Path(sys.base_prefix) / "bin" / "python3"
    code, log, notes = submit(cluster, "installed.sh", tmp_path, PYSPARK_PYTHON=bare, PYSPARK_DRIVER_PYTHON=complete)
    assert code == 2, log
    assert not notes
    assert "The Python of the workers has no 'hpo_spark'" in log and "--py-files hpo_spark.zip" in log


def is_below(path, folder):
    return Path(path).is_relative_to(folder)
