"""Stacks of Keras models on JAX, in a process of its own: Keras has one backend for as long as a process lives."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hpo_spark

HERE = Path(__file__).parent


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs the extra jax")
def test_members_train_as_each_alone_convolutions_too():
    path = os.pathsep.join([str(Path(hpo_spark.__file__).parents[1]), str(HERE)])
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
        "PYTHONPATH": path,
    }
    run = subprocess.run([sys.executable, HERE / "on_jax.py"], env=environment, capture_output=True, timeout=280)
    assert run.returncode == 0, run.stderr.decode()[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    far, reason = found.pop("tried")
    assert far < 1e-6 and "times as fast among 2 as alone" in reason
    assert {"normalization", "embedding", "residual", "convolution", "callbacks", "models"} == found.keys()
    assert {name: far for name, far in found.items() if not max(far) < 1e-6} == {}
