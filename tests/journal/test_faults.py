"""A disk that is full, a folder that is gone, somebody else's hand in it: what was told stays, the reason is said."""

import contextlib
import os
import subprocess
import threading
import time

import pytest

from hpo_spark import Float, SearchSpace, SerialExecutor, Study
from hpo_spark.errors import ConfigError, StorageError
from hpo_spark.journal import NAME, Journal, read_record
from hpo_spark.journal import journal as journal_module
from hpo_spark.storage import open_storage
from hpo_spark.storage.local import LocalStorage
from hpo_spark.trial import Trial, TrialState

SPACE = SearchSpace(x=Float(0.0, 1.0))


def bulky(params):
    return {"value": params["x"], "text": "x" * 3000}


def told(number):
    return Trial(number, {"x": 0.5}, 1, state=TrialState.COMPLETED, values=[0.5], error="e" * 400)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(journal_module, "_PATIENCE_S", 1.0)
    monkeypatch.setattr(journal_module, "_PAUSE_S", 0.05)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    yield mount
    subprocess.run(["umount", "-l", mount], check=True)


def test_a_full_disk_ends_the_search_and_keeps_what_was_told(small_disk):
    ends = []
    study = Study(
        SPACE, bulky, "random", seed=0, out=small_disk, callbacks=[lambda _, trial: ends.append(trial.number)]
    )
    with SerialExecutor() as executor, pytest.raises(StorageError, match="No space left on device.*resume"):
        study.run(executor, 100)
    record = read_record(small_disk)
    assert [trial.number for trial in record.ended] == ends
    assert 3 < len(ends) < 40
    assert record.torn == 0
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    with SerialExecutor() as executor:
        result = Study(SPACE, bulky, "random", seed=0, out=small_disk, resume=True).run(executor, 50)
    assert [trial.number for trial in result.trials] == list(range(50))


def test_a_disk_that_is_full_at_the_start_is_said(small_disk):
    with contextlib.suppress(OSError):
        (small_disk / "other").write_bytes(b"x" * 100_000)
    study = Study(SPACE, bulky, "random", seed=0, out=small_disk)
    with SerialExecutor() as executor, pytest.raises(StorageError, match=r"run folder .* cannot be written: No space"):
        study.run(executor, 1)
    (small_disk / "other").unlink()
    with SerialExecutor() as executor:
        Study(SPACE, bulky, "random", seed=0, out=small_disk).run(executor, 1)


@pytest.mark.parametrize("broken", ["create", "cut_log", "open_log"])
def test_a_folder_that_fails_when_the_search_begins_is_said(tmp_path, monkeypatch, broken):
    """At its lease, at a line that a crash has left, at the journal."""
    with SerialExecutor() as executor:
        Study(SPACE, bulky, "random", seed=0, out=tmp_path).run(executor, 2)
    journal = (tmp_path / NAME).read_bytes() + b'{"kind":"te'
    (tmp_path / NAME).write_bytes(journal)

    def fail(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch, SerialExecutor() as executor:
        patch.setattr(LocalStorage, broken, fail)
        study = Study(SPACE, bulky, "random", seed=0, out=tmp_path, resume=True)
        with pytest.raises(StorageError, match=r"cannot be written: Input/output error\. The search has not begun"):
            study.run(executor, 3)
    with SerialExecutor() as executor:
        assert len(Study(SPACE, bulky, "random", seed=0, out=tmp_path, resume=True).run(executor, 3).trials) == 3


@pytest.mark.parametrize("resume", [False, True])
def test_a_name_that_is_too_long_is_refused_in_words(tmp_path, resume):
    with SerialExecutor() as executor, pytest.raises(ConfigError, match="File name too long"):
        Study(SPACE, bulky, "random", out=tmp_path / ("x" * 300), resume=resume).run(executor, 1)


def test_a_disk_that_is_full_for_a_moment_is_waited_for(small_disk, monkeypatch, caplog):
    monkeypatch.setattr(journal_module, "_PATIENCE_S", 30.0)
    journal = Journal(open_storage(small_disk))
    journal.begin({"seed": 0, "study": {"study": {}}})
    (small_disk / "other").write_bytes(b"x" * 56_000)
    threading.Timer(0.5, (small_disk / "other").unlink).start()
    for number in range(40):
        journal.tell(told(number))
    journal.close()
    assert len(read_record(small_disk).ended) == 40
    assert "cannot be written: [Errno 28] No space left on device; trials go on" in caplog.text


def test_a_folder_that_vanishes_for_a_moment_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "_PATIENCE_S", 30.0)
    folder = tmp_path / "run"
    journal = Journal(open_storage(folder))
    journal.begin({"seed": 0, "study": {"study": {}}})
    folder.rename(tmp_path / "gone")
    threading.Timer(0.3, lambda: (tmp_path / "gone").rename(folder)).start()
    journal.tell(told(0))
    journal.close()
    assert [trial.number for trial in read_record(folder).ended] == [0]


def test_a_folder_that_is_gone_for_good_ends_the_search(tmp_path):
    folder = tmp_path / "run"

    def objective(params):
        folder.rename(tmp_path / "gone")
        return 1.0

    study = Study(SPACE, objective, "random", seed=0, out=folder)
    with SerialExecutor() as executor, pytest.raises(StorageError, match="No such file or directory"):
        study.run(executor, 5)
    assert not folder.exists()
    assert [trial.number for trial in read_record(tmp_path / "gone").unfinished] == [0]


def test_a_line_that_another_driver_wrote_ends_this_search_at_once(tmp_path):
    journal = Journal(open_storage(tmp_path))
    journal.begin({"seed": 0, "study": {"study": {}}})
    before = read_record(tmp_path)
    other = Journal(open_storage(tmp_path), before.check)
    other.tell(told(0))
    began = time.monotonic()
    with pytest.raises(StorageError, match="somebody else has written to it"):
        journal.tell(told(1))
    assert time.monotonic() - began < 0.5
    assert journal.is_taken_over
    other.tell(told(2))
    assert [trial.number for trial in read_record(tmp_path).ended] == [0, 2]


def test_a_write_that_fails_half_way_leaves_no_part(tmp_path, monkeypatch):
    journal = Journal(open_storage(tmp_path))
    journal.begin({"seed": 0, "study": {"study": {}}})
    real, calls = os.write, []

    def half(descriptor, content):
        calls.append(len(content))
        if len(calls) == 1:
            return real(descriptor, bytes(content[:10]))
        if len(calls) < 4:
            raise OSError(5, "Input/output error")
        return real(descriptor, content)

    monkeypatch.setattr(os, "write", half)
    journal.tell(told(0))
    monkeypatch.undo()
    assert [trial.number for trial in read_record(tmp_path).ended] == [0]


def test_a_sync_that_fails_is_not_believed_later(tmp_path, monkeypatch):
    from hpo_spark.storage import local

    journal = Journal(open_storage(tmp_path))
    journal.begin({"seed": 0, "study": {"study": {}}})
    failures = [OSError(5, "Input/output error")] * 2

    def sync(descriptor):
        if failures:
            raise failures.pop()

    monkeypatch.setattr(local, "_sync", sync)
    journal.tell(told(0))
    assert not failures
    assert (tmp_path / NAME).read_bytes().count(b'"tell"') == 1


def test_a_path_that_is_no_folder_is_refused_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    study = Study(SPACE, lambda params: 1.0, "random", seed=0, out=tmp_path / "file")
    with SerialExecutor() as executor, pytest.raises(ConfigError, match=r"run folder .* cannot be written"):
        study.run(executor, 1)
    assert (tmp_path / "file").read_bytes() == b""
