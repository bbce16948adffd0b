"""What travels to a cluster, by one command: ``python jobs/pack.py``, or ``make dist``.

- ``hpo_spark-VERSION-py3-none-any.whl`` to install;
- ``hpo_spark.zip``, the same file under a name that executors import from, for ``--py-files``;
- ``environment.tar.gz``, a virtual environment with hpo_spark and what its trials need, for ``--archives``. Each host
  must have the Python that it was made with, at the same path, and Spark with its pyspark, which is not in it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import venv_pack

__all__ = ["main"]

ROOT = Path(__file__).parents[1]
# What no trial needs: the installer, headers for C, libclang, which TensorFlow asks for and does not import, and the
# tests of the large libraries.
LEFT_OUT = (
    "*/site-packages/pip*",
    "*/include/*",
    "*/site-packages/clang/*",
    "*/site-packages/numpy/*/tests/*",
    "*/site-packages/scipy/*/tests/*",
    "*/site-packages/sklearn/*tests/*",
)
_SOURCES = ("hpo_spark", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def main(arguments: Sequence[str]) -> int:
    """Build all three, and print their sizes."""
    parser = argparse.ArgumentParser(prog="pack.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--extras", default="arrow,keras-cpu,sklearn", help="of the environment (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder (%(default)s)")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hpo-spark-pack-") as folder:
        wheel = _build_wheel(Path(folder))
        built = [Path(shutil.copy(wheel, options.out)), Path(shutil.copy(wheel, options.out / "hpo_spark.zip"))]
        environment = _make_environment(Path(folder), wheel, options.extras)
        built.append(_pack(environment, options.out / "environment.tar.gz"))
    for path in built:
        print(f"{path.stat().st_size / 1e6:8.1f} MB  {path}")
    return 0


def _build_wheel(folder: Path) -> Path:
    """A wheel of the checkout, built apart from it: an earlier build's leftovers would be packed too."""
    source = folder / "source"
    source.mkdir()
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    _call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _make_environment(folder: Path, wheel: Path, extras: str) -> Path:
    environment = folder / "environment"
    _call(sys.executable, "-m", "venv", environment)
    wanted = f"{wheel}[{extras}]" if extras else str(wheel)
    # Executors get the versions of this environment, which is the driver's.
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in _installed()))
    pip = (environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--constraint", constraints)
    _call(*pip, wanted)
    return environment


def _installed() -> list[tuple[str, str]]:
    """Names and versions of what this Python has, but for the package itself, which is built anew."""
    found = {distribution.name: distribution.version for distribution in metadata.distributions()}
    return sorted((name, version) for name, version in found.items() if name and name.replace("-", "_") != "hpo_spark")


def _pack(environment: Path, archive: Path) -> Path:
    packed = venv_pack.Env(str(environment))
    for pattern in LEFT_OUT:
        packed = packed.exclude(pattern)
    packed.pack(str(archive), force=True, compress_level=4)
    return archive


def _call(*command: str | os.PathLike[str]) -> None:
    subprocess.run(command, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
