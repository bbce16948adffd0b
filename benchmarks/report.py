"""What a report costs: seconds and megabytes, for searches of growing size.

make bench-report                       10,000 trials, about a minute
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.journal import SPACE, finished
from hpo_spark import Trial, TrialState
from hpo_spark.journal import FORMAT, read_record
from hpo_spark.journal.records import encode
from hpo_spark.report.write import write_report
from hpo_spark.versions import versions

SIZES = (100, 1_000, 10_000)
N_SLOTS = 16


def write_journal(folder: Path, n_trials: int) -> None:
    """A search whose trials have curves of ten epochs and ran on 16 slots; every twentieth failed."""
    study = {"study": {"name": "bench", "direction": "maximize", "seed": 0}, "space": SPACE.to_dict()}
    line, check = encode({"kind": "study", "format": FORMAT, "seed": 0, "study": study, "versions": versions()}, 0)
    lines = [line]
    rng = random.Random(0)
    free = [1.7e9] * N_SLOTS
    for number in range(n_trials):
        slot = free.index(min(free))
        seconds = rng.uniform(1.0, 30.0)
        facts = {
            **finished(number).to_record(),
            "started": free[slot],
            "seconds": seconds,
            "host": f"worker-{slot % 4}",
        }
        if number % 20 == 7:
            facts |= {"state": TrialState.FAILED, "values": None, "error": f"ValueError: trial {number} is bad"}
        else:
            facts |= {"values": [rng.random()]}
        free[slot] += seconds
        line, check = encode({"kind": "tell", **Trial.from_record(facts).to_record(), "at": free[slot]}, check)
        lines.append(line)
    line, _ = encode({"kind": "end", "state": "finished", "reason": "max_trials is reached", "slots": N_SLOTS}, check)
    folder.mkdir()
    (folder / "journal.jsonl").write_bytes(b"".join([*lines, line]))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of trials")
    sizes = parser.parse_args().sizes
    table = Table(title="report.html")
    for header in ("trials", "journal, MB", "read, s", "report, s", "CPU, s", "page, MB"):
        table.add_column(header, justify="right")
    with tempfile.TemporaryDirectory() as place:
        for n_trials in sizes:
            folder = Path(place, str(n_trials))
            write_journal(folder, n_trials)
            begin = time.perf_counter()
            read_record(folder)
            read = time.perf_counter() - begin
            begin, begin_cpu = time.perf_counter(), time.process_time()
            path = Path(write_report(folder))
            report, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
            sizes_mb = ((folder / "journal.jsonl").stat().st_size / 1e6, path.stat().st_size / 1e6)
            table.add_row(
                f"{n_trials:,}",
                f"{sizes_mb[0]:.1f}",
                f"{read:.2f}",
                f"{report:.1f}",
                f"{cpu:.1f}",
                f"{sizes_mb[1]:.1f}",
            )
    console = Console()
    console.print(table)
    console.print({**versions(), **{name: version(name) for name in ("optuna", "plotly")}})


if __name__ == "__main__":
    main()
