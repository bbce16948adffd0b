"""Kills a search again and again at random moments and resumes it, in forks of a process that has all imports.

    python storm.py FOLDER N_KILLS EXECUTOR SEARCHER PRUNER SEED

Prints what it saw as JSON. No thread may run in this process, for it forks.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from hpo_spark import Choice, Float, Int, ProcessExecutor, SearchSpace, SerialExecutor, Study
from hpo_spark.errors import ConfigError
from hpo_spark.journal import read_record

SPACE = SearchSpace(
    rate=Float(1e-4, 1e-1, log=True),
    layers=Int(1, 6),
    optimizer=Choice(["sgd", "adam"]),
    momentum=Float(0.0, 0.99, when={"optimizer": "sgd"}),
)
EVALUATIONS = "evaluations"
KNOWN = [{"params": {"rate": rate, "layers": 2, "optimizer": "adam"}, "value": 100 * rate} for rate in (0.01, 0.1)]


def objective(params, context):
    """Some milliseconds, by no rule; now and then it fails. Each call leaves a line."""
    descriptor = os.open(params["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"%d\n" % context.number)
    os.close(descriptor)
    for step in range(1, 3):
        context.report(step, params["layers"] / step)
        time.sleep(random.SystemRandom().random() * 0.002)
    context.keep_checkpoint(context.fidelity or 2, b"state")
    if int(params["rate"] * 1e7) % 11 == 0:
        raise ValueError("a bad rate")
    return abs(params["rate"] - 0.01) * 100 + params["layers"] + params.get("momentum", 0.5)


def make_study(folder, searcher, out, pruner=None):
    return Study(
        SPACE, objective, searcher, "minimize", 5, out=out, resume=True, deterministic=True, pruner=pruner,
        fixed={"log": str(folder / EVALUATIONS)}, x0=[{"rate": 0.05, "layers": 4, "optimizer": "adam"}, *KNOWN],
    )  # fmt: skip


def make_executor(name):
    return SerialExecutor() if name == "serial" else ProcessExecutor(2)


def table(trials):
    return [[t.number, t.params, t.fidelity, t.seed, str(t.state), t.values] for t in trials]


def search(folder, executor, searcher, out, n_trials, pruner):
    """One life of the search, in a fork."""
    with make_executor(executor) as pool:
        make_study(folder, searcher, out, pruner).run(pool, n_trials)


def size_of(path):
    return path.stat().st_size if path.exists() else 0


def let_live(pid, log, draws, n_evaluations):
    """Return at a random moment of a search: in its first steps, or when it has done some evaluations more."""
    if draws.random() < 0.3:
        time.sleep(draws.uniform(0.0, 0.05))
        return
    wanted = size_of(log) + draws.randrange(3 * n_evaluations)  # a line has two to four bytes
    while size_of(log) <= wanted and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.001)
    time.sleep(draws.uniform(0.0, 0.005))


def main(folder, n_kills, executor, searcher, pruner, seed, n_trials=400):
    draws = random.Random(seed)
    out = folder / "run"
    ended, lost, n_done, latest, most = {}, [], 0, 0, 0
    counts_at_end = {}
    while n_done < n_kills:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            status = 1
            try:
                search(folder, executor, searcher, out, n_trials, pruner)
                status = 0
            finally:
                os._exit(status)
        let_live(pid, folder / EVALUATIONS, draws, n_trials // n_kills // 2)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            break
        n_done += 1
        try:
            record = read_record(out)
        except ConfigError:  # it had not begun
            continue
        now = {trial.number: table([trial]) for trial in record.ended}
        lost += [number for number, row in ended.items() if now.get(number) != row]
        evaluations = (
            Counter((folder / EVALUATIONS).read_text().split()) if (folder / EVALUATIONS).exists() else Counter()
        )
        for number in set(now) - set(ended):
            counts_at_end[number] = evaluations[str(number)]
        ended, latest = now, len(now)
        most = max(most, len(record.unfinished))
    search(folder, executor, searcher, out, n_trials, pruner)
    record = read_record(out)
    evaluations = Counter((folder / EVALUATIONS).read_text().split())
    # A trial that a kill found running may run once more, and one whose end was recorded never.
    again = [number for number, count in counts_at_end.items() if evaluations[str(number)] != count]
    lines = (out / "journal.jsonl").read_text().splitlines()
    tells = Counter(json.loads(line)["number"] for line in lines if '"kind":"tell"' in line)
    print(json.dumps({
        "kills": n_done, "ended_at_last_kill": latest, "lost": lost, "run_again": again, "in_flight": most,
        "told_twice": [number for number, count in tells.items() if count > 1], "table": table(record.trials),
    }))  # fmt: skip


if __name__ == "__main__":
    path, n_kills, executor, searcher, pruner, seed = sys.argv[1:]
    main(Path(path), int(n_kills), executor, json.loads(searcher), json.loads(pruner), int(seed))
