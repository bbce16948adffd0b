"""Which versions a result was made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__", "versions"]

__version__ = "0.1.0"

_PACKAGES = ("numpy", "deap", "pyspark", "tensorflow", "keras", "scikit-learn")
# The same library under another name on the package index.
_OTHER_NAMES = {"tensorflow": "tensorflow-cpu"}


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that are installed here."""
    found = {"python": platform.python_version(), "hpo_spark": __version__}
    for package in _PACKAGES:
        for name in (package, _OTHER_NAMES.get(package, package)):
            try:
                found[package] = version(name)
                break
            except PackageNotFoundError:
                continue
    return found
