"""A server that fails: what passes is waited for, what does not is said at once, and no secret is in any text."""

import logging
import os
import signal
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
from conftest import KEY, SECRET, close_s3
from s3server import Server

from hpo_spark.storage import open_storage, retrying
from hpo_spark.storage.faults import is_passing
from hpo_spark.storage.remote import RemoteStorage

LOG = "journal.jsonl"


def lines(*numbers):
    return b"".join(b"%d\n" % number for number in numbers)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("status", [503, None], ids=["error", "cut"])
def test_passing_faults_are_waited_for(healthy, s3_url, status, after, caplog):
    caplog.set_level(logging.INFO, "hpo_spark")
    storage = open_storage(s3_url)
    storage.write("a", b"0")
    for call, expected in (
        (lambda: storage.write("a", b"1"), None),
        (lambda: storage.create("b", b"2"), None),
        (lambda: storage.copy("a", "c"), None),
        (lambda: storage.read("a"), b"1"),
        (lambda: storage.names(""), ["a", "b", "c"]),
        (lambda: storage.exists("a"), True),
        (lambda: storage.remove("c"), None),
        (lambda: storage.exists("c"), False),
        (storage.check_writable, None),
    ):
        healthy.faults.clear()
        caplog.clear()
        healthy.fail(status=status, times=2, after=after)
        assert call() == expected
        assert all(fault.times == 0 for fault in healthy.faults)
        levels = [record.levelno for record in caplog.records]
        assert levels in ([logging.WARNING, logging.INFO], 2 * [logging.WARNING, logging.INFO])
    assert storage.names("") == ["a", "b"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "RequestTimeout"),
        (409, "ConditionalRequestConflict"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (502, "BadGateway"),
        (503, "SlowDown"),
    ],
)
def test_each_kind_of_passing_error(healthy, s3_url, status, code):
    healthy.fail(status=status, code=code)
    open_storage(s3_url).create("a", b"1")
    assert open_storage(s3_url).read("a") == b"1"
    assert healthy.faults[0].times == 0


@pytest.mark.parametrize("status", [503, None])
def test_an_append_whose_answer_is_lost(healthy, s3_url, status):
    storage = open_storage(s3_url)
    _, log = storage.open_log(LOG)
    for number in range(6):
        healthy.fail(status=status, method="PUT", after=number % 2 == 0)
        log.append(lines(number), durable=True)
    assert storage.read_log(LOG) == lines(*range(6))
    assert len(storage.names("journal")) == 7


def test_create_whose_answer_is_lost_and_that_somebody_else_had_won(healthy, s3_url):
    storage = open_storage(s3_url)
    storage.create("lease-1.json", b"theirs")
    healthy.fail(status=503, method="PUT", times=2)
    with pytest.raises(FileExistsError):
        storage.create("lease-1.json", b"ours")
    assert storage.read("lease-1.json") == b"theirs"


def test_an_append_that_failed_for_good_may_be_made_again(healthy, s3_url):
    storage = RemoteStorage(s3_url, retry_s=0)
    _, log = storage.open_log(LOG)
    log.append(lines(0), durable=False)
    healthy.fail(status=503, method="PUT", after=True)
    with pytest.raises(
        OSError, match="writing failed, and was tried once; the last reason was .*ServiceUnav|try again"
    ):
        log.append(lines(1), durable=True)
    log.append(lines(1), durable=True)
    # Another one in its place: what was tried before has been told to nobody.
    healthy.fail(status=503, method="PUT", after=True)
    with pytest.raises(OSError, match="tried once"):
        log.append(lines(2), durable=True)
    log.append(lines(3), durable=True)
    log.append(lines(4), durable=True)
    assert storage.read_log(LOG) == lines(0, 1, 3, 4)


def test_patience_ends_with_a_sentence(healthy, s3_url, caplog):
    storage = RemoteStorage(s3_url, retry_s=1.2)
    _, log = storage.open_log(LOG)
    log.append(lines(0), durable=True)
    healthy.fail(status=503, times=10**6)
    began = time.monotonic()
    with pytest.raises(OSError, match="writing failed, and was tried for 1 s") as caught:
        log.append(lines(1), durable=True)
    assert 1.0 < time.monotonic() - began < 3.0
    assert caught.value.filename == f"{s3_url}/journal/00000003.jsonl"
    assert "What was written before is safe there" in caught.value.strerror
    # What follows does not wait for the same fault once more.
    began = time.monotonic()
    for call in (lambda: log.append(lines(1), durable=True), lambda: storage.write("result.json", b"{}")):
        with pytest.raises(OSError, match="was tried"):
            call()
    assert time.monotonic() - began < 0.9
    healthy.faults.clear()
    log.append(lines(1), durable=True)
    # All is well again: so is patience.
    healthy.fail(status=503, times=4)
    log.append(lines(2), durable=True)
    assert storage.read_log(LOG) == lines(0, 1, 2)


def test_hurry_ends_the_wait(healthy, s3_url):
    storage = open_storage(s3_url)
    healthy.fail(status=503, times=10**6)
    threading.Timer(0.3, storage.hurry).start()
    began = time.monotonic()
    with pytest.raises(OSError, match="tried"):
        storage.write("a", b"1")
    assert time.monotonic() - began < 3.0


def test_an_interrupt_ends_the_wait(healthy, s3_url, monkeypatch):
    monkeypatch.setattr(retrying, "_MAX_PAUSE_S", 30.0)
    monkeypatch.setattr(retrying, "_FIRST_PAUSE_S", 30.0)
    healthy.fail(status=503, times=10**6)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        open_storage(s3_url).write("a", b"1")
    assert time.monotonic() - began < 5.0


