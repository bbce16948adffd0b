"""Which versions a result was made with, and whether workers have the driver's."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__", "describe_difference", "differences", "versions"]

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


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """How a worker's versions differ from the driver's, a phrase each: ``"keras 3.1.0, driver 3.15.1"``."""
    return [
        f"{name} {found.get(name, 'missing')}, driver {wanted}"
        for name, wanted in expected.items()
        # A cluster brings its own pyspark, which need not be an installed package there.
        if found.get(name) != wanted and not (name == "pyspark" and name not in found)
    ]


def describe_difference(host: str, found: Mapping[str, str], expected: Mapping[str, str]) -> str | None:
    """The same in a sentence; None where there is no difference."""
    phrases = differences(found, expected)
    return f"The worker on {host} has other versions than the driver: {'; '.join(phrases)}." if phrases else None
