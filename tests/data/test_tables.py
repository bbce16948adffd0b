"""Tables as data: their columns, rows and shapes, and what is refused."""

import gzip
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from hpo_spark import DataError, DataSource
from hpo_spark.data.columns import Columns


def table(n=40, **columns):
    rng = np.random.default_rng(0)
    return pa.table({"a": rng.random(n), "b": np.arange(n), "y": np.arange(n) % 3, "text": ["x"] * n, **columns})


def part(found, **options):
    columns, _ = Columns.parse({"label": "y", **options})
    return columns.resolved(found.column_names, "the table").part(found, "the table")


@pytest.fixture
def write(tmp_path):
    def write(found, name="table.parquet"):
        if name.endswith(".csv"):
            pyarrow.csv.write_csv(found, tmp_path / name)
        else:
            pq.write_table(found, tmp_path / name)
        return str(tmp_path / name)

    return write


def test_columns_side_by_side_are_the_inputs():
    found = part(table(flag=[True] * 40, price=[Decimal("1.5")] * 40), features=["b", "a", "flag", "price"])
    assert found.x.shape == (40, 4)
    assert found.x.dtype == np.float32
    assert found.x[:, 0].tolist() == list(range(40))
    assert set(found.x[:, 3]) == {1.5}
    assert found.y.dtype == np.int64
    assert found.divisor is None


def test_a_single_column_keeps_its_shape():
    images = np.arange(40 * 4 * 3, dtype=np.uint8).reshape(40, 4, 3)
    for column in (
        pa.array(images.tolist(), pa.list_(pa.list_(pa.uint8()))),
        pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(images.ravel(), 3), 4),
        pa.FixedShapeTensorArray.from_numpy_ndarray(images),
    ):
        found = part(table(image=column), features="image")
        assert np.array_equal(found.x, images)
        assert found.x.dtype == np.uint8
        assert found.divisor == 255
        assert found.inputs(slice(2)).max() <= 1
    both = part(table(image=column), features=["a", "image"])
    assert both.x.shape == (40, 13)
    assert both.divisor is None


def test_images_and_vectors_as_spark_writes_them():
    image = pa.array([{"height": 2, "width": 2, "nChannels": 1, "data": bytes([n, 1, 2, 3])} for n in range(40)])
    assert part(table(image=image), features="image").x[7].ravel().tolist() == [7, 1, 2, 3]
    dense = {"type": 1, "size": None, "indices": None, "values": [1.0, 2.0, 3.0]}
    sparse = {"type": 0, "size": 3, "indices": [2], "values": [5.0]}
    found = part(table(v=pa.array([dense, sparse] * 20)), features="v")
    assert found.x[:2].tolist() == [[1, 2, 3], [0, 0, 5]]


def test_labels_and_weights():
    found = part(table(w=np.arange(40.0)), features="a", label="b", weight="w")
    assert found.sample_weight.tolist() == list(range(40))
    assert part(table(), features="b", label="a").y.dtype == np.float32
    one_hot = pa.array(np.eye(4, dtype=np.float32)[np.arange(40) % 4].tolist())
    assert part(table(target=one_hot), features="a", label="target").y.shape == (40, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": ["a", "text"]}, r"'text' holds string, expected numbers"),
        ({"features": ["a", "c"]}, r"no column 'c'; it has \['a', 'b', 'y', 'text'"),
        ({"label": "z"}, "no column 'z'"),
        ({"features": ["gaps"]}, r"'gaps' has 2 missing value"),
        ({"features": ["ragged"]}, "arrays of 1 to 2 numbers, expected one length"),
        ({"features": ["a", "y"]}, "the label or weight among them"),
        ({"features": []}, "features must be a list"),
        ({"label": None}, "label must name the column"),
        ({"features": "a", "where": [["a", "~", 1]]}, "where must be a list of conditions"),
        ({"features": "a", "where": [["a", "in", 1]]}, "where must be a list of conditions"),
    ],
)
def test_what_cannot_be_data_is_refused(options, message):
    found = table(gaps=[None, None, *range(38)], ragged=pa.array([[1], [1, 2]] * 20))
    with pytest.raises(DataError, match=message):
        part(found, **options)


def test_a_csv_file_is_data(write, tmp_path):
    path = write(table(), "table.csv")
    data = {"csv": path, "label": "y", "features": ["a", "b"], "where": [["b", ">=", 10]], "test": path}
    source = DataSource.of(data, "last 0.1")
    source.prepare()
    dataset = source.load(0)
    assert len(dataset.train) + len(dataset.validation) == len(dataset.test) == 30
    assert dataset.train.x[0, 1] == 10
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress((tmp_path / "table.csv").read_bytes()))
    assert len(DataSource.of({**data, "csv": str(tmp_path / "table.csv.gz")}, "last 0.1").load(0).train) == 27
    with pytest.raises(DataError, match=r"missing.csv does not exist"):
        DataSource.of({"csv": "missing.csv", "label": "y"}).prepare()


