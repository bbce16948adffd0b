"""The cache of a host: filled once, held while it is used, bounded, and empty at the end."""

import fcntl
import os
import subprocess
import sys
import time

import pytest

from hpo_spark import DataError
from hpo_spark.cache import HostCache, new_owner

MB = 1_000_000


@pytest.fixture
def cache(tmp_path):
    return HostCache(tmp_path / "cache", 10 * MB)


def writer(size=MB, content=b"x"):
    def write(folder):
        (folder / "data").write_bytes(content * size)

    return write


def refuse(folder):
    raise AssertionError("it is filled already")


def entries(cache):
    return sorted(path.name for path in cache.root.iterdir())


def age(cache, key, seconds=7200):
    """Have the marks of a folder be old."""
    for mark in cache.root.glob(f"{key}.*"):
        os.utime(mark, (time.time() - seconds,) * 2)


def test_a_folder_is_filled_once_and_goes_with_its_last_owner(cache):
    one, other = new_owner(), new_owner()
    assert cache.hold("a", one) is None
    assert entries(cache) == []
    folder = cache.fill("a", one, MB, writer())
    assert cache.fill("a", other, MB, refuse) == cache.hold("a", one) == folder
    cache.release(one)
    assert (folder / "data").stat().st_size == cache.n_bytes() == MB
    cache.release(other)
    assert entries(cache) == []


def test_a_lock_that_somebody_holds_is_not_removed(cache):
    """Else two could fill a folder, each with a lock file of its own."""
    lock = cache.root / "a.lock"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # another one looks at the same time
        assert cache.hold("a", "me") is None
        assert os.path.samestat(os.fstat(descriptor), lock.stat())
    finally:
        os.close(descriptor)
    assert cache.hold("a", "me") is None
    assert entries(cache) == []


def test_a_folder_appears_whole_or_not_at_all(cache):
    def fail(folder):
        (folder / "data").write_bytes(b"x")
        raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError):
        cache.fill("a", "me", MB, fail)
    assert [name for name in entries(cache) if not name.endswith(".lock")] == []
    assert cache.fill("a", "me", MB, writer()).is_dir()


def test_processes_that_come_together_fill_it_once(cache):
    script = (
        "import sys, time, os\n"
        "from hpo_spark.cache import HostCache\n"
        "def write(folder):\n"
        "    time.sleep(0.5)\n"
        "    (folder / 'data').write_text(str(os.getpid()))\n"
        "print((HostCache(sys.argv[1]).fill('a', 'me', 1, write) / 'data').read_text())\n"
    )
    command = [sys.executable, "-c", script, str(cache.root)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate(timeout=60)[0] for process in processes}
    assert len(said) == 1
    assert said.pop().strip() in {str(process.pid) for process in processes}


def test_what_a_killed_owner_has_left_goes_when_there_is_need_or_time(cache):
    script = (
        "import sys, time\n"
        "from hpo_spark.cache import HostCache\n"
        "HostCache(sys.argv[1]).fill('a', 'gone', 1, lambda folder: (folder / 'data').write_bytes(b'x' * 1000000))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(cache.root)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        age(cache, "a")
        cache.fill("b", "me", MB, writer())
        assert (cache.root / "a").is_dir()  # it is old, but held
        process.kill()
    cache.fill("c", "me", MB, writer())
    assert not (cache.root / "a").exists()
    assert not list(cache.root.glob("a.*"))


def test_it_is_bounded_and_says_so(cache):
    cache.fill("a", "me", 6 * MB, writer(6 * MB))
    with pytest.raises(DataError, match=r"holds 6 MB.*5 MB more.*limit of 10 MB.*HPO_SPARK_CACHE_MB"):
        cache.fill("b", "me", 5 * MB, refuse)
    cache.release("me")
    assert cache.fill("b", "me", 5 * MB, writer(5 * MB)).is_dir()


def test_drafts_of_killed_processes_go(cache):
    draft = cache.root / "draft-of-somebody"
    draft.mkdir()
    os.utime(draft, (time.time() - 7200,) * 2)
    cache.fill("a", "me", 1, writer(1))
    assert not draft.exists()


def test_the_key_is_that_of_the_content(cache, tmp_path):
    for name, content in (("one", b"abc"), ("two", b"abc"), ("three", b"abd")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_bytes(content)
    one, two, three = (cache.key_of(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two != three
    assert cache.key_of(cache.fill(one, "me", 3, writer(3))) == one


def test_its_place_and_size_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_DIRS", f"{tmp_path}/yarn,{tmp_path}/other")
    assert HostCache().root == tmp_path / "yarn" / f"hpo_spark-{os.getuid()}"
    monkeypatch.setenv("HPO_SPARK_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("HPO_SPARK_CACHE_MB", "3")
    assert HostCache().root.parent == tmp_path / "mine"
    assert HostCache().max_bytes == 3 * MB
    assert HostCache().root.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("HPO_SPARK_CACHE_MB", "much")
    with pytest.raises(DataError, match="HPO_SPARK_CACHE_MB"):
        HostCache()
