"""What ``conf/`` says to clusters, as far as it can be told without one: names of settings, pods, a script for GPUs."""

import json
import os
import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

CONF = Path(__file__).parents[1] / "conf"
DEFAULTS = CONF / "spark-defaults.conf"
SUBMISSIONS = sorted([*CONF.glob("*/*.sh"), *CONF.glob("*/*.json")])
OBJECTS = [
    pytest.param(made, id=f"{path.name}-{made['kind']}")
    for path in sorted((CONF / "kubernetes").glob("*.yaml"))
    for made in yaml.safe_load_all(path.read_text())
]
# Where Spark defines its settings, beside those that it looks for by their names.
DEFINED_IN = (
    "internal.config.package",
    "internal.config.Network",
    "internal.config.Python",
    "deploy.yarn.config.package",
    "deploy.k8s.Config",
)
BY_NAME = re.compile(r"spark\.(executorEnv\.\w+|executor\.resource\.gpu\.(amount|vendor|discoveryScript))")


@pytest.fixture(scope="module")
def find_setting(spark):
    """Spark's definition of a setting; None for a name that it does not know."""
    jvm = spark.sparkContext._jvm
    for name in DEFINED_IN:
        jvm.java.lang.Class.forName(f"org.apache.spark.{name}$").getField("MODULE$").get(None)
    return jvm.org.apache.spark.internal.config.ConfigEntry.findEntry


def test_spark_knows_each_setting(find_setting):
    text = DEFAULTS.read_text()
    named = dict(re.findall(r"^#?(spark\.\S+) +(\S+)$", text, re.MULTILINE))
    assert len(named) > 15
    assert len(named) == len(re.findall(r"^#?spark\.", text, re.MULTILINE))
    for key, value in named.items():
        if not BY_NAME.fullmatch(key):
            assert find_setting(key) is not None, key
            find_setting(key).valueConverter().apply(value)  # raises if it cannot be read


@pytest.mark.parametrize("path", SUBMISSIONS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_spark_knows_the_settings_of_a_submission(path, find_setting):
    names = set(re.findall(r"""(?:--conf |--conf", |^ *)"?(spark\.[\w.]+)[="]""", path.read_text(), re.MULTILINE))
    assert names or path.name in ("installed.sh", "py-files.sh")
    for name in names:
        assert BY_NAME.fullmatch(name) or find_setting(name) is not None, name


@pytest.mark.parametrize("made", OBJECTS)
def test_kubernetes_knows_the_objects(made):
    kubernetes_validate.validate(made, "1.30", strict=True)


@pytest.mark.parametrize("path", [DEFAULTS, *SUBMISSIONS], ids=lambda path: path.name)
def test_what_was_not_run_says_so(path):
    ran = path == DEFAULTS or path.parent.name == "standalone"
    assert ran or path.suffix == ".json" or "NOT RUN HERE" in path.read_text()


@pytest.mark.parametrize(
    ("visible", "addresses"), [(None, "012"), ("2,3", "01"), ("3, 5", "01"), ("0,-1,1", "0"), ("", "")]
)
def test_the_script_for_gpus_says_what_spark_reads(tmp_path, visible, addresses):
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\n[ "$*" = "--query-gpu=index --format=csv,noheader" ] && printf "0\\n1\\n2\\n"\n')
    tool.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    printed = subprocess.run(CONF / "gpus.sh", env=environment, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == {"name": "gpu", "addresses": list(addresses)}


@pytest.mark.parametrize("path", [*CONF.glob("*.sh"), *CONF.glob("*/*.sh")], ids=lambda path: path.name)
def test_scripts_are_scripts(path):
    assert os.access(path, os.X_OK)
    subprocess.run(["/bin/sh", "-n", path], check=True)


def test_a_submission_without_a_master_says_what_is_missing():
    environment = {key: value for key, value in os.environ.items() if key != "MASTER"}
    script = CONF / "standalone" / "installed.sh"
    ended = subprocess.run([script], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "MASTER must be the URL of the master" in ended.stderr
