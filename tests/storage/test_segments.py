"""A log in segments: nothing is lost or doubled, whenever a writer stops and whoever reads meanwhile."""

import contextlib
import itertools
import logging
import threading

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_spark.storage import open_storage, segments
from hpo_spark.storage.remote import RemoteStorage
from hpo_spark.storage.segments import Segment

LOG = "journal.jsonl"


def lines(*numbers):
    return b"".join(b"%d\n" % number for number in numbers)


def append_each(log, numbers):
    for number in numbers:
        log.append(lines(number), durable=True)


@pytest.fixture
def every_five(monkeypatch):
    """Compaction every five lines, and a look at the log's end before each append."""
    monkeypatch.setattr(segments, "COMPACT_EVERY", 5)
    monkeypatch.setattr(segments, "_TRUST_S", 0.0)


class Crash(BaseException):
    """The process ends."""


class CrashingStorage(RemoteStorage):
    """Ends before or after its n-th request."""

    step = 0
    after = False

    def _retry(self, what, name, call, max_s=None):
        self.step -= 1
        if self.step == 0 and not self.after:
            raise Crash
        result = super()._retry(what, name, call, max_s)
        if self.step == 0:
            raise Crash
        return result

    def remove_all(self, names, max_s):
        for name in names:
            self.remove(name)


def test_a_thousand_lines_become_one_file(memory_url):
    storage = open_storage(memory_url)
    _, log = storage.open_log(LOG)
    for number in range(500):
        log.append(lines(number), durable=False)
        log.append(lines(number), durable=True)
    assert len(storage.names("journal")) == 501
    log.append(lines(500), durable=True)
    assert storage.names("journal") == ["00000001-00000501.jsonl", "00000502.jsonl"]
    expected = b"".join(lines(number, number) for number in range(500)) + lines(500)
    assert storage.read_log(LOG) == storage.open_log(LOG)[0] == expected


def test_a_thousand_lines_at_once_stay_one_segment(memory_url):
    storage = open_storage(memory_url)
    _, log = storage.open_log(LOG)
    log.append(lines(*range(999)), durable=True)
    append_each(log, range(999, 1003))
    assert storage.names("journal") == ["00000001-00000003.jsonl", "00000004.jsonl", "00000005.jsonl", "00000006.jsonl"]
    log.append(lines(*range(1003, 3000)), durable=True)
    append_each(log, range(3000, 3002))
    assert storage.read_log(LOG) == lines(*range(3002))


@pytest.mark.usefixtures("every_five")
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_step_of_appends_and_compactions(memory_url, after):
    for step in itertools.count(1):
        url = f"{memory_url}/{step}"
        storage = CrashingStorage(url)
        storage.step, storage.after = step, after
        told = 0
        try:
            _, log = storage.open_log(LOG)
            for number in range(13):
                log.append(lines(number), durable=True)
                told = number + 1
        except Crash:
            pass
        survivor = RemoteStorage(url)
        content, log = survivor.open_log(LOG)
        # What was told is there; of the append in which it ended, all or nothing.
        assert content in (lines(*range(told)), lines(*range(told + 1)))
        append_each(log, range(content.count(b"\n"), 30))
        assert survivor.read_log(LOG) == lines(*range(30))
        survivor.open_log(LOG)
        found = [Segment.parse(name) for name in survivor.names("journal")]
        assert sum(segment.last - segment.first + 1 for segment in found) == found[-1].last  # nothing is there twice
        if storage.step > 0:
            break
    assert step > 25


@pytest.mark.usefixtures("every_five")
def test_a_crash_at_any_step_of_a_cut(memory_url):
    for size, after in itertools.product((0, 7, 15, 20, 35), (False, True)):
        for step in itertools.count(1):
            url = f"{memory_url}/{size}{after}{step}"
            storage = CrashingStorage(url)
            _, log = storage.open_log(LOG)
            append_each(log, range(10, 22))
            whole = storage.read_log(LOG)
            storage.write("journal/00000008.jsonl", lines(16))  # left over from a compaction
            storage.step, storage.after = step, after
            with contextlib.suppress(Crash):
                storage.cut_log(LOG, size)
            survivor = RemoteStorage(url)
            assert whole.startswith(survivor.read_log(LOG))
            survivor.cut_log(LOG, size)
            assert survivor.read_log(LOG) == survivor.open_log(LOG)[0] == whole[:size]
            if storage.step > 0:
                break


@pytest.mark.usefixtures("every_five")
def test_an_interrupted_append_may_be_followed_by_another(memory_url):
    """Ctrl-C in a write whose fate is unknown: the next lines come in its place."""
    for step, after in itertools.product(range(1, 12), (False, True)):
        storage = CrashingStorage(f"{memory_url}/{step}{after}")
        _, log = storage.open_log(LOG)
        append_each(log, range(4))
        log.append(lines(4), durable=False)
        storage.step, storage.after = step, after
        told = [0, 1, 2, 3, 4]
        for number in range(5, 12):
            try:
                log.append(lines(number), durable=True)
                told.append(number)
            except Crash:
                log.append(lines(100 + number), durable=True)
                told.append(100 + number)
        assert storage.read_log(LOG) == lines(*told)


