"""Every way in which a trial goes wrong, as objectives that can be imported where trials run."""

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

MB = 2**20
LONG_S = 600


class NeedsArguments(Exception):
    """Pickles, and cannot be loaded again."""

    def __init__(self, code, reason):
        super().__init__(f"{reason} ({code})")
        self.code = code


class CannotPickle(Exception):
    def __reduce__(self):
        raise TypeError("this exception stays here")


class CannotPrint(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def throw(error):
    raise error


def run_python(program, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], **options)


# --- returned or raised: the trial has FAILED, once

FAILURES = {
    "raises": (lambda folder: throw(ValueError("bad luck")), "ValueError: bad luck"),
    "raises what cannot be loaded": (lambda folder: throw(NeedsArguments(7, "custom")), "NeedsArguments: custom (7)"),
    "raises what cannot be pickled": (lambda folder: throw(CannotPickle("rare")), "CannotPickle: rare"),
    "raises what cannot be printed": (lambda folder: throw(CannotPrint()), "CannotPrint"),
    "exits politely": (lambda folder: sys.exit(3), "SystemExit: 3"),
    "is interrupted": (lambda folder: throw(KeyboardInterrupt()), "KeyboardInterrupt"),
    "recurses for ever": (lambda folder: recurse(0), "RecursionError"),
    "returns NaN": (lambda folder: float("nan"), "nan; expected a finite number"),
    "returns infinity": (lambda folder: float("inf"), "inf; expected a finite number"),
    "returns minus infinity": (lambda folder: {"value": -float("inf")}, "-inf; expected a finite number"),
    "returns a text": (lambda folder: "0.9", "'0.9' of type str; expected a number"),
    "returns nothing": (lambda folder: None, "None of type NoneType; expected a number"),
    "returns a truth": (lambda folder: True, "True of type bool; expected a number"),
    "returns two values": (lambda folder: (1.0, 2.0), "2 value(s)"),
    "returns no value": (lambda folder: {"accuracy": 1.0}, "without the key 'value'"),
    "returns a lock": (lambda folder: threading.Lock(), "of type lock; expected a number"),
    "returns a lock as a metric": (lambda folder: {"value": 1.0, "lock": threading.Lock()}, "lock"),
}


def recurse(depth):
    return recurse(depth + 1) + 1


# --- its process dies: the trial has CRASHED, after a second try


def crash_with_child(folder):
    note_pids(folder, run_python(f"import time; time.sleep({LONG_S})").pid)
    os._exit(5)


def close_every_file(folder):
    os.closerange(3, 1000)
    time.sleep(LONG_S)


CRASHES = {
    "os._exit": (lambda folder: os._exit(7), "exited with code 7"),
    "os._exit(0)": (lambda folder: os._exit(0), "exited with code 0"),
    "segfault": (lambda folder: ctypes.string_at(0), "SIGSEGV"),
    "abort": (lambda folder: os.abort(), "SIGABRT"),
    "SIGKILL": (lambda folder: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
    "SIGTERM": (lambda folder: os.kill(os.getpid(), signal.SIGTERM), "SIGTERM"),
    "closes every file": (close_every_file, "closed its pipe"),
    "dies and leaves a child": (crash_with_child, "exited with code 5"),
}


# --- runs for ever: the trial has TIMED_OUT


def sleep(folder):
    time.sleep(LONG_S)


def compute(folder):
    while True:
        pass


def sleep_without_signals(folder):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(LONG_S)


def sleep_in_native_code(folder):
    ctypes.PyDLL(None).sleep(LONG_S)  # unlike CDLL it keeps the interpreter locked


def stop_itself(folder):
    os.kill(os.getpid(), signal.SIGSTOP)


def sleep_with_children(folder):
    """A child, one in a session of its own, one that takes no signal, and the child of a child."""
    forever = f"import time; time.sleep({LONG_S})"
    deaf = f"import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; {forever}"
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {forever!r}])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    children = [run_python(forever), run_python(forever, start_new_session=True), run_python(deaf)]
    nested = run_python(parent, stdout=subprocess.PIPE, text=True)
    note_pids(folder, *(child.pid for child in children), nested.pid, int(nested.stdout.readline()))
    time.sleep(LONG_S)


