"""What every run folder does, wherever it lies."""

import copy
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from hpo_spark.storage import open_storage


def test_write_replaces(storage):
    storage.write("best/params.yaml", b"a")
    storage.write("best/params.yaml", b"")
    assert storage.read("best/params.yaml") == b""
    storage.write("best/params.yaml", bytes(range(256)) * 1000)
    assert storage.read("best/params.yaml") == bytes(range(256)) * 1000


def test_what_is_missing(storage):
    for read in (storage.read, storage.read_log):
        with pytest.raises(FileNotFoundError, match="No such file|there is no"):
            read("none.jsonl")
    with pytest.raises(FileNotFoundError):
        storage.copy("none", "other")
    storage.remove("none")
    storage.remove("folder/none")
    assert not storage.exists("none")
    assert not storage.exists("folder/none")
    assert not storage.has_log("none.jsonl")
    assert storage.names("") == storage.names("folder") == []


def test_create_is_exclusive(storage):
    storage.create("control/a", b"1")
    with pytest.raises(FileExistsError):
        storage.create("control/a", b"1")
    with pytest.raises(FileExistsError):
        storage.create("control/a", b"2")
    assert storage.read("control/a") == b"1"
    storage.remove("control/a")
    storage.create("control/a", b"3")
    assert storage.read("control/a") == b"3"


@pytest.mark.parametrize("error", [PermissionError(1, "Operation not permitted"), OSError(95, "Not supported")])
def test_create_needs_no_links(tmp_path, monkeypatch, error):
    """Which file systems such as exFAT and some of FUSE lack."""

    def link(*_):
        raise error

    monkeypatch.setattr(os, "link", link)
    test_create_is_exclusive(open_storage(tmp_path))
    test_create_has_one_winner(open_storage(tmp_path))
    assert open_storage(tmp_path).names("") == ["lease-1.json"]


def test_create_has_one_winner(storage):
    def create(number):
        try:
            storage.create("lease-1.json", str(number).encode())
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(create, range(16)) if number is not None]
    assert len(winners) == 1
    assert storage.read("lease-1.json") == str(winners[0]).encode()


def test_copy(storage):
    storage.write("checkpoints/1.npz", b"one")
    storage.copy("checkpoints/1.npz", "checkpoints/2.npz")
    storage.write("checkpoints/1.npz", b"new")
    assert storage.read("checkpoints/2.npz") == b"one"
    storage.copy("checkpoints/1.npz", "checkpoints/2.npz")
    assert storage.read("checkpoints/2.npz") == b"new"
    storage.remove("checkpoints/1.npz")
    assert storage.read("checkpoints/2.npz") == b"new"


def test_names_are_those_of_one_folder(storage):
    for name in ("b.txt", "a.txt", "logs/2.txt", "logs/1.txt", "logs/deep/3.txt", "logs2/4.txt"):
        storage.write(name, b"x")
    assert storage.names("") == ["a.txt", "b.txt"]
    assert storage.names("logs") == ["1.txt", "2.txt"]
    assert storage.names("a.txt") == []
    assert storage.exists("a.txt")
    assert storage.exists("logs/deep/3.txt")
    assert not storage.exists("logs")
    storage.remove("logs/1.txt")
    assert storage.names("logs") == ["2.txt"]


def test_check_writable_leaves_nothing(storage):
    storage.check_writable()
    assert storage.names("") == []


def test_pickled_and_copied(storage):
    storage.write("a", b"1")
    for other in (pickle.loads(pickle.dumps(storage)), copy.deepcopy(storage), open_storage(storage.place)):
        assert other.read("a") == b"1"
        assert other.place == str(other) == storage.place
        assert other.name == storage.name


def test_log(storage):
    content, log = storage.open_log("journal.jsonl")
    assert content == storage.read_log("journal.jsonl") == b""
    assert not storage.has_log("journal.jsonl")
    log.append(b"1\n", durable=True)
    log.append(b"2\n", durable=False)
    log.append(b"3\n4\n", durable=True)
    assert storage.read_log("journal.jsonl") == b"1\n2\n3\n4\n"
    assert storage.has_log("journal.jsonl")
    log.append(b"5\n", durable=False)
    log.flush()
    log.flush()
    log.close()
    content, log = storage.open_log("journal.jsonl")
    assert content == b"1\n2\n3\n4\n5\n"
    log.append(b"6\n", durable=True)
    log.close()
    assert storage.read_log("journal.jsonl") == b"1\n2\n3\n4\n5\n6\n"


@pytest.mark.parametrize("size", range(0, 13, 2))
def test_cut_log(storage, size):
    _, log = storage.open_log("journal.jsonl")
    for lines in (b"1\n", b"2\n3\n", b"4\n", b"5\n6\n"):
        log.append(lines, durable=True)
    log.close()
    storage.cut_log("journal.jsonl", size)
    content, log = storage.open_log("journal.jsonl")
    assert content == b"1\n2\n3\n4\n5\n6\n"[:size]
    assert storage.has_log("journal.jsonl") == (size > 0)
    log.append(b"7\n", durable=True)
    log.close()
    assert storage.read_log("journal.jsonl") == content + b"7\n"


def test_two_writers_notice(storage):
    _, log = storage.open_log("journal.jsonl")
    _, other = storage.open_log("journal.jsonl")
    log.append(b"1\n", durable=True)
    with pytest.raises(FileExistsError, match="somebody else"):
        other.append(b"2\n", durable=True)
    log.append(b"3\n", durable=True)
    log.close()
    other.close()
    assert storage.read_log("journal.jsonl") == b"1\n3\n"
