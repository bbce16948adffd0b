"""What happens to a task that misbehaves, on Spark as without it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from hpo_spark import ProcessExecutor, SparkExecutor, TaskCancelled, TaskTimeout, WorkerCrashed
from hpo_spark.cache import HostCache
from hpo_spark.executors.base import drop_tasks


@pytest.fixture(params=["processes", "spark"])
def make(request, spark):
    def make(**options):
        return ProcessExecutor(**options) if request.param == "processes" else SparkExecutor(spark, **options)

    return make


def sleep_with_child(seconds):
    child = subprocess.Popen(["sleep", str(seconds)])
    print("started", child.pid)
    time.sleep(seconds)


def write_pids(path):
    child = subprocess.Popen(["sleep", "300"])
    with open(path, "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    time.sleep(300)


def die(how):
    print("last words")
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGSEGV if how == "segfault" else signal.SIGKILL)


def environment(_):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return [os.environ.get(name) for name in names], "tensorflow" in sys.modules, os.getpid()


def gone(pids):
    deadline = time.monotonic() + 15  # Spark takes a few seconds to end a cancelled task's worker
    while time.monotonic() < deadline:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            return True
        time.sleep(0.05)
    return False


def pids_in(path):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if path.exists() and len(path.read_text().split()) == 2:
            return [int(pid) for pid in path.read_text().split()]
        time.sleep(0.05)
    raise AssertionError("the task never began")


def test_a_task_past_its_time_is_killed_with_its_children(make, tmp_path):
    with make(slots=1, task_timeout_s=1.5) as executor:
        began = time.monotonic()
        future = executor.submit(write_pids, tmp_path / "pids")
        with pytest.raises(TaskTimeout, match=r"1\.5 s"):
            future.result(timeout=60)
        assert time.monotonic() - began < 30
        assert gone(pids_in(tmp_path / "pids"))
        assert executor.submit(abs, -1).result(timeout=60) == 1


@pytest.mark.parametrize(
    ("how", "cause"), [("exit", "exited with code 7"), ("segfault", "SIGSEGV"), ("kill", "killed by SIGKILL")]
)
def test_a_task_that_kills_its_process_is_told_from_others(make, how, cause):
    with make(slots=1) as executor:
        with pytest.raises(WorkerCrashed, match=cause):
            executor.submit(die, how).result(timeout=60)
        assert executor.submit(abs, -1).result(timeout=60) == 1


def leave_files(path, how):
    """As TensorFlow does, which removes its files only when Python ends in peace."""
    descriptor, file = tempfile.mkstemp()
    os.close(descriptor)
    open(os.path.join(tempfile.mkdtemp(), "inside"), "w").close()
    path.write_text(file)
    if how == "hang":
        time.sleep(300)
    if how != "end":
        die(how)
    return HostCache().root


def die_at_home(folder):
    """End the process whose folder it is."""
    if tempfile.gettempdir() == folder:
        die("exit")


@pytest.mark.parametrize("how", ["end", "kill", "hang"])
def test_temporary_files_go_with_the_process(make, tmp_path, how):
    with make(slots=1, task_timeout_s=3) as executor:
        future = executor.submit(leave_files, tmp_path / "file", how)
        if how == "end":
            assert future.result(timeout=60) == HostCache().root, "what processes share lies elsewhere"
        else:
            with pytest.raises((WorkerCrashed, TaskTimeout)):
                future.result(timeout=60)
        folder = Path((tmp_path / "file").read_text()).parent
        assert folder != Path(tempfile.gettempdir())
        assert folder.exists() == (how == "end")
        if how == "end":  # Spark has two workers, and gives the next task to either
            wait_until(lambda: executor.submit(die_at_home, str(folder)).exception(timeout=60) is not None)
        assert not folder.exists()
        again = executor.submit(tempfile.gettempdir).result(timeout=60)
        assert again != str(folder)
    if isinstance(executor, ProcessExecutor):
        assert not os.path.exists(again)


def test_a_crash_tells_the_last_words(make):
    with make(slots=1) as executor, pytest.raises(WorkerCrashed, match="last words"):
        executor.submit(print_and_die, 1).result(timeout=60)


def print_and_die(_):
    os.write(1, b"last words\n")
    os._exit(1)


def fork_and_die(_):
    if os.fork() == 0:
        time.sleep(30)  # holds the pipe open
        os._exit(0)
    os._exit(9)


def test_a_crash_is_noticed_though_a_forked_child_lives_on(make):
    began = time.monotonic()
    with make(slots=1) as executor, pytest.raises(WorkerCrashed, match="exited with code 9"):
        executor.submit(fork_and_die, 1).result(timeout=60)
    assert time.monotonic() - began < 20


def test_a_running_task_can_be_cancelled(make, tmp_path):
    with make(slots=1) as executor:
        future = executor.submit(write_pids, tmp_path / "pids")
        pids = pids_in(tmp_path / "pids")
        executor.cancel(future)
        following = executor.submit(are_gone, pids)
        with pytest.raises(TaskCancelled):
            future.result(timeout=60)
        assert following.result(timeout=60), "a slot is free only when the processes of its last task are gone"


def are_gone(pids):
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


def begin(path, number, gate):
    with open(path, "a") as file:
        file.write(f"{number} ")
    wait_until(gate.exists, seconds=60)


def test_what_has_begun_is_not_dropped_whatever_the_order(make, tmp_path):
    """Submitted at once, tasks reach Spark in any order; as many as there are slots begin."""
    with make(slots=2) as executor:
        for attempt in range(4):
            path, gate = tmp_path / str(attempt), tmp_path / f"gate-{attempt}"
            futures = [executor.submit(begin, path, number, gate) for number in range(4)]
            wait_until(lambda path=path: path.exists() and len(path.read_text().split()) == 2)
            time.sleep(0.3)  # what Spark tells of its jobs is a little late
            dropped = drop_tasks(executor, futures)
            begun = [futures[int(number)] for number in path.read_text().split()]
            assert not set(begun) & set(dropped)
            assert len(dropped) == 2
            gate.touch()
            for future in begun:
                future.result(timeout=60)
            for future in dropped:
                assert future.cancelled() or isinstance(future.exception(timeout=60), TaskCancelled)


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come true"
        time.sleep(0.02)


def command_of(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_processes_are_started_before_the_first_task(make):
    def trial_processes():
        family = psutil.Process().children(recursive=True)
        found = [process for process in family if "executors.child" in command_of(process)]
        return sum(process.pid == os.getsid(process.pid) for process in found)  # their guardians lead no session

    before = trial_processes()
    with make(slots=2) as executor:
        # Workers of Spark have served other tests, and may have theirs already.
        expected = before + 2 if isinstance(executor, ProcessExecutor) else 2
        executor.prestart()
        wait_until(lambda: trial_processes() >= expected)
        pids = {executor.submit(environment, n).result(timeout=60)[2] for n in range(4)}
        assert len(pids) <= 2
        assert trial_processes() == max(expected, before)


def leave_a_child(_):
    return os.getpid(), subprocess.Popen(["sleep", "300"]).pid


def test_processes_that_a_task_leaves_end_with_it(make):
    """Their memory and their cores would be the next one's."""
    with make(slots=1) as executor:
        first, child = executor.submit(leave_a_child, 0).result(timeout=60)
        assert executor.submit(are_gone, [child]).result(timeout=60)
        assert executor.submit(os.getpid).result(timeout=60) != first


