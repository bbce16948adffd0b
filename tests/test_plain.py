import json
import math
from enum import StrEnum

import numpy as np
import pytest

from hpo_spark.plain import dump_line, restore_float, same, to_plain


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([1, 2]), [1, 2]),
        (np.array([1.5]), [1.5]),
        ((1, (2, 3)), [1, [2, 3]]),
        ({1: np.float64(2.0)}, {"1": 2.0}),
        (Colour.RED, "red"),
        (None, None),
    ],
)
def test_values_become_plain(value, plain):
    assert to_plain(value) == plain or (to_plain(value) == plain[0] and len(plain) == 1)
    json.dumps(to_plain(value))


@pytest.mark.parametrize("value", [object(), len, {1, 2}, b"bytes", 1j])
def test_other_values_are_refused(value):
    with pytest.raises(TypeError, match="not plain data"):
        to_plain(value)


def test_equality_minds_the_type():
    assert same({"a": 1, "b": [True]}, {"b": [True], "a": 1})
    assert not same(True, 1)
    assert not same(1, 1.0)


def test_lines_are_valid_json_whatever_the_numbers():
    line = dump_line({"loss": math.nan, "curve": [[1, math.inf], [2, -math.inf]], "text": "ünï\n"})
    assert "\n" not in line
    record = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert record["text"] == "ünï\n"
    assert math.isnan(restore_float(record["loss"]))
    assert [restore_float(value) for _, value in record["curve"]] == [math.inf, -math.inf]
