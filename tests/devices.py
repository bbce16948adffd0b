"""Trials that show which devices they have, at the same time as others, and that nobody has too many of one."""

import contextlib
import itertools
import os
import time
from collections import Counter
from pathlib import Path

DEVICES = "CUDA_VISIBLE_DEVICES"


def meet(folder, n_together, n_sharing=1):
    """Wait until as many trials run at once, and return the devices and the process of this one.

    Fails where more than ``n_sharing`` trials have one device at the same time.
    """
    folder, device = Path(folder), os.environ[DEVICES]
    with open("/proc/self/environ") as file:  # what libraries of this process saw first
        assert f"{DEVICES}={device}" in file.read().split("\0")
    with contextlib.ExitStack() as held:
        for one in device.split(","):
            held.callback(_first_free(folder, f"{one}-held", n_sharing).unlink)
        arrived = int(_first_free(folder, "arrived").name.rpartition("-")[2])
        group = range(arrived - arrived % n_together, arrived - arrived % n_together + n_together)
        deadline = time.monotonic() + 60
        while not all((folder / f"arrived-{n}").exists() for n in group):
            assert time.monotonic() < deadline, f"{n_together} trials never ran at the same time"
            time.sleep(0.01)
        # Nobody leaves before all have seen each other.
        (folder / f"left-{arrived}").touch()
        while not all((folder / f"left-{n}").exists() for n in group):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    return device, os.getpid()


def _first_free(folder, name, n=None):
    """The first of the files NAME-0, NAME-1, ... that is not there yet, made."""
    for number in itertools.count() if n is None else range(n):
        path = folder / f"{name}-{number}"
        with contextlib.suppress(FileExistsError):
            path.touch(exist_ok=False)
            return path
    raise AssertionError(f"{n + 1} trials hold {name.removesuffix('-held')}")


def counted(executor, folder, n, n_together, n_sharing=1):
    """How many of ``n`` trials had which devices."""
    folder.mkdir()
    futures = [executor.submit(meet, str(folder), n_together, n_sharing) for _ in range(n)]
    seen = [future.result(timeout=120) for future in futures]
    assert len({process for _, process in seen}) == len(set(seen)), "a process has changed its device"
    return Counter(device for device, _ in seen)