@pytest.mark.usefixtures("every_five")
def test_a_compaction_that_fails_fails_no_append(memory_url, monkeypatch, caplog):
    storage = open_storage(memory_url)
    _, log = storage.open_log(LOG)
    monkeypatch.setattr(segments, "_COMPACT_AGAIN", 3)
    create, remove_all = storage.create, storage.remove_all

    def refuse(name, *_):
        if "-" in str(name):
            raise PermissionError(13, "writing is not permitted", "there")
        return create(name, *_)

    monkeypatch.setattr(storage, "create", refuse)
    append_each(log, range(7))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "could not be made one" in caplog.text
    monkeypatch.setattr(storage, "create", create)
    monkeypatch.setattr(storage, "remove_all", lambda names, max_s: refuse("-"))
    append_each(log, range(7, 12))
    assert "could not be removed" in caplog.text
    assert storage.read_log(LOG) == lines(*range(12))
    monkeypatch.setattr(storage, "remove_all", remove_all)
    append_each(log, range(12, 20))
    assert storage.read_log(LOG) == lines(*range(20))
    assert len(storage.names("journal")) < 8


@pytest.mark.usefixtures("every_five")
def test_a_reader_during_compactions(s3_url):
    storage, reader = open_storage(s3_url), open_storage(s3_url)
    _, log = storage.open_log(LOG)
    n_told, errors, reads = 0, [], []
    over = threading.Event()

    def read():
        try:
            while not over.is_set():
                before = n_told
                content = reader.read_log(LOG)
                assert content == lines(*range(content.count(b"\n")))
                assert content.count(b"\n") >= before
                reads.append(content)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(60):
        log.append(lines(number), durable=True)
        n_told = number + 1
    over.set()
    thread.join()
    assert not errors
    assert len(reads) > 5


@pytest.mark.usefixtures("every_five")
@pytest.mark.parametrize("n_appends", [1, 5])
def test_a_compaction_between_listing_and_reading(memory_url, monkeypatch, n_appends):
    storage, reader = open_storage(memory_url), open_storage(memory_url)
    _, log = storage.open_log(LOG)
    append_each(log, range(5))
    names = reader.names

    def names_and_more(folder):
        found = names(folder)
        monkeypatch.setattr(reader, "names", names)
        append_each(log, range(5, 5 + n_appends))
        return found

    monkeypatch.setattr(reader, "names", names_and_more)
    assert reader.read_log(LOG) == lines(*range(5 + n_appends))


def test_a_missing_segment_is_named(memory_url, caplog):
    storage = open_storage(memory_url)
    _, log = storage.open_log(LOG)
    append_each(log, range(4))
    storage.remove("journal/00000003.jsonl")
    assert storage.read_log(LOG) == lines(0, 2, 3)
    assert "00000003 is missing" in caplog.text


def test_a_log_that_vanishes_or_is_taken_over(memory_url, monkeypatch):
    monkeypatch.setattr(segments, "_TRUST_S", 0.0)
    storage = open_storage(memory_url)
    _, log = storage.open_log(LOG)
    append_each(log, range(4))
    storage.write("journal/00000001-00000009.jsonl", lines(*range(9)))
    storage.remove("journal/00000005.jsonl")
    with pytest.raises(FileExistsError, match="somebody else has written"):
        log.append(lines(4), durable=True)
    fsspec.filesystem("memory").store.clear()
    with pytest.raises(FileNotFoundError, match="vanished"):
        log.append(lines(4), durable=True)


def test_ranges_that_overlap_are_two_searches(memory_url):
    storage = open_storage(memory_url)
    storage.write("journal/00000001-00000005.jsonl", lines(1))
    storage.write("journal/00000004-00000009.jsonl", lines(1))
    with pytest.raises(FileExistsError, match="two searches"):
        storage.read_log(LOG)


class Steps:
    """What a writer may do, and what must then be read."""

    append = st.tuples(st.just("append"), st.integers(1, 4), st.booleans())
    any = st.lists(st.one_of(append, append, st.just("flush"), st.just("reopen"), st.just("lose")), max_size=30)


@settings(max_examples=60, deadline=None)
@given(Steps.any, st.integers(2, 9))
def test_what_is_durable_is_read_in_order(steps, compact_every):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "COMPACT_EVERY", compact_every)
        fsspec.filesystem("memory").store.clear()
        storage = open_storage("memory://law")
        _, log = storage.open_log(LOG)
        durable, pending = b"", b""
        numbers = itertools.count()
        for step in steps:
            if step == "flush":
                log.flush()
                durable, pending = durable + pending, b""
            elif step in ("reopen", "lose"):  # a process that ends well, or that is killed
                if step == "reopen":
                    log.flush()
                    durable += pending
                    log.close()
                pending = b""
                content, log = storage.open_log(LOG)
                assert content == durable
            else:
                _, n_lines, is_durable = step
                new = lines(*itertools.islice(numbers, n_lines))
                log.append(new, is_durable)
                pending += new
                if is_durable:
                    durable, pending = durable + pending, b""
            assert storage.read_log(LOG) == durable
