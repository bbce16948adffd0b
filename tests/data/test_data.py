import gzip

import cloudpickle
import numpy as np
import pytest

from hpo_spark import DataError, DataSource
from hpo_spark.data.dataset import as_dataset, parse_validation
from hpo_spark.data.named import locate


def arrays(n=100, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, 3)), rng.integers(0, 4, n)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A machine without any dataset: no folder, an empty Keras cache, and no network."""
    monkeypatch.delenv("HPO_SPARK_DATA", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr("hpo_spark.data.named._download", refuse)
    return tmp_path


def refuse(name):
    raise OSError("no route to host")


def write_mnist(path, offset=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    images = (np.arange(40 * 28 * 28) % 251 + offset).astype(np.uint8).reshape(40, 28, 28)
    labels = (np.arange(40) % 10).astype(np.uint8)
    np.savez(path, x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    return path


def test_digits_ship_with_scikit_learn():
    dataset = DataSource.of("digits", 0.15).load(0)
    assert dataset.train.x.shape[1:] == dataset.input_shape == (8, 8)
    assert dataset.n_classes == 10
    assert 0 <= dataset.train.x.min() <= dataset.train.x.max() <= 1
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [1222, 216, 359]


def test_the_split_follows_the_seed_and_leaves_the_test_part_alone():
    a, again, other = (DataSource.of("digits").load(seed) for seed in (0, 0, 1))
    assert np.array_equal(a.validation.x, again.validation.x)
    assert not np.array_equal(a.validation.y, other.validation.y)
    assert np.array_equal(a.test.x, other.test.x)


def test_the_split_loses_no_row_and_doubles_none():
    x = np.arange(101)[:, None]
    dataset = DataSource.of((x, x[:, 0]), 0.15).load(3)
    rows = np.concatenate([dataset.train.y, dataset.validation.y])
    assert sorted(rows) == list(range(101))
    assert len(dataset.validation) == 16
    assert all(np.array_equal(part.x[:, 0], part.y) for part in (dataset.train, dataset.validation))


def test_the_last_rows_can_be_the_validation_part():
    x = np.arange(100)[:, None]
    dataset = DataSource.of((x, x[:, 0]), "last 0.15").load(3)
    assert dataset.validation.y.tolist() == list(range(85, 100))


def test_weights_stay_with_their_rows():
    x = np.arange(50)[:, None]
    dataset = DataSource.of((x, x[:, 0], np.arange(50) / 10)).load(1)
    assert np.array_equal(dataset.train.sample_weight, dataset.train.y / 10)
    weighted = DataSource.of((x, x[:, 0]), 0.2).with_sample_weight(np.arange(50) * 2).load(1)
    assert np.array_equal(weighted.validation.sample_weight, weighted.validation.y * 2)
    with pytest.raises(DataError, match="sample_weight has 3 entries"):
        DataSource.of((x, x[:, 0])).with_sample_weight(np.arange(3)).load(1)


@pytest.mark.parametrize("text", ["first 0.1", "last", "0", "1.0", "-0.1", "last 1.5", "half", "0.1 0.2", True, ""])
def test_bad_validations_are_refused(text):
    with pytest.raises(DataError, match="0.15"):
        parse_validation(text)


def test_what_a_loading_function_may_return():
    train, test, validation = arrays(80), arrays(20, 1), arrays(10, 2)
    for raw in (
        (train, test),
        {"train": train, "test": test},
        {"x_train": train[0], "y_train": train[1], "x_test": test[0], "y_test": test[1]},
    ):
        dataset = as_dataset(raw)
        assert np.array_equal(dataset.train.x, train[0])
        assert np.array_equal(dataset.test.y, test[1])
        assert dataset.validation is None
    for raw in ((train, validation, test), {"train": train, "val": validation, "test": test}):
        dataset = as_dataset(raw)
        assert np.array_equal(dataset.validation.x, validation[0])
        assert np.array_equal(dataset.test.x, test[0])
    assert as_dataset({"x": train[0], "y": train[1]}).test is None
    assert as_dataset(train).test is None


@pytest.mark.parametrize(
    "raw",
    [
        3,
        "mnist",
        {"x": [1]},
        (np.zeros((3, 2)), np.zeros(4)),
        (np.zeros((3, 2)), None),
        (np.zeros(()), np.zeros(3)),
        (np.array([object()]), np.zeros(1)),
        (np.zeros((3, 2)), np.zeros(3), np.zeros(2)),
    ],
)
def test_what_is_no_data_is_refused(raw):
    with pytest.raises(DataError):
        as_dataset(raw)


def test_own_validation_parts_are_kept_and_not_doubled():
    raw = (arrays(80), arrays(20, 1), arrays(10, 2))
    assert len(DataSource.of(raw).load(0).validation) == 20
    with pytest.raises(DataError, match="validation part of its own"):
        DataSource.of(raw, 0.15).load(0)


def test_an_npz_file_is_a_dataset(tmp_path):
    x, y = arrays()
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    for data in (str(tmp_path / "mine.npz"), {"npz": str(tmp_path / "mine.npz")}, tmp_path / "mine.npz"):
        source = DataSource.of(data)
        source.prepare()
        dataset = source.load(0)
        assert len(dataset.train) + len(dataset.validation) == 100
        assert dataset.test is None
        assert dataset.n_classes == 4


def test_images_of_bytes_are_scaled(tmp_path):
    dataset = DataSource.of({"npz": str(write_mnist(tmp_path / "images.npz"))}).load(0)
    assert dataset.train.x.dtype == np.float32
    assert 0 <= dataset.train.x.min() <= dataset.train.x.max() <= 1
    assert dataset.train.y.dtype == np.int64


def test_bad_files_are_named(tmp_path):
    with pytest.raises(DataError, match="missing.npz"):
        DataSource.of(str(tmp_path / "missing.npz")).prepare()
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 this is no archive")
    with pytest.raises(DataError, match="broken.npz"):
        DataSource.of(str(tmp_path / "broken.npz")).load(0)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(DataError, match=r"other.npz.*x_train"):
        DataSource.of(str(tmp_path / "other.npz")).load(0)
    np.savez(tmp_path / "pickled.npz", x=np.array([{}]), y=np.zeros(1))
    with pytest.raises(DataError, match="pickled.npz"):
        DataSource.of(str(tmp_path / "pickled.npz")).load(0)


def test_mnist_is_looked_for_in_four_places(home, monkeypatch):
    with pytest.raises(DataError) as raised:
        locate("mnist", str(home / "explicit.npz"), None)
    message = str(raised.value)
    assert all(words in message for words in ("explicit.npz", "HPO_SPARK_DATA", "Keras' cache", "no route to host"))

    cached = write_mnist(home / "keras" / "datasets" / "mnist.npz")
    assert locate("mnist", None, None) == cached
    in_folder = write_mnist(home / "folder" / "mnist.npz")
    assert locate("mnist", None, str(home / "folder")) == in_folder
    explicit = write_mnist(home / "explicit.npz")
    assert locate("mnist", str(explicit), str(home / "folder")) == explicit

    monkeypatch.setenv("HPO_SPARK_DATA", str(home / "folder"))
    source = DataSource.of("mnist")
    source.prepare()
    assert source.load(0).input_shape == (28, 28)
    explicit_source = DataSource.of({"mnist": str(explicit)})
    explicit_source.prepare()
    assert len(explicit_source.load(0).test) == 10


def test_fashion_mnist_is_read_from_keras_cache(home):
    folder = home / "keras" / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    for part, n in (("train", 30), ("t10k", 10)):
        images = np.arange(n * 28 * 28, dtype=np.uint8).reshape(n, 28, 28)
        header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in images.shape)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
        header = bytes([0, 0, 8, 1]) + n.to_bytes(4, "big")
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header + bytes(i % 10 for i in range(n))))
    dataset = DataSource.of("fashion_mnist").load(0)
    assert dataset.input_shape == (28, 28)
    assert len(dataset.test) == 10
    assert dataset.test.y.tolist() == list(range(10))
    assert dataset.test.x[0, 0, :3].tolist() == pytest.approx([0, 1 / 255, 2 / 255])


def test_a_function_is_called_where_it_is_used_and_once(tmp_path):
    (tmp_path / "my_data.py").write_text(
        "import numpy as np\n"
        "calls = 0\n"
        "def load():\n"
        "    global calls\n"
        "    calls += 1\n"
        "    return np.full((20, 2), calls), np.zeros(20)\n"
        "number = 3\n"
    )
    source = DataSource.of(f"{tmp_path}/my_data.py:load")
    assert source.load(0).train.x.max() == 1
    assert source.load(0).train.x.max() == 1
    travelled = cloudpickle.loads(cloudpickle.dumps(source))
    assert len(travelled.load(0).train) == 17
    with pytest.raises(DataError, match="expected a function"):
        DataSource.of(f"{tmp_path}/my_data.py:number")
    with pytest.raises(ValueError, match=r"no 'lod'.*load"):
        DataSource.of(f"{tmp_path}/my_data.py:lod")


@pytest.mark.parametrize("data", ["mnits", {"csv": "x.csv"}, {"npz": 3}, {"a": 1, "b": 2}])
def test_unknown_data_is_refused(data):
    with pytest.raises(DataError):
        DataSource.of(data)


def test_targets_tell_the_number_of_classes():
    x = np.zeros((4, 2))
    assert as_dataset((x, np.array([0, 1, 2, 1]))).n_classes == 3
    assert as_dataset((x, np.eye(4))).n_classes == 4
    assert as_dataset((x, np.array([[0], [1], [2], [1]]))).n_classes == 3
    assert as_dataset((x, np.array([0.5, 1.0, 2.0, 1.0]))).n_classes is None