def wait_for_children(_):
    child = subprocess.Popen(["true"])  # one that nothing holds is waited for by Popen itself
    n_ended = 0
    try:
        while True:
            os.wait()
            n_ended += 1
    except ChildProcessError:
        return n_ended * bool(child)


def test_a_task_may_wait_for_all_its_children(make):
    with make(slots=1, task_timeout_s=30) as executor:
        assert executor.submit(wait_for_children, 0).result(timeout=60) == 1


def test_only_what_does_not_run_yet_is_dropped(make, tmp_path):
    with make(slots=2) as executor:
        running = [executor.submit(write_pids, tmp_path / f"pids{index}") for index in range(2)]
        for index in range(2):
            pids_in(tmp_path / f"pids{index}")
        waiting = [executor.submit(abs, -index) for index in range(4)]
        time.sleep(0.5)
        assert set(drop_tasks(executor, [*running, *waiting])) == set(waiting)
        for future in running:
            executor.cancel(future)
        for future in waiting:
            assert future.cancelled() or isinstance(future.exception(timeout=60), TaskCancelled)


def test_threads_are_limited_and_the_process_is_reused(make):
    with make(slots=1) as executor:
        outcomes = [executor.submit(environment, index).result(timeout=60) for index in range(3)]
    assert all(variables == ["1"] * 4 for variables, _, _ in outcomes)
    if isinstance(executor, ProcessExecutor):
        assert len({pid for _, _, pid in outcomes}) == 1


def test_a_function_is_pickled_once(make):
    class Function:
        pickled = 0

        def __reduce__(self):
            Function.pickled += 1
            return _identity, ()

        def __call__(self, x):
            raise AssertionError("runs on the worker only, as another function")

    function = Function()
    with make(slots=1) as executor:
        assert [executor.submit(function, x).result(timeout=60) for x in range(5)] == [0, 1, 2, 3, 4]
        assert Function.pickled == 1


def _identity():
    return abs


def test_output_of_tasks_stays_out_of_the_drivers(make, capfd):
    with make(slots=1) as executor:
        executor.submit(print, "noise from a worker").result(timeout=60)
    assert "noise" not in "".join(capfd.readouterr())


def test_a_trial_process_dies_with_its_parent(tmp_path):
    """Also when the parent is killed: nobody is left to tell it."""
    script = (
        "import sys, time\n"
        "from hpo_spark import ProcessExecutor\n"
        "from test_trial_process import write_pids\n"
        "with ProcessExecutor(1) as executor:\n"
        "    executor.submit(write_pids, sys.argv[1]).result()\n"
    )
    path, temporary = tmp_path / "pids", tmp_path / "temporary"
    temporary.mkdir()
    paths = [os.path.dirname(__file__), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(temporary)}
    parent = subprocess.Popen([sys.executable, "-c", script, path], env=environment)
    try:
        trial, child = pids_in(path)
        assert len(list(temporary.iterdir())) == 1
        parent.kill()
        parent.wait()
        assert gone([trial, child])
        wait_until(lambda: not list(temporary.iterdir()), seconds=15)
    finally:
        parent.kill()
        for pid in pids_in(path):
            if psutil.pid_exists(pid):
                psutil.Process(pid).kill()
    assert child != trial


@pytest.mark.parametrize("options", [{"slots": 0}, {"slots": -1}, {"task_timeout_s": 0}, {"task_timeout_s": -2.0}])
def test_impossible_limits_are_refused(make, options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        make(**options)
