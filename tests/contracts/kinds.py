"""The executors that the contract is put to, and what its tests share. A new executor joins by a line here."""

import gc
import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import psutil
from calls import hold

from hpo_spark import ConnectExecutor, ProcessExecutor, SerialExecutor, SparkExecutor

# From a Spark session and a number of slots.
EXECUTORS = {
    "serial": lambda spark, slots: SerialExecutor(),
    "processes": lambda spark, slots: ProcessExecutor(slots),
    "spark": lambda spark, slots: SparkExecutor(spark, None if slots == 2 else slots),
    "connect": lambda spark, slots: ConnectExecutor(spark, None if slots == 2 else slots),
    # A fork of this process, which has threads, could hang.
    "standard": lambda spark, slots: ProcessPoolExecutor(slots, multiprocessing.get_context("forkserver")),
    "threads": lambda spark, slots: ThreadPoolExecutor(slots),
}
OURS = ("processes", "spark", "connect")
ON_SPARK = ("spark", "connect")
# A map whose item kills its process survives but where it runs in the Spark workers. Nothing else of the contract is
# denied to anybody; what Connect cannot do beyond it is in the docstring of `ConnectExecutor`.
MAPS_IN_WORKERS = ("spark",)
REMOTE = ("processes", "spark", "connect", "standard")
CONCURRENT = ("processes", "spark", "connect", "standard", "threads")

# More tasks than any executor of two slots hands on before one has ended.
MANY = 8


class Gate:
    """Holds calls of `calls.hold` until it is opened, in whatever process they run."""

    def __init__(self, folder):
        folder.mkdir()
        self.path = str(folder)

    def open(self):
        Path(self.path, "open").touch()

    @property
    def begun(self):
        return len(self.which_began)

    @property
    def which_began(self):
        """The values of the calls that have begun."""
        return [path.name.split("-")[1] for path in Path(self.path).glob("began-*")]

    def wait_for(self, count):
        until(lambda: self.begun >= count)

    def fill(self, executor, count=MANY):
        """Futures of held calls that keep every slot busy, and at least two more waiting."""
        return [executor.submit(hold, self.path, n) for n in range(count)]


def until(condition, seconds=30):
    """Wait for a condition, and fail if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come true"
        time.sleep(0.01)


def is_gone(reference):
    """Whether an object is let go of, with some time allowed."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        gc.collect()
        if reference() is None:
            return True
        time.sleep(0.02)
    return False


def alive():
    """The threads of this process and the processes below it, those of Spark excepted."""
    found = set(threading.enumerate())
    for child in psutil.Process().children():
        try:
            found.add(child)
            if child.name() != "java":
                found.update(child.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
    return found


def is_back_to(before):
    """Whether nothing lives that did not live before, with some time allowed."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        gc.collect()
        if not any(_lives(it) for it in alive() - before):
            return True
        time.sleep(0.05)
    return False


def _lives(it):
    if isinstance(it, threading.Thread):
        return it.is_alive()
    try:
        return it.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
