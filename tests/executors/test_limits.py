"""Memory, output, isolation, and what a task leaves behind."""

import functools
import importlib
import os
import random
import subprocess
import sys
import time
import warnings

import numpy as np
import psutil
import pytest

from hpo_spark import (
    ConfigError,
    ConnectExecutor,
    MemoryExceeded,
    ProcessExecutor,
    SparkExecutor,
    TaskTimeout,
    WorkerCrashed,
)
from hpo_spark.executors.memory import anonymous_mb, tree_anonymous_mb
from hpo_spark.executors.outcome import report_of
from hpo_spark.executors.supervisor import Function, TaskLimits, TrialProcess


@pytest.fixture(params=["processes", "spark", pytest.param("connect", marks=pytest.mark.connect)])
def make(request):
    if request.param == "processes":
        return ProcessExecutor
    if request.param == "connect":
        return functools.partial(ConnectExecutor, request.getfixturevalue("remote_spark"))
    return functools.partial(SparkExecutor, request.getfixturevalue("spark"))


def hoard(mb):
    kept = [np.ones(1_000_000, np.uint8) for _ in range(mb)]
    time.sleep(60)
    return len(kept)


def hoard_in_a_child(mb):
    code = f"import time; kept = bytearray(b'x') * {mb * 10**6}; time.sleep(60)"
    subprocess.run([sys.executable, "-c", code], check=True)


def map_a_file(path):
    mapped = np.memmap(path, np.uint8, "r")
    total = int(mapped.sum(dtype=np.int64))
    time.sleep(0.5)
    return total


@pytest.mark.parametrize("task", [hoard, hoard_in_a_child])
def test_a_task_that_uses_too_much_memory_is_ended_and_nothing_else(make, task):
    with make(slots=1, memory_mb=400) as executor:
        with pytest.raises(MemoryExceeded, match="memory_mb=400") as raised:
            executor.submit(task, 600).result(timeout=60)
        assert raised.value.used_mb > 400
        assert report_of(raised.value).host
        assert executor.submit(abs, -1).result(timeout=60) == 1


def test_mapped_files_are_no_memory_of_the_task(make, tmp_path):
    path = tmp_path / "data"
    np.ones(600_000_000, np.uint8).tofile(path)
    with make(slots=1, memory_mb=400) as executor:
        assert executor.submit(map_a_file, path).result(timeout=60) == 600_000_000


