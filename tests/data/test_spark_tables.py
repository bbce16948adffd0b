"""Spark's tables as data, and searches that train Keras models on them."""

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F  # noqa: N812

from hpo_spark import DataError, Dataset, DataSource, Float, KerasObjective, SearchSpace, SparkExecutor, Study
from hpo_spark.config import parse_study_file
from hpo_spark.objectives.mlp import build_model

SPACE = SearchSpace(learning_rate=Float(1e-3, 1e-1, log=True))


@pytest.fixture(scope="module")
def frame(spark):
    columns = [(F.rand(seed) - 0.5).alias(f"c{seed}") for seed in range(5)]
    made = spark.range(600).select("id", *columns).withColumn("y", (F.col("c0") + F.col("c1") > 0).cast("int"))
    return made.orderBy("id").cache()


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "table.parquet"
    frame.write.parquet(str(path))
    return path


def test_a_dataframe_becomes_arrays(frame):
    dataset = Dataset.from_spark(frame, ["c0", "c1", "c2"], "y", test=frame.limit(10))
    assert dataset.train.x.shape == (600, 3)
    assert dataset.train.x.dtype == np.float32
    assert dataset.n_classes == 2
    assert len(dataset.test) == 10
    assert Dataset.from_spark(frame, label="y", weight="id").input_shape == (5,)


def test_vectors_and_arrays_keep_their_shape(spark):
    rows = [(Vectors.dense(1.0, 2.0), [[1, 2], [3, 4]], 0), (Vectors.sparse(2, {1: 5.0}), [[5, 6], [7, 8]], 1)]
    frame = spark.createDataFrame(rows, ["vector", "image", "y"])
    assert Dataset.from_spark(frame, "vector", "y").train.x.tolist() == [[1, 2], [0, 5]]
    assert Dataset.from_spark(frame, "image", "y").input_shape == (2, 2)
    assert Dataset.from_spark(frame, ["vector", "image"], "y").train.x[1].tolist() == [0, 5, 5, 6, 7, 8]


def test_what_is_too_much_for_the_driver_is_refused_before_it_comes(frame, spark):
    with pytest.raises(DataError, match=r"holds 0 MB in 600 rows.*at most max_mb=0 may come.*data: \{parquet: path\}"):
        Dataset.from_spark(frame, ["c0", "c1"], "y", max_mb=0.001)
    wide = spark.range(1000).select(F.array_repeat(F.rand(), 300_000).alias("x"), F.lit(1).alias("y"))
    with pytest.raises(DataError, match=r"2,400 MB in 1,000 rows.*max_mb=2,000"):
        Dataset.from_spark(wide, "x", "y")
    with pytest.raises(DataError, match=r"spark.driver.maxResultSize=1g lets through"):
        Dataset.from_spark(wide, "x", "y", max_mb=3000)


def test_frames_that_are_none_or_lack_columns_are_refused(frame):
    with pytest.raises(DataError, match=r"no column 'z'; it has \['id', 'c0'"):
        Dataset.from_spark(frame, ["z"], "y")
    with pytest.raises(DataError, match="takes a Spark DataFrame, got list"):
        Dataset.from_spark([1], ["z"], "y")
    with pytest.raises(DataError, match="give Dataset.from_spark"):
        DataSource.of(frame)


def test_formats_that_spark_reads(spark, folder, frame):
    data = {"format": "parquet", "path": str(folder), "features": ["c0"], "label": "y", "where": [["id", "<", 50]]}
    source = DataSource.of(data)
    source.prepare()
    assert len(source.load(0).train) == 42
    frame.createOrReplaceTempView("of_tests")
    table = {"format": "table", "table": "of_tests", "label": "y", "where": [["id", "not in", [1, 2]], ["id", "!=", 3]]}
    assert len(DataSource.of(table, "last 0.5").load(0).train) == 298
    with pytest.raises(DataError, match="no column 'q'"):
        DataSource.of({**data, "features": ["q"]}).prepare()
    with pytest.raises(DataError, match="Spark cannot read no_table"):
        DataSource.of({**table, "table": "no_table"}).prepare()


def test_delta_without_its_package_says_what_to_do(spark, folder):
    source = DataSource.of({"format": "delta", "path": str(folder), "label": "y"})
    with pytest.raises(DataError, match=r"format: delta needs Delta Lake.*--packages io.delta:delta-spark"):
        source.prepare()


def test_a_dataframe_trains_keras_models_in_a_search(spark, frame):
    objective = KerasObjective(build_model, Dataset.from_spark(frame, [f"c{n}" for n in range(5)], "y"), epochs=8)
    with SparkExecutor(spark) as executor:
        result = Study(SPACE, objective, seed=0).run(executor, 3)
    assert [trial.error for trial in result.trials] == [None] * 3
    assert result.best_trial.value > 0.8


@pytest.mark.parametrize("kind", ["parquet", "format"])
def test_a_study_file_trains_on_parquet(spark, folder, tmp_path, kind):
    place = "parquet: table.parquet" if kind == "parquet" else "format: parquet, path: table.parquet"
    text = (
        "study: {seed: 0, max_trials: 2}\n"
        "space: {learning_rate: {float: [0.01, 0.1], log: true}}\n"
        "objective:\n"
        "  keras: hpo_spark.objectives.mlp:build_model\n"
        f"  data: {{{place}, features: [c0, c1], label: y, where: [[id, '<', 500]]}}\n"
        "  epochs: 4\n"
    )
    file = parse_study_file(text.encode(), folder.parent / "study.yaml")
    study = file.study(tmp_path / "run")
    with SparkExecutor(spark) as executor:
        result = study.run(executor, **vars(file.limits))
    assert [trial.error for trial in result.trials] == [None] * 2
    assert str(folder) in (tmp_path / "run" / "study.yaml").read_text()
