"""Data in place: mapped by trial processes, loaded once in each, gone at the end."""

import logging
import os
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpo_spark import (
    Choice,
    DataSource,
    Float,
    FunctionObjective,
    KerasObjective,
    ProcessExecutor,
    SearchSpace,
    SparkExecutor,
    Study,
    TrialState,
)
from hpo_spark.cache import HostCache
from hpo_spark.data.placement import placed
from hpo_spark.data.recipe import Recipe
from hpo_spark.executors.serial import SerialExecutor
from hpo_spark.objectives.mlp import build_model
from hpo_spark.pickling import large_captures

SPACE = SearchSpace(a=Float(0, 1))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HPO_SPARK_CACHE", str(tmp_path / "cache"))
    return HostCache()


@pytest.fixture(params=["processes", "spark"])
def executor(request):
    is_local = request.param == "processes"
    with ProcessExecutor(2) if is_local else SparkExecutor(request.getfixturevalue("spark")) as made:
        yield made


def arrays(n=200):
    x = np.random.default_rng(0).random((n, 6)).astype(np.float32)
    return x, (x[:, 0] > 0.5).astype(np.int64)


def look(params, context):
    """Which files a trial maps, and how often its process has mapped some."""
    import numpy

    calls = vars(numpy).setdefault("_calls_of_tests", [])
    if not calls:
        load = numpy.load
        numpy.load = lambda *args, **options: calls.append(args) or load(*args, **options)
        calls.append("patched")
    data = context.data
    with open("/proc/self/maps") as maps:
        files = sorted({line.split()[-1] for line in maps if line.endswith(".npy\n")})
    return {"value": float(data.train.x.sum()), "files": files, "loads": len(calls) - 1, "pid": os.getpid()}


def total(params, context):
    return float(context.data.train.x.sum())


def search(objective, executor, n=6, **options):
    return Study(SPACE, objective, seed=0, **options).run(executor, n)


def test_trials_map_the_data_and_the_second_of_a_process_loads_none(executor, cache):
    result = search(FunctionObjective(look, arrays()), executor)
    assert [trial.error for trial in result.trials] == [None] * 6
    files = {file for trial in result.trials for file in trial.metrics["files"] if file.startswith(str(cache.root))}
    if isinstance(executor, ProcessExecutor):
        assert sorted(os.path.basename(file) for file in files) == [
            "train-x.npy",
            "train-y.npy",
            "validation-x.npy",
            "validation-y.npy",
        ]
    loads = {}
    for trial in result.trials:
        loads.setdefault(trial.metrics["pid"], set()).add(trial.metrics["loads"])
    assert len(loads) < 6
    assert all(counts == {4} for counts in loads.values())  # as many after the last trial as after the first
    assert cache.n_bytes() == 0


def test_what_trials_see_is_what_a_search_in_one_process_sees(executor, tmp_path):
    images, labels = (np.arange(60 * 28 * 28) % 251).astype(np.uint8).reshape(60, 28, 28), np.arange(60) % 10
    np.savez(tmp_path / "images.npz", x=images, y=labels)
    objective = FunctionObjective(total, {"npz": str(tmp_path / "images.npz")})
    there, here = (search(objective, one, 2) for one in (executor, SerialExecutor()))
    assert [trial.value for trial in there.trials] == [trial.value for trial in here.trials]
    assert 0 < here.trials[0].value < 60 * 28 * 28  # they are floats in [0, 1]
    assert KerasObjective(build_model, {"npz": str(tmp_path / "images.npz")}).data.load(0).train.x.dtype == np.uint8


def meddle(params, context):
    """Writes into the data, as scaling in place does."""
    from sklearn.preprocessing import StandardScaler

    x = context.data.train.x
    if params["how"] == "by scikit-learn":
        x = StandardScaler(copy=False).fit_transform(x)
    elif params["how"] == "in a copy":
        x = x.copy()
        x -= 1
    elif params["how"] == "in place":
        x -= 1
    elif params["how"] == "by force":
        x.flags.writeable = True
        x -= 1
    return {"value": 0.0, "sum": float(context.data.train.x.sum()), "pid": os.getpid()}


