"""What can be said of the files without building them."""

import os
import subprocess
import sysconfig

import pytest
from engine import DOCKER

pytestmark = pytest.mark.images


@pytest.mark.parametrize(
    "command",
    [
        ["hadolint", "Dockerfile"],
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
        ["shellcheck", "entrypoint.sh", "install.sh", "../tests/images/install.sh"],
    ],
    ids=lambda command: command[0],
)
def test_linters_are_content(command):
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    done = subprocess.run(command, cwd=DOCKER, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