def test_anonymous_memory_is_counted_over_the_tree():
    own = anonymous_mb(os.getpid())
    assert own > 1
    child = subprocess.Popen([sys.executable, "-c", "x = bytearray(b'x') * 50_000_000; print(flush=True); input()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    with child:
        child.stdout.readline()
        assert tree_anonymous_mb(os.getpid()) > own + 45
        child.communicate(b"\n")
    assert anonymous_mb(child.pid) == 0


def pid(_):
    return os.getpid()


def test_isolation_takes_a_new_process_for_each_trial(make):
    with make(slots=1, isolation="trial") as executor:
        pids = [executor.submit(pid, n).result(timeout=60) for n in range(3)]
    assert len(set(pids)) == 3
    assert not any(map(lives, pids))


def test_an_unknown_isolation_is_refused(make):
    with pytest.raises(ValueError, match=r"isolation must be one of \['worker', 'trial'\], got isolation='thread'"):
        make(isolation="thread")


def escape(path):
    """Start a process that leaves the session and loses its parent."""
    code = (
        "import os, sys, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        f"open({str(path)!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(300)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    while not os.path.exists(path) or not open(path).read():  # noqa: SIM115
        time.sleep(0.01)
    return int(open(path).read())


def escape_and_hang(path):
    escape(path)
    time.sleep(300)


def escape_and_die(path):
    escape(path)
    os._exit(3)


@pytest.mark.parametrize(("task", "error"), [(escape_and_hang, TaskTimeout), (escape_and_die, WorkerCrashed)])
def test_who_left_the_process_tree_is_ended_with_it(make, tmp_path, task, error):
    with make(slots=1, task_timeout_s=3) as executor, pytest.raises(error):
        executor.submit(task, tmp_path / "pid").result(timeout=60)
    assert not lives(int((tmp_path / "pid").read_text()))


def lives(number):
    return psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE


def print_and_hang(_):
    os.write(1, b"a line of native code\n")
    time.sleep(60)


def test_a_failure_tells_where_how_long_and_what_was_printed(make):
    with make(slots=1, task_timeout_s=1) as executor:
        error = executor.submit(print_and_hang, 0).exception(timeout=60)
        report = report_of(error)
        assert report.host
        assert report.started > 1e9
        assert 1 <= report.seconds < 30
        assert report.output == "a line of native code"
        assert report.n_lost == 0


def shout(n_bytes):
    line = b"x" * 99 + b"\n"
    for _ in range(n_bytes // len(line)):
        os.write(1, line)
    os.write(1, b"the end")
    time.sleep(7)
    os._exit(1)


def test_endless_output_is_bounded(make):
    with make(slots=1) as executor:
        report = report_of(executor.submit(shout, 40_000_000).exception(timeout=60))
    assert len(report.output) <= 17 << 20


# What a trial leaves behind in its process. This module travels by reference: it is imported there, once.
STATE = {"n": 0}
HISTORY = []
NUMBER = 0


def leave_traces(_):
    global NUMBER
    NUMBER += 1
    STATE["n"] += 1
    HISTORY.append(1)
    os.environ["TRACE"] = "here"
    os.environ.pop("PATH", None)
    os.chdir("/")
    os.umask(0o000)
    sys.path.insert(0, "/nowhere")
    random.seed(1)
    np.random.seed(1)
    warnings.simplefilter("error")
    sys.stdout = None


def traces(_):
    return {
        "module": (NUMBER, STATE["n"], len(HISTORY)),
        "environment": ("TRACE" in os.environ, "PATH" in os.environ),
        "folder": os.getcwd(),
        "umask": os.umask(0o022),
        "path": "/nowhere" in sys.path,
        "filters": len(warnings.filters),
        "stdout": sys.stdout is None,
    }


def draws(_):
    return random.random(), float(np.random.rand())


def test_a_task_finds_nothing_of_the_one_before(make):
    with make(slots=1) as executor:
        before = executor.submit(traces, 0).result(timeout=60)
        executor.submit(leave_traces, 0).result(timeout=60)
        assert executor.submit(traces, 0).result(timeout=60) == before
        drawn = [executor.submit(draws, 0).result(timeout=60) for _ in range(2)]
    assert before["module"] == (0, 0, 0)
    assert drawn[0] != drawn[1]
    assert before["environment"] == (False, True)


def use_late_import(_):
    import late_package.part

    return late_package.part.NUMBER  # the import finds it in sys.modules the second time, and sets no name then


def test_what_a_task_imports_late_can_be_used_again(make, tmp_path, monkeypatch):
    (tmp_path / "late_package").mkdir()
    (tmp_path / "late_package" / "__init__.py").write_text("")
    (tmp_path / "late_package" / "part.py").write_text("NUMBER = 5")
    monkeypatch.syspath_prepend(tmp_path)
    with make(slots=1) as executor:
        executor.submit(importlib.import_module, "late_package").result(timeout=60)
        assert [executor.submit(use_late_import, n).result(timeout=60) for n in range(3)] == [5, 5, 5]


def test_packages_of_another_interpreter_are_left_alone(make, tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "foreign_package.py").write_text("N = 0\ndef count(_):\n    global N\n    N += 1\n    return N\n")
    monkeypatch.syspath_prepend(folder)
    import foreign_package

    with make(slots=1) as executor:
        counts = [executor.submit(foreign_package.count, 0).result(timeout=60) for _ in range(3)]
        assert max(counts) > 1  # not 3 for sure: Spark has two workers


def test_globals_of_a_function_that_travels_by_value_are_new_each_time(make):
    variables = {"calls": [], "n": 0}
    exec("def count(_):\n    global n\n    n += 1\n    calls.append(1)\n    return n, len(calls)", variables)
    count = variables["count"]
    count.__module__ = "__main__"
    with make(slots=1) as executor:
        assert [executor.submit(count, 0).result(timeout=60) for _ in range(3)] == [(1, 1)] * 3


def set_keras(_):
    import keras

    keras.config.set_floatx("float64")
    keras.config.set_epsilon(1e-3)
    keras.config.set_dtype_policy("mixed_float16")
    keras.config.set_image_data_format("channels_first")
    return keras.layers.Dense(1).name


def keras_settings(_):
    import keras

    config = keras.config
    return config.floatx(), config.epsilon(), config.dtype_policy().name, config.image_data_format(), \
        keras.layers.Dense(1).name  # fmt: skip


def test_what_a_task_set_for_keras_is_put_back():
    with ProcessExecutor(1) as executor:
        executor.submit(set_keras, 0).result(timeout=120)
        assert executor.submit(keras_settings, 0).result(timeout=60) == (
            "float32", 1e-7, "float32", "channels_last", "dense")  # fmt: skip


def test_a_process_that_has_grown_is_started_again(monkeypatch):
    monkeypatch.setattr("hpo_spark.executors.supervisor._MAX_GROWTH_MB", 20.0)
    monkeypatch.setattr("hpo_spark.executors.supervisor._MIN_AGE_S", 0.0)
    with ProcessExecutor(1) as executor:
        pids = [executor.submit(leak, mb).result(timeout=60) for mb in (0, 5, 5, 50, 0)]
    assert len(set(pids[:4])) == 1
    assert pids[4] != pids[0]


def test_or_sooner_by_what_it_may_use():
    with ProcessExecutor(1, memory_mb=400) as executor:
        pids = [executor.submit(leak, mb).result(timeout=60) for mb in (0, 10, 60, 0)]
    assert pids[0] == pids[1] == pids[2] != pids[3]


def test_a_process_with_many_open_files_is_started_again():
    with ProcessExecutor(1) as executor:
        pids = [executor.submit(hold_files, n).result(timeout=60) for n in (20, 200, 0)]
    assert pids[0] == pids[1] != pids[2]


def hold_files(n):
    sys.modules["json"].held = [open(os.devnull) for _ in range(n)]  # noqa: SIM115
    return os.getpid()


def leak(mb):
    sys.modules["json"].leaked = [*getattr(sys.modules["json"], "leaked", []), np.ones(mb * 10**6, np.uint8)]
    return os.getpid()


def test_a_change_of_devices_takes_a_new_process():
    process = TrialProcess()
    function = Function("devices", dumps_of(devices), sys.path)
    try:
        seen = []
        for name in ("0", "0", "1"):
            environment = {"CUDA_VISIBLE_DEVICES": name}
            outcome = process.run(function, dumps_of(((0,), {})), TaskLimits(), environment=environment)
            seen.append((outcome.item, process.pid))
    finally:
        process.close()
    assert [device for device, _ in seen] == ["0", "0", "1"]
    assert seen[0][1] == seen[1][1] != seen[2][1]


def dumps_of(value):
    from hpo_spark.pickling import dumps

    return dumps(value)


def devices(_):
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def memory_growth(_):
    return os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH")


def test_no_trial_takes_a_whole_device(make):
    with make(slots=1) as executor:
        assert executor.submit(memory_growth, 0).result(timeout=60) == "true"


def test_a_gpu_on_a_local_master_is_refused(spark):
    with pytest.raises(ConfigError, match=r"gpus=1: the master local\[2\] gives tasks no GPUs"):
        SparkExecutor(spark, gpus=1)


def test_cores_that_a_local_master_does_not_give_are_refused(spark):
    with pytest.raises(ConfigError, match=r"cpus=2: .*--conf spark.task.cpus=2"):
        SparkExecutor(spark, cpus=2)


def test_submissions_wait_while_thousands_do(monkeypatch):
    monkeypatch.setattr("hpo_spark.executors.pooled._MAX_WAITING", 20)
    longest = 0
    with ProcessExecutor(1) as executor:
        futures = []
        for n in range(300):
            futures.append(executor.submit(abs, -n))
            longest = max(longest, len(executor._waiting))
        assert [future.result(timeout=60) for future in futures] == list(range(300))
    assert longest <= 20


def test_a_callback_may_submit_though_thousands_wait(monkeypatch):
    monkeypatch.setattr("hpo_spark.executors.pooled._MAX_WAITING", 1)
    more = []
    with ProcessExecutor(1) as executor:
        first = executor.submit(time.sleep, 0.3)
        first.add_done_callback(lambda _: more.extend(executor.submit(abs, -n) for n in range(5)))
        first.result(timeout=60)
        while len(more) < 5:
            time.sleep(0.01)
        assert [future.result(timeout=60) for future in more] == [0, 1, 2, 3, 4]


def test_a_task_may_be_given_a_multiple_of_the_time_that_others_have(make):
    with make(slots=1, task_timeout_s=1) as executor:
        patient = executor.submit_within(20, time.sleep, 2)
        assert patient.result() is None
        with pytest.raises(TaskTimeout, match="1.5 s"):
            executor.submit_within(1.5, time.sleep, 60).result()
        with pytest.raises(TaskTimeout, match="of 1 s"):
            executor.submit(time.sleep, 60).result()
