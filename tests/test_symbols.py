"""What a study file names by a file travels to workers that have neither the file nor what lies beside it."""

import subprocess
import sys
import threading

import pytest

from hpo_spark.pickling import dumps
from hpo_spark.symbols import load_symbol

ELSEWHERE = "import pickle, sys; print(pickle.load(sys.stdin.buffer)({'x': 3.0}))"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write files into a folder; modules that are imported from it are forgotten afterwards."""
    known = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(**files):
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return tmp_path

    yield write
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def called_elsewhere(function):
    """What a process says that was started in another folder."""
    command = [sys.executable, "-c", ELSEWHERE]
    return subprocess.run(command, input=dumps(function), cwd="/", capture_output=True, check=False)


@pytest.mark.parametrize(
    ("imports", "call"),
    [
        ("from helpers_of_mine import double", "double"),
        ("import helpers_of_mine", "helpers_of_mine.double"),
        ("import helpers_of_mine as mine", "mine.through_another"),
        ("from package_of_mine.inner import triple as double", "double"),
    ],
)
def test_what_a_file_imports_from_beside_itself_travels_with_it(write, imports, call):
    folder = write(
        models_of_mine=f"{imports}\n\ndef objective(params):\n    return {call}(params['x'])\n",
        helpers_of_mine="import others_of_mine\n\ndef double(x):\n    return 2 * x\n\n"
        "def through_another(x):\n    return others_of_mine.half(x)\n",
        others_of_mine="def half(x):\n    return x / 2\n",
        package_of_mine__inner="def triple(x):\n    return 3 * x\n",
    )
    objective = load_symbol(f"{folder}/models_of_mine.py:objective")
    ended = called_elsewhere(objective)
    assert ended.returncode == 0, ended.stderr.decode()
    assert float(ended.stdout) == objective({"x": 3.0})


def test_a_module_that_cannot_travel_is_imported_by_workers_as_ever(write):
    folder = write(
        models_of_mine="import locked_of_mine\n\ndef objective(params):\n    return locked_of_mine.same(params['x'])\n",
        locked_of_mine="import threading\nLOCK = threading.Lock()\n\ndef same(x):\n    with LOCK:\n        return x\n",
    )
    objective = load_symbol(f"{folder}/models_of_mine.py:objective")
    assert isinstance(sys.modules["locked_of_mine"].LOCK, type(threading.Lock()))
    dumps(objective)
    ended = called_elsewhere(objective)
    assert "No module named 'locked_of_mine'" in ended.stderr.decode()


def test_modules_elsewhere_are_not_sent(write, tmp_path_factory, monkeypatch):
    library = tmp_path_factory.mktemp("library")
    (library / "library_of_mine.py").write_text("def same(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(library))
    folder = write(
        models_of_mine="from library_of_mine import same\n\ndef objective(params):\n    return same(params['x'])\n"
    )
    ended = called_elsewhere(load_symbol(f"{folder}/models_of_mine.py:objective"))
    assert "No module named 'library_of_mine'" in ended.stderr.decode()
    del sys.modules["library_of_mine"]
