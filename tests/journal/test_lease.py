"""One driver a folder: a living one is left alone, a dead one is followed, of two that race one wins."""

import json
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from hpo_spark import Float, SearchSpace, SerialExecutor, Study
from hpo_spark.errors import ConfigError, StorageError
from hpo_spark.journal import Lease, read_record
from hpo_spark.journal import lease as lease_module
from hpo_spark.storage import open_storage

SPACE = SearchSpace(x=Float(0.0, 1.0))


@pytest.fixture
def folder(tmp_path):
    return open_storage(tmp_path)


@pytest.fixture
def hasty(monkeypatch):
    """A minute takes a second."""
    monkeypatch.setattr(lease_module, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(lease_module, "STALE_S", 1.0)
    monkeypatch.setattr(lease_module, "_WATCH_S", 0.3)


def held_elsewhere(folder, age_s=0.0, **changes):
    """A lease of a driver on another machine."""
    content = {
        "host": "elsewhere",
        "pid": 7,
        "started": 0.0,
        "machine": "another",
        "beats": 3,
        "at": time.time() - age_s,
    }
    folder.write("lease-4.json", json.dumps({**content, **changes}).encode())


def numbers(folder):
    return sorted(name for name in folder.names("") if name.startswith("lease-"))


def test_it_is_given_back(folder):
    for _ in range(2):
        lease = Lease(folder)
        lease.acquire(waits=False)
        assert numbers(folder) == ["lease-1.json"]
        lease.release()
        assert numbers(folder) == []


@pytest.mark.parametrize("waits", [False, True])
def test_a_living_driver_on_this_machine_is_left_alone(folder, waits):
    """Also one of this very process."""
    lease = Lease(folder)
    lease.acquire(waits)
    try:
        with pytest.raises(ConfigError, match=rf"process {os.getpid()} on .* runs this search"):
            Lease(folder).acquire(waits)
    finally:
        lease.release()


def test_a_dead_one_on_this_machine_frees_it_at_once(folder):
    program = "import sys\nfrom hpo_spark.journal import Lease\nfrom hpo_spark.storage import open_storage\n"
    program += "import os\nLease(open_storage(sys.argv[1])).acquire(False)\nos._exit(9)"
    subprocess.run([sys.executable, "-c", program, folder.place], check=False, timeout=60)
    assert numbers(folder) == ["lease-1.json"]
    lease = Lease(folder)
    lease.acquire(waits=False)
    assert numbers(folder) == ["lease-2.json"]
    lease.release()


def test_a_number_that_another_process_has_now_is_not_its_life(folder):
    parent = psutil.Process(os.getppid())
    held_elsewhere(folder, machine=lease_module._machine(), pid=parent.pid, started=parent.create_time() - 1000)
    lease = Lease(folder)
    lease.acquire(waits=False)
    lease.release()


def test_another_hosts_is_refused_where_nobody_waits(folder):
    held_elsewhere(folder, age_s=30)
    with pytest.raises(ConfigError, match=r"process 7 on elsewhere runs this search, or did so 30 s ago.*--resume"):
        Lease(folder).acquire(waits=False)
    assert numbers(folder) == ["lease-4.json"]


@pytest.mark.parametrize("age_s", [0.0, 1000.0])
def test_another_hosts_is_waited_for_until_it_is_stale(folder, hasty, age_s):
    held_elsewhere(folder, age_s)
    lease = Lease(folder)
    lease.acquire(waits=True)
    assert numbers(folder) == ["lease-5.json"]
    lease.release()


def test_whoever_renews_his_lease_keeps_it_though_his_clock_is_wrong(folder, hasty):
    held_elsewhere(folder, age_s=1000)
    over = threading.Event()

    def renew():
        for beat in range(100):
            if over.wait(0.05):
                return
            held_elsewhere(folder, age_s=1000, beats=beat)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(ConfigError, match="has just said so"):
            Lease(folder).acquire(waits=True)
    finally:
        over.set()
        thread.join()


def test_a_damaged_one_is_waited_for_and_followed(folder, hasty):
    folder.write("lease-2.json", b"\x00\x00")
    lease = Lease(folder)
    lease.acquire(waits=True)
    assert numbers(folder) == ["lease-3.json"]
    lease.release()


def test_of_many_that_race_one_wins(folder):
    """Each holds it for the time of the race."""
    leases = [Lease(folder) for _ in range(8)]
    start, won, refused = threading.Barrier(8), [], []

    def race(lease):
        start.wait()
        try:
            lease.acquire(waits=False)
            won.append(lease)
        except ConfigError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=race, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert (len(won), len(refused)) == (1, 7)
    won[0].release()


def test_a_driver_that_lost_its_lease_writes_nothing_more(tmp_path, hasty):
    """It was frozen for longer than a minute, and another took over."""
    out, numbers_at_loss = tmp_path / "run", []

    def lose(study, trial):
        if trial.number == 3:
            open_storage(out).write("lease-9.json", b"{}")
            deadline = time.monotonic() + 30
            while not study._journal.is_taken_over and time.monotonic() < deadline:
                time.sleep(0.01)
            numbers_at_loss.append(len(read_record(out).ended))

    study = Study(SPACE, lambda params: params["x"], "random", seed=0, out=out, callbacks=[lose])
    with SerialExecutor() as executor, pytest.raises(StorageError, match="another driver has taken this folder over"):
        study.run(executor, 20)
    assert [len(read_record(out).ended)] == numbers_at_loss
    assert not (out / "result.json").exists()
    assert (out / "lease-9.json").exists()
