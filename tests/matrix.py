"""The core tests on several versions of Spark and Python: ``make test-matrix``, or ``python tests/matrix.py``.

Each row has an environment in ``build/matrix``. With this Python it is the environment that this program runs in, with
another pyspark in front of it, so that Spark is all that differs; with another Python everything is installed there.
"""

import argparse
import json
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "matrix"

NEWEST = "pyspark"
SPARKS = ["pyspark>=3.5,<3.6", "pyspark>=4.0,<4.1", NEWEST]
# What another Python gets beside pyspark.
EXTRAS = ".[arrow,keras-cpu,sklearn,bayes,cmaes]"
TOOLS = ["pytest>=8", "pytest-timeout>=2.3", "hypothesis>=6.100", "pandas>=2.1"]
SHOWN = ["numpy", "pandas", "pyarrow", "tensorflow_cpu", "scikit-learn"]

# Each in a process of its own, since a process has one Spark session.
CORE = {
    "the contract of executors": ["tests/contracts", "tests/executors", "-k", "spark or devices"],
    "studies, data, resuming": [
        "tests/test_deterministic.py",
        "tests/test_deap_programs.py",
        "tests/test_preflight.py",
        "tests/data/test_placement.py",
        "tests/data/test_spark_tables.py",
        "tests/fidelity/test_checkpoints.py",
        "tests/resume/test_on_spark.py",
    ],
    "commands, one table on every executor": [
        "tests/test_cli.py",
        "-k",
        "shows_progress or one_table or any_number_of_slots or spark_submit",
        "-m",
        "long or not long",
    ],
    "clusters": ["tests/clusters/test_gpus.py", "tests/clusters/test_resources.py", "-m", "cluster"],
}
# Other versions may warn, pyspark 3.5 of its own sockets; here that is no error.
OPTIONS = ["-q", "-W", "default", "-p", "no:cacheprovider"]


@dataclass
class Row:
    """A pair of versions, and how the tests went there."""

    spark: str
    python: str
    versions: dict[str, str]
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spark", action="append", metavar="SPEC", help=f"instead of {SPARKS}")
    parser.add_argument("--python", action="append", metavar="COMMAND", help="instead of this one; may be repeated")
    options = parser.parse_args()
    rows = [
        run(python, spec)
        for python in options.python or [sys.executable]
        for spec in options.spark or ([NEWEST] if options.python else SPARKS)
    ]
    print_table(rows)
    return int(any(row.failed for row in rows))


def run(python: str, spec: str) -> Row:
    """Run the core tests in the environment of a row."""
    own = environment(python, spec)
    found = json.loads(
        output(own, "-c", "import importlib.metadata as m, json, platform, sys; print(json.dumps("
               "{'python': platform.python_version(), **{n: m.version(n) for n in sys.argv[1:]}}))", "pyspark", *SHOWN)
    )  # fmt: skip
    row = Row(found.pop("pyspark"), found.pop("python"), found)
    print(f"pyspark {row.spark} on Python {row.python}", flush=True)
    for number, tests in enumerate(CORE.values()):
        count(row, own, tests, BUILD / f"pyspark-{row.spark}-python-{row.python}-{number}.xml")
    return row


def count(row: Row, python: Path, tests: list[str], report: Path) -> None:
    """Run some tests, and add up how they went."""
    report.unlink(missing_ok=True)
    began = time.monotonic()
    code = subprocess.run([python, "-m", "pytest", *OPTIONS, f"--junitxml={report}", *tests], cwd=ROOT, check=False)
    row.seconds += time.monotonic() - began
    if not report.exists():
        raise SystemExit(f"pytest ended with {code.returncode} and no report: {' '.join(tests)}")
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        failed, skipped = int(suite.get("failures", 0)) + int(suite.get("errors", 0)), int(suite.get("skipped", 0))
        row.failed += failed
        row.skipped += skipped
        row.passed += int(suite.get("tests", 0)) - failed - skipped


def environment(python: str, spec: str) -> Path:
    """The Python of the environment of a row, which is made or brought up to date."""
    is_own = python == sys.executable
    version = output(python, "-c", "import sysconfig; print(sysconfig.get_python_version())")
    folder = BUILD / f"python-{version}-{spec.translate(str.maketrans('<>=,', '----'))}"
    own = folder / "bin" / "python"
    if not own.exists():
        print(f"making {folder.relative_to(ROOT)}", flush=True)
        subprocess.run([python, "-m", "venv", folder], check=True)
    if is_own:
        packages = output(own, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
        below = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        Path(packages, "below.pth").write_text(below)
    pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wanted = [spec] if is_own else [spec, *TOOLS, "--editable", EXTRAS]
    subprocess.run([*pip, "--upgrade", *wanted], cwd=ROOT, check=True)
    if is_own:  # for its commands
        subprocess.run([*pip, "--no-deps", "--editable", "."], cwd=ROOT, check=True)
    return own


def output(*command: str | Path) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def print_table(rows: list[Row]) -> None:
    table = Table(title="Core tests", title_justify="left")
    for heading in ("pyspark", "Python", *SHOWN, "passed", "failed", "skipped", "minutes"):
        table.add_column(heading)
    for row in rows:
        counts = (row.passed, row.failed, row.skipped, f"{row.seconds / 60:.1f}")
        table.add_row(row.spark, row.python, *row.versions.values(), *map(str, counts))
    Console(width=140).print(table)


if __name__ == "__main__":
    sys.exit(main())