@pytest.mark.parametrize("kind", ["arrays", "function"])
@pytest.mark.parametrize("where", ["processes", "spark", "here"])
def test_no_trial_sees_what_another_wrote_into_the_data(request, kind, where):
    if where == "spark":
        executor = SparkExecutor(request.getfixturevalue("spark"), slots=1)
    else:
        executor = SerialExecutor() if where == "here" else ProcessExecutor(1)
    own = arrays()
    before = [array.copy() for array in own]
    hows = ["not at all", "by scikit-learn", "in a copy", "in place", "by force"]
    space = SearchSpace(how=Choice([*hows, "not any more"]))
    with executor:
        objective = FunctionObjective(meddle, own if kind == "arrays" else lambda: own)
        result = Study(space, objective, "grid", seed=0).run(executor, give_up_after=None)
    trials = {trial.params["how"]: trial for trial in result.trials}
    assert len({trial.metrics["sum"] for trial in result.trials if trial.values}) == 1
    assert all(trials[how].values for how in ("not at all", "by scikit-learn", "in a copy", "not any more"))
    assert {trials[how].state for how in ("in place", "by force")} == {TrialState.FAILED}
    assert "can only be read" in trials["in place"].error
    assert "x = context.data.train.x.copy()" in trials["in place"].error
    for array, untouched in zip(own, before, strict=True):
        assert array.flags.writeable, "it is the user's"
        assert (array == untouched).all()


def test_files_that_are_not_on_a_host_come_over_spark(spark, cache, tmp_path):
    (tmp_path / "big.bin").write_bytes(b"abc" * 1000)
    with SparkExecutor(spark) as executor:
        shared = executor.share(tmp_path / "big.bin", "me")
        # As on another host: it is not where a worker looks.
        executor._files._paths[shared] = (cache.root / shared.key).rename(tmp_path / "elsewhere")
        futures = [executor.submit(read, shared) for _ in range(4)]
        assert {future.result(timeout=60) for future in futures} == {(3000, "big.bin")}
        executor.unshare("me")
        assert {executor.submit(finds, shared).result(timeout=60) for _ in range(2)} == {False}
    assert (tmp_path / "big.bin").exists()


def read(shared):
    path = shared.resolve()
    return len(path.read_bytes()), path.name


def finds(shared):
    return shared.find() is not None


def test_parquet_is_read_on_the_host_and_not_by_the_driver(executor, cache, tmp_path, monkeypatch):
    x, y = arrays(300)
    pq.write_table(pa.table({**{f"c{n}": x[:, n] for n in range(6)}, "y": y}), tmp_path / "data.parquet")
    source = DataSource.of({"parquet": str(tmp_path / "data.parquet"), "label": "y", "features": ["c0", "c5"]})
    monkeypatch.setattr(type(source.recipe), "load", refuse)  # of this process; trials have their own
    result = search(FunctionObjective(look, source), executor, 4)
    assert [trial.error for trial in result.trials] == [None] * 4
    assert all(trial.value == pytest.approx(result.trials[0].value) for trial in result.trials)
    assert cache.n_bytes() == 0


class Noted(Recipe):
    """Arrays that each host reads; says when that was done."""

    describe, where = "noted", "host"

    def __init__(self, log):
        self.log = log

    def key(self):
        return str(self.log)

    def load(self):
        data = arrays()
        with open(self.log, "a") as file:
            file.write(f"{time.time()}\n")
        return data


def test_reading_on_the_host_is_no_trials_time(executor, cache, tmp_path):
    """Nor is it within its limit; trials of later processes find it done."""
    result = search(FunctionObjective(total, DataSource(Noted(tmp_path / "log"))), executor)
    (read_at,) = map(float, (tmp_path / "log").read_text().split())
    assert [trial.error for trial in result.trials] == [None] * 6
    assert all(trial.started >= read_at for trial in result.trials)
    assert cache.n_bytes() == 0
    assert not executor._setups