def sleep_with_daemon(folder):
    """A process that left its parent, its session and its group, as daemons do."""
    program = (
        "import os, sys, time\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "print(os.getpid(), flush=True)\n"
        "os.dup2(os.open(os.devnull, os.O_WRONLY), 1)\n"
        f"time.sleep({LONG_S})\n"
    )
    daemon = run_python(program, stdout=subprocess.PIPE, text=True)
    note_pids(folder, int(daemon.stdout.readline()))
    daemon.wait()
    time.sleep(LONG_S)


HANGS = {
    "sleeps": sleep,
    "computes": compute,
    "sleeps without signals": sleep_without_signals,
    "sleeps in native code": sleep_in_native_code,
    "stops itself": stop_itself,
    "sleeps with children": sleep_with_children,
    "sleeps with a daemon": sleep_with_daemon,
}


# --- memory


def grow(mb, hold_s=LONG_S):
    import numpy as np

    kept = [np.ones(10 * MB // 8) for _ in range(mb // 10)]
    time.sleep(hold_s)
    return float(len(kept))


def grow_at_once(folder):
    return grow(600)


def grow_slowly(folder):
    import numpy as np

    kept = []
    for _ in range(60):
        kept.append(np.ones(10 * MB // 8))
        time.sleep(0.05)
    time.sleep(LONG_S)


def grow_in_children(folder):
    """Each of them is below the limit."""
    program = f"import time; kept = b'x' * (200 * {MB}); time.sleep({LONG_S})"
    note_pids(folder, *(run_python(program).pid for _ in range(3)))
    time.sleep(LONG_S)


MEMORY = {"at once": grow_at_once, "slowly": grow_slowly, "in children": grow_in_children}


def read_mapped_file(folder, mb=600, hold_s=3.0):
    """Has much more than the limit in memory, all of it pages of a file."""
    path = Path(folder) / f"mapped-{os.getpid()}"
    with path.open("w+b") as file:
        file.truncate(mb * MB)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            total = sum(mapped[0 : mb * MB : mmap.PAGESIZE])
            time.sleep(hold_s)
    path.unlink()
    return float(total)


# --- what is written down, in files that many processes may append to


def note(folder, name, line):
    with open(Path(folder) / name, "a") as file:
        file.write(f"{line}\n")


def notes(folder, name):
    path = Path(folder) / name
    return path.read_text().splitlines() if path.exists() else []


def note_pids(folder, *pids):
    note(folder, "pids", " ".join(map(str, pids)))


def pids(folder):
    return [int(pid) for line in notes(folder, "pids") for pid in line.split()]


class Misbehaves:
    """An objective whose first trial misbehaves; the others return their params.

    It writes its calls into the folder: process id and time of each.
    """

    def __init__(self, how, folder):
        self.how, self.folder = how, Path(folder)

    def __call__(self, params, context):
        if context.number > 0:
            return params["x"]
        note(self.folder, "calls", f"{os.getpid()} {time.time()}")
        note_pids(self.folder, os.getpid())
        return WAYS[self.how](self.folder)

    def calls(self):
        """Process id and time of each call of the trial that misbehaves."""
        return [(int(pid), float(when)) for pid, when in (line.split() for line in notes(self.folder, "calls"))]


WAYS = {
    **{how: way for how, (way, _) in (FAILURES | CRASHES).items()},
    **HANGS,
    **MEMORY,
    "maps a file": read_mapped_file,
}


class Sleeps:
    """An objective that takes its time, and writes down when each attempt of a trial begins and ends."""

    def __init__(self, seconds, folder):
        self.seconds, self.folder = seconds, Path(folder)

    def __call__(self, params, context):
        note(self.folder, "began", f"{context.number} {os.getpid()}")
        time.sleep(self.seconds)
        note(self.folder, "ended", f"{context.number} {os.getpid()}")
        return params["x"]

    def began(self):
        """Number and process id of each attempt."""
        return [tuple(map(int, line.split())) for line in notes(self.folder, "began")]

    def ended(self):
        return [tuple(map(int, line.split())) for line in notes(self.folder, "ended")]

    def running(self):
        """The attempts that have not ended, with process ids that still live."""
        ended = set(self.ended())
        return [
            (number, pid)
            for number, pid in self.began()
            if (number, pid) not in ended and Path(f"/proc/{pid}").exists()
        ]
