"""What the tests of the contract submit: functions and classes that every worker can import, quickly."""

import os
import sys
import threading
import time
from pathlib import Path


def double(x):
    if x == 13:
        raise ValueError("unlucky", x)
    return 2 * x


def describe(fn, /, *args, **kwargs):
    return fn, args, kwargs


def give(x):
    return x


def type_name(x):
    return type(x).__name__


def place(_):
    return os.getpid(), threading.get_ident()


def note(path, line):
    """Add a line to a file, whole, whoever else does so."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)
    return line


def touch(path):
    Path(path).touch()
    return path


def touch_after(path, seconds):
    time.sleep(seconds)
    return touch(path)


def hold(gate, value=None):
    """Return ``value`` once somebody opens the gate, a folder (see `kinds.Gate`)."""
    Path(gate, f"began-{value}-{os.urandom(8).hex()}").touch()
    deadline = time.monotonic() + 60
    while not Path(gate, "open").exists():
        if time.monotonic() > deadline:
            raise AssertionError("nobody opened the gate")
        time.sleep(0.005)
    return value


def hold_and_die(gate):
    hold(gate)
    os._exit(5)


def fail(error):
    raise error


def fail_for_a_cause(_):
    try:
        raise KeyError("the root of it")
    except KeyError as error:
        raise RuntimeError("what came of it") from error


def recurse(depth):
    return recurse(depth + 1) + 1


def nest(depth):
    nested = []
    for _ in range(depth):
        nested = [nested]
    return nested


def depth_of(nested):
    depth = 0
    while nested:
        (nested,) = nested
        depth += 1
    return depth


def numbers(_):
    """A generator: no pickler takes it."""
    yield from range(3)


class Adder:
    """Something with state, to call in several ways."""

    def __init__(self, offset=0):
        self.offset = offset

    def __call__(self, x):
        return x + self.offset

    def __eq__(self, other):
        return type(other) is Adder and other.offset == self.offset

    __hash__ = None

    def __repr__(self):
        return f"Adder({self.offset})"

    def add(self, x):
        return x + self.offset

    @classmethod
    def make(cls, offset):
        return cls(offset)

    @staticmethod
    def negative(x):
        return -x


class Trouble(Exception):
    pass


class Odd(BaseException):
    pass


class Falsey(Exception):
    def __bool__(self):
        return False


class Empty(Exception):
    def __len__(self):
        return 0


class NeedsArguments(Exception):
    """Pickles well and cannot be unpickled."""

    def __init__(self, code, reason):
        super().__init__(reason)
        self.code = code


class NoWords(Exception):
    def __str__(self):
        raise ValueError("words fail me")


class CannotPickleError(Exception):
    def __reduce__(self):
        raise TypeError("this error stays here")


class ExitsOnPickleError(Exception):
    def __reduce__(self):
        sys.exit(4)


def fail_custom(code):
    raise NeedsArguments(code, "custom")


class CannotPickle:
    def __reduce__(self):
        raise TypeError("this object stays here")


class CannotLoad:
    def __reduce__(self):
        return double, (13,)


class ExitsOnPickle:
    def __reduce__(self):
        sys.exit(4)


class ExitsOnLoad:
    def __reduce__(self):
        return sys.exit, (4,)


class DiesOnPickle:
    def __reduce__(self):
        os._exit(5)


class DiesOnLoad:
    def __reduce__(self):
        return os._exit, (5,)


class UnloadableFunction:
    """A function that goes well and does not arrive."""

    def __reduce__(self):
        return double, (13,)

    def __call__(self, x):
        return x


def make_one(cls):
    return cls()


def die(_):
    os._exit(5)
