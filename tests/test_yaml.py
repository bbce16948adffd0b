import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_spark import yaml

text = st.text(st.characters(exclude_categories=["Cc", "Cs", "Co", "Cn", "Zl", "Zp"]))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text
documents = st.dictionaries(text.filter(bool), scalars | st.lists(scalars), min_size=1)


@given(document=documents)
def test_what_is_written_is_read_back(document):
    assert yaml.load(yaml.dump(document)) == document


def test_scalars_mean_what_users_expect():
    text = "rate: 1e-4\nswitch: on\nmode: 0755\ntime: 1:30\nday: 2026-01-02\nflag: true\nnone: null\nempty:\n"
    assert yaml.load(text) == {
        "rate": 1e-4,
        "switch": "on",
        "mode": 755,
        "time": "1:30",
        "day": "2026-01-02",
        "flag": True,
        "none": None,
        "empty": None,
    }


def test_a_key_that_stands_twice_is_refused():
    text = "space:\n  rate: {float: [0, 1]}\n  units: {int: [1, 2]}\n  rate: {float: [0, 2]}\n"
    with pytest.raises(ValueError, match="line 4") as raised:
        yaml.load(text, "study.yaml")
    assert all(word in str(raised.value) for word in ("study.yaml", "'rate'", "[0, 1]", "line 2", "[0, 2]"))


@pytest.mark.parametrize("text", ["a: [1, 2", "a: b: c", "\tx: 1", "a: !!python/object:os.system x", "x: \x00"])
def test_broken_text_names_its_place(text):
    with pytest.raises(ValueError, match=r"study\.yaml"):
        yaml.load(text, "study.yaml")


def test_lines_are_known_by_path():
    _, lines = yaml.load_with_lines("study:\n  seed: 1\nx0:\n  - a: 1\n  - a: 2\n", "study.yaml")
    assert lines["study", "seed"] == 2
    assert lines["x0", 1, "a"] == 5