def test_what_cannot_be_read_on_a_host_is_told_by_the_trials(executor, tmp_path):
    result = search(FunctionObjective(total, DataSource(Noted(tmp_path / "nowhere" / "log"))), executor, 2)
    assert all("nowhere" in trial.error for trial in result.trials)


def refuse(recipe):
    raise AssertionError("the driver read the data")


def test_a_loading_function_runs_once_in_each_process(tmp_path):
    (tmp_path / "my_data.py").write_text(
        "import os\n"
        "import numpy as np\n"
        "def load():\n"
        f"    with open({str(tmp_path / 'calls')!r}, 'a') as file:\n"
        "        file.write(f'{os.getpid()}\\n')\n"
        "    return np.ones((20, 2)), np.zeros(20)\n"
    )
    with ProcessExecutor(2) as executor:
        result = search(FunctionObjective(look, f"{tmp_path}/my_data.py:load"), executor)
    assert [trial.error for trial in result.trials] == [None] * 6
    calls = (tmp_path / "calls").read_text().split()
    assert sorted(calls) == sorted({str(trial.metrics["pid"]) for trial in result.trials})


def test_streams_are_made_once_and_begin_anew_for_each_trial(tmp_path):
    import tensorflow as tf

    made = []

    def load():
        made.append(1)
        numbers = tf.data.Dataset.from_tensor_slices((np.arange(40, dtype=np.float32)[:, None], np.arange(40)))
        noisy = numbers.shuffle(40, seed=3).map(lambda x, y: (x + tf.random.uniform([], seed=4), y))
        generated = tf.data.Dataset.from_generator(
            lambda: iter([([0.0], 1)]), output_signature=(tf.TensorSpec([1]), tf.TensorSpec([], tf.int32))
        )
        return noisy.batch(8), generated.batch(1)

    source = DataSource.of(load)
    orders = [[x.numpy().ravel().tolist() for x, _ in source.load(0).train.x] for _ in range(3)]
    assert orders[0] == orders[1] == orders[2]
    twice = source.load(0).train.x
    assert [y.numpy().tolist() for _, y in twice] != [y.numpy().tolist() for _, y in twice]  # an epoch and the next
    assert len(made) == 1
    assert len(list(source.load(0).validation.x)) == 1


def test_nothing_is_placed_where_workers_are_this_process(cache):
    objective = FunctionObjective(look, arrays())
    with placed(objective, SerialExecutor(), 0) as same:
        assert same is objective
    with ProcessExecutor(1) as executor:
        with placed(objective, executor, 0) as other:
            assert other.data.load(0).train.x.shape == (170, 6)
            assert cache.n_bytes() > 0
            assert objective.data is not other.data
        assert cache.n_bytes() == 0


def test_passwords_of_places_reach_neither_messages_nor_files(tmp_path, caplog):
    url = "memory://ann:hunter2secret@host/table.parquet"
    source = DataSource.of({"parquet": url, "label": "y"})
    assert "hunter2secret" not in source.describe
    with pytest.raises(ValueError, match="table.parquet") as raised:
        source.prepare()
    assert "hunter2secret" not in str(raised.value)
    study = Study(SPACE, FunctionObjective(look, source), out=tmp_path / "run")
    assert "hunter2secret" not in str(study.describe())


def test_what_an_objective_captures_and_is_large_is_named(caplog):
    table, small = np.ones(300_000), np.ones(10)

    def objective(params, bias=small):
        return float(table.sum() + bias.sum()) * params["a"]

    assert large_captures(objective) == ["the captured variable 'table' (ndarray, 2.4 MB)"]
    inner = FunctionObjective(objective)
    assert large_captures(inner) == ["the captured variable 'table' (ndarray, 2.4 MB)"]
    with ProcessExecutor(1) as executor, caplog.at_level(logging.WARNING):
        search(objective, executor, 1)
    assert "'table' (ndarray, 2.4 MB)" in caplog.text
    caplog.clear()
    with ProcessExecutor(1) as executor, caplog.at_level(logging.WARNING):
        search(FunctionObjective(look, (np.ones((100_000, 6)), np.zeros(100_000))), executor, 1)
    assert not caplog.records  # data is no capture