def test_many_reads_under_many_faults(healthy, s3_url):
    """A batch is not begun anew for each part of it that fails."""
    storage = open_storage(s3_url)
    _, log = storage.open_log(LOG)
    for number in range(40):
        log.append(lines(number), durable=True)
    for number in range(40):
        healthy.fail(status=503, method="GET", path=f"journal/{number + 1:08d}.jsonl", times=number % 5)
    healthy.requests.clear()
    assert storage.read_log(LOG) == lines(*range(40))
    assert len(healthy.requests) == 1 + 41 + sum(number % 5 for number in range(40))


def test_a_server_that_restarts_between_appends(healthy, s3_url):
    """Every connection breaks for a while. The server forgets its files when it ends, so its door is shut instead."""
    storage = open_storage(s3_url)
    _, log = storage.open_log(LOG)

    def restart():
        time.sleep(0.3)
        healthy.fail(status=None, times=10**6)
        time.sleep(0.5)
        healthy.faults.clear()

    with ThreadPoolExecutor(1) as pool:
        over = pool.submit(restart)
        number = 0
        while not over.done() or number < 20:
            log.append(lines(number), durable=True)
            number += 1
    assert storage.read_log(LOG) == lines(*range(number))


def test_a_server_that_really_stops_and_starts(monkeypatch, s3):
    server = Server()
    server.start()
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": server.url})
    try:
        server.request("PUT", "/studies")
        storage = RemoteStorage("s3://studies/restart")
        storage.write("a", b"1")
        server.stop()
        with ThreadPoolExecutor(1) as pool:
            later = pool.submit(lambda: (time.sleep(0.3), server.start(), server.request("PUT", "/studies")))
            # The bucket may be gone for a moment, as this server forgets it: that is final, and here expected.
            deadline = time.monotonic() + 20
            while True:
                try:
                    storage.write("a", b"2")
                    break
                except FileNotFoundError:
                    assert time.monotonic() < deadline
            later.result()
        assert storage.read("a") == b"2"
    finally:
        close_s3()
        server.stop()


def assert_no_secret(caught, caplog):
    texts = [str(caught.value), repr(caught.value), caplog.text, "".join(traceback.format_exception(caught.value))]
    assert not any(secret in text for text in texts for secret in (SECRET, KEY))


def test_a_missing_bucket_is_final(healthy, caplog):
    storage = RemoteStorage("s3://missing/run")
    began = time.monotonic()
    for call in (
        storage.check_writable,
        lambda: storage.open_log(LOG),
        lambda: storage.read("a"),
        lambda: storage.write("a", b""),
        lambda: storage.create("a", b""),
        lambda: storage.names(""),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            call()
        assert_no_secret(caught, caplog)
        # For HEAD, a server does not say what is missing.
        assert "no such bucket" in caught.value.strerror or call is not storage.check_writable
    assert time.monotonic() - began < 5.0
    assert not caplog.records


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken"])
def test_what_is_not_permitted_is_final(healthy, s3_url, code, caplog):
    storage = open_storage(s3_url)
    storage.write("a", b"1")
    status = 400 if code == "ExpiredToken" else 403
    healthy.fail(status=status, times=10**6, code=code, message=f"not with {KEY} and {SECRET}")
    began = time.monotonic()
    for call in (
        storage.check_writable,
        lambda: storage.open_log(LOG),
        lambda: storage.read("a"),
        lambda: storage.create("b", b""),
        lambda: storage.copy("a", "b"),
        lambda: storage.remove("a"),
    ):
        if status == 403 or call is storage.check_writable:
            with pytest.raises(PermissionError, match="check the credentials") as caught:
                call()
            assert_no_secret(caught, caplog)
    assert time.monotonic() - began < 5.0
    assert not caplog.records


def test_wrong_credentials_on_a_server_that_checks_them(healthy, monkeypatch, caplog):
    monkeypatch.setitem(fsspec.config.conf, "s3", {"key": KEY, "secret": SECRET})
    healthy.server.request("POST", "/moto-api/reset-auth", b"0")
    try:
        with pytest.raises(PermissionError, match="check the credentials") as caught:
            RemoteStorage("s3://studies/run").check_writable()
        assert_no_secret(caught, caplog)
    finally:
        healthy.server.request("POST", "/moto-api/reset-auth", b"inf")


def test_no_credentials_at_all(healthy, monkeypatch, caplog):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"use_ssl": False})  # a client of its own
    with pytest.raises(OSError, match="credentials"):
        RemoteStorage("s3://studies/run").check_writable()
    assert not caplog.records


def test_the_logs_of_a_failing_run_hold_no_secret(healthy, caplog):
    caplog.set_level(logging.DEBUG, "hpo_spark")
    storage = RemoteStorage(f"s3://{KEY}:{SECRET}@studies/secret", retry_s=0.3)
    healthy.fail(status=503, times=10**6, message=f"busy with {KEY}, {SECRET}")
    with pytest.raises(OSError, match="busy with") as caught:
        storage.write("a", b"1")
    assert caplog.records
    assert_no_secret(caught, caplog)
    healthy.faults.clear()
    storage.write("a", b"1")
    assert not any(secret in text for secret in (KEY, SECRET) for text in (str(storage), repr(storage), storage.name))


class GoogleError(Exception):
    def __init__(self, code):
        self.code = code


class AzureError(Exception):
    def __init__(self, status):
        self.status_code = status


def test_the_errors_of_other_libraries():
    assert is_passing(GoogleError(503))
    assert is_passing(AzureError(429))
    assert is_passing(OSError(255, "Hadoop"))
    assert is_passing(ConnectionResetError())
    assert is_passing(TimeoutError())
    assert not is_passing(GoogleError(412))
    assert not is_passing(AzureError(403))
    assert not is_passing(PermissionError())
    assert not is_passing(ValueError("wrong"))