def test_parquet_files_are_read_by_column_and_row(write, tmp_path):
    path = write(table())
    data = {"parquet": path, "label": "y", "features": ["b"], "where": [["b", "<", 20], ["y", "in", [0, 2]]]}
    source = DataSource.of(data, "last 0.5")
    source.prepare()
    dataset = source.load(0)
    assert dataset.train.x.ravel().tolist() == [0, 2, 3, 5, 6, 8]
    assert dataset.n_classes == 3
    for year in (2023, 2024):
        (tmp_path / "years" / f"year={year}").mkdir(parents=True)
        pq.write_table(table(), tmp_path / "years" / f"year={year}" / "part-0.parquet")
    (tmp_path / "years" / "_SUCCESS").write_bytes(b"")
    years = {
        "parquet": str(tmp_path / "years"),
        "label": "y",
        "features": ["a", "year"],
        "where": [["year", "==", 2024]],
    }
    assert set(DataSource.of(years).load(0).train.x[:, 1]) == {2024}
    with pytest.raises(DataError, match="let through"):
        DataSource.of({**years, "where": [["year", ">", 2030]]}).load(0)
    with pytest.raises(DataError, match="no column 'q'"):
        DataSource.of({**years, "features": ["q"]}).prepare()
    (tmp_path / "no.parquet").write_bytes(b"this is no table")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        DataSource.of({"parquet": str(tmp_path / "no.parquet"), "label": "y"}).prepare()


def test_pairs_of_npy_files_are_data(tmp_path):
    x, y = np.arange(60, dtype=np.uint8).reshape(20, 3), np.arange(20, dtype=np.uint8) % 2
    for name, array in (("x", x), ("y", y), ("short", y[:5]), ("text", np.array(["a"] * 20))):
        np.save(tmp_path / f"{name}.npy", array)

    def pair(*names):
        return [str(tmp_path / f"{name}.npy") for name in names]

    source = DataSource.of({"npy": pair("x", "y"), "test": pair("x", "y")}, "last 0.2")
    source.prepare()
    dataset = source.load(0)
    assert len(dataset.train) == 16
    assert dataset.train.y.dtype == np.int64
    assert np.array_equal(dataset.test.x, x)
    with pytest.raises(DataError, match="as many rows"):
        DataSource.of({"npy": pair("x", "short")}).prepare()
    with pytest.raises(DataError, match="arrays of numbers"):
        DataSource.of({"npy": pair("text", "y")}).load(0)
    with pytest.raises(DataError, match=r"missing.npy does not exist"):
        DataSource.of({"npy": pair("missing", "y")}).prepare()
    with pytest.raises(DataError, match=r"must be the two files"):
        DataSource.of({"npy": "x.npy"})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"parquet": "x", "label": "y", "colour": "red"}, "unknown key 'colour' beside parquet"),
        ({"parquet": "x"}, "label must name"),
        ({"csv": "x", "npz": "y"}, "expected one of"),
        ({"format": "orc", "path": "x", "label": "y"}, r"format must be one of \['parquet', 'delta', 'table'\]"),
        ({"format": "table", "path": "x", "label": "y"}, "needs the key table"),
        ({"format": "delta", "path": "x", "label": "y", "max_mb": 0}, "max_mb must be a number above 0"),
        ("s3://user:secret@bucket/x", r"user:\*\*\*@bucket"),
    ],
)
def test_forms_that_make_no_sense_are_refused(data, message):
    with pytest.raises(DataError, match=message):
        DataSource.of(data)


def test_changed_files_are_other_data(write, tmp_path):
    path = write(table())
    data = {"parquet": path, "label": "y", "features": ["a"]}
    before = DataSource.of(data)
    digest, key = before.digest(), before.key(0)
    assert before.key(1) != key
    assert DataSource.of({**data, "where": [["b", "<", 9]]}).key(0) != key
    assert (DataSource.of(data).digest(), DataSource.of(data).key(0)) == (digest, key)
    write(table(41))
    assert DataSource.of(data).digest() != digest
    copied = tmp_path / "copied.parquet"
    copied.write_bytes((tmp_path / "table.parquet").read_bytes())
    assert DataSource.of({**data, "parquet": str(copied)}).digest() == DataSource.of(data).digest()


@pytest.mark.parametrize("kind", ["parquet", "csv", "spark"])
def test_a_test_part_that_changes_is_another_data(write, kind):
    name = "table.csv" if kind == "csv" else "table.parquet"
    places = {"label": "y", "test": write(table(5), f"test-{name}")}
    place = write(table(), name)
    places |= {"format": "parquet", "path": place} if kind == "spark" else {kind: place}
    before = DataSource.of(places).digest()
    assert before == DataSource.of(places).digest()
    write(table(6), f"test-{name}")
    assert DataSource.of(places).digest() != before
