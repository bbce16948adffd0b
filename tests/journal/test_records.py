"""The journal's format: whatever happens to its bytes, a reader gets what was written, or a sentence."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_spark.errors import ConfigError, JournalError
from hpo_spark.journal import FORMAT, NAME, Journal, read_record, read_trials
from hpo_spark.journal.records import Decoder, encode
from hpo_spark.storage import open_storage
from hpo_spark.trial import INTERRUPTED, Trial, TrialState

HEADER = {"seed": 3, "study": {"study": {"direction": "maximize"}}, "versions": {"python": "3.11"}}
PARAMS = {"x": 0.1, "n": 2, "name": "Zoë\n\"quoted\" \u2028", "none": None, "flag": True}  # fmt: skip


def ended(number, value=0.5, **fields):
    return Trial(number, PARAMS, number + 7, **{"state": TrialState.COMPLETED, "values": [value], **fields})


def written(folder, trials):
    """The journal of a search: each trial is asked for, then told of."""
    journal = Journal(open_storage(folder))
    journal.begin(HEADER)
    for trial in trials:
        journal.ask(Trial(trial.number, trial.params, trial.seed), 0)
        if trial.state is not TrialState.RUNNING:
            journal.tell(trial)
    journal.close()
    return (folder / NAME).read_bytes()


TRIALS = [
    ended(0, metrics={"loss": math.nan, "up": math.inf}, curve=[[1, 0.25], [2, -math.inf]], token={"ask": 0}),
    Trial(1, PARAMS, 8, state=TrialState.FAILED, error="ValueError: \udcff bad\n\ntraceback"),
    ended(2, 1e-300, host="ho.st", attempt=3, started=1.5, seconds=0.1, origin={"by": "child"}),
    Trial(3, PARAMS, 10),
]


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return written(tmp_path_factory.mktemp("run"), TRIALS)


def read(content, folder):
    folder.mkdir(exist_ok=True)
    (folder / NAME).write_bytes(content)
    return read_record(folder)


def as_text(trials):
    return [repr(trial) for trial in trials]  # in which a number that is none equals itself


def test_what_was_written_is_read(content, tmp_path):
    record = read(content, tmp_path)
    assert as_text(record.ended[:1]) == as_text(TRIALS[:1])
    assert record.ended[1:] == TRIALS[1:3]
    assert record.unfinished == [TRIALS[3]]
    assert (record.seed, record.study, record.versions) == (3, HEADER["study"], HEADER["versions"])
    assert record.directions == ["maximize"]
    assert as_text(read_trials(tmp_path / NAME)) == as_text(record.trials)


def test_each_line_is_valid_json_also_where_numbers_are_not_finite(content):
    for line in content.decode().split("\n")[:-1]:
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_a_journal_cut_anywhere_holds_the_trials_before(content, tmp_path):
    n_told = content.count(b'"kind":"tell"')
    for size in range(len(content) + 1):
        record = read(content[:size], tmp_path)
        whole = content[:size].rpartition(b"\n")[0].count(b'"kind":"tell"')
        assert as_text(record.ended) == as_text(record.ended[:whole])
        assert record.size + record.torn == size
        assert len(record.ended) == whole <= n_told


@given(st.data())
def test_no_damage_goes_unseen(content, tmp_path_factory, data):
    """A changed, missing, doubled or added stretch is an error that names a line, or only cuts off the last line."""
    folder = tmp_path_factory.getbasetemp() / "damaged"
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(start, min(len(content), start + 400)))
    lines = content.split(b"\n")
    line = b"\n" + data.draw(st.sampled_from(lines))
    patch = data.draw(st.one_of(st.binary(max_size=6), st.just(content[start:end] * 2), st.just(line)))
    damaged = content[:start] + patch + content[end:]
    whole = as_text(read(content, folder).ended)
    said = ""
    try:
        record = read(damaged, folder)
    except JournalError as error:
        said = str(error)
    if said:
        assert f"{NAME}, line " in said
    else:
        assert as_text(record.ended) == whole[: len(record.ended)]
        assert content.startswith(damaged[: record.size])


@given(st.data())
def test_a_single_flipped_bit_is_found(content, tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "flipped"
    place = data.draw(st.integers(0, len(content) - 2))  # without the last newline, a line is torn
    damaged = bytearray(content)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(JournalError, match=r"line \d+: is damaged"):
        read(bytes(damaged), folder)


@given(st.lists(st.dictionaries(st.text(), st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans()))))
def test_any_plain_record_comes_back(records):
    lines, check = b"", 0
    for record in [{"format": FORMAT}, *records]:
        line, check = encode({**record, "kind": "note"}, check)
        lines += line
    found = [line.record() for line in Decoder("here").decode(lines)][1:]
    for record, again in zip(records, found, strict=True):
        expected = {key: str(value) if value != value or value in (math.inf, -math.inf) else value
                    for key, value in record.items() if key not in ("kind", "crc")}  # fmt: skip
        spelled = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
        expected = {key: spelled.get(value, value) if isinstance(record[key], float) else value
                    for key, value in expected.items()}  # fmt: skip
        assert {key: value for key, value in again.items() if key not in ("kind", "crc")} == expected


def test_lines_of_format_1_are_read_and_gone_on_with(tmp_path):
    old = [
        {"kind": "study", "format": 1, "seed": 4, "study": {"study": {"direction": "minimize"}}},
        {"kind": "ask", "number": 0, "params": {"x": 1.0}, "seed": 2, "fidelity": None, "attempt": 1},
        {"kind": "tell", **ended(0).to_record()},
        {"kind": "ask", "number": 1, "params": {"x": 2.0}, "seed": 3, "fidelity": None, "attempt": 1},
    ]
    (tmp_path / NAME).write_text("".join(json.dumps(line) + "\n" for line in old))
    record = read_record(tmp_path)
    assert record.ended == [ended(0)]
    assert [trial.number for trial in record.unfinished] == [1]
    journal = Journal(open_storage(tmp_path), record.check)
    journal.resume({**HEADER, "seed": 4})
    journal.tell(ended(1))
    journal.close()
    record = read_record(tmp_path)
    assert [trial.number for trial in record.ended] == [0, 1]
    damaged = (tmp_path / NAME).read_bytes().replace(b'"values":[0.5]', b'"values":[0.6]')
    with pytest.raises(JournalError, match="line 6: is damaged"):  # the older ones have no check
        read(damaged, tmp_path)


def test_a_newer_format_is_refused(tmp_path):
    for line in ('{"kind":"study","format":99,"v":[1]}\n', encode({"kind": "study", "format": 99}, 0)[0].decode()):
        (tmp_path / NAME).write_text(line)
        with pytest.raises(JournalError, match=r"newer hpo_spark: its format is 99, and this version reads up to"):
            read_record(tmp_path)


def test_no_journal_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"is no run folder of a search: it holds no journal.jsonl"):
        read_record(tmp_path)
    with pytest.raises(ConfigError, match="is no run folder"):
        read_trials(tmp_path / "none" / NAME)


def test_what_only_the_end_of_its_search_ended_is_unfinished(tmp_path):
    trials = [ended(0), Trial(1, PARAMS, 8, state=TrialState.CANCELLED, error=INTERRUPTED, attempt=2),
              Trial(2, PARAMS, 9, state=TrialState.CANCELLED, error="Cancelled.")]  # fmt: skip
    written(tmp_path, trials)
    record = read_record(tmp_path)
    assert [trial.number for trial in record.ended] == [0, 2]
    assert [(trial.number, trial.attempt, trial.state) for trial in record.unfinished] == [(1, 2, "RUNNING")]


def test_the_time_of_all_parts_counts(tmp_path):
    lines, check = b"", 0
    for record in (
        {"kind": "study", "format": 2, "at": 100.0},
        {"kind": "tell", **ended(0).to_record(), "at": 107.5},
        {"kind": "resume", "format": 2, "at": 900.0},
        {"kind": "end", "state": "finished", "at": 902.0},
    ):
        line, check = encode(record, check)
        lines += line
    record = read(lines, tmp_path)
    assert record.seconds == pytest.approx(9.5)
    assert record.end == {"state": "finished", "at": 902.0}


def test_secrets_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMIK7MDENG")
    journal = Journal(open_storage(tmp_path))
    known = Trial(-1, {}, 0, state=TrialState.FAILED, error="403 for key wJalrXUtnFEMIK7MDENG")
    journal.begin({**HEADER, "study": {"warm_start": "sftp://ann:hunter22@host/run"}}, [known])
    journal.close()
    text = (tmp_path / NAME).read_text()
    assert "hunter22" not in text
    assert "wJalr" not in text
    assert text.count("***") == 2


def test_a_study_begins_with_all_that_its_searcher_is_told_or_not_at_all(content, tmp_path):
    """Also one that begins anew in the folder of another."""
    known = [ended(-1), ended(-2)]
    for name, before in (("new", b""), ("anew", content)):
        folder = tmp_path / name
        past = read(before, folder)
        journal = Journal(open_storage(folder), past.check)
        journal.begin({**HEADER, "seed": 4}, known)
        journal.close()
        whole = (folder / NAME).read_bytes()
        for size in range(len(before), len(whole)):
            record = read(whole[:size], folder)
            assert (record.check, record.size, record.torn) == (past.check, len(before), size - len(before))
            assert as_text(record.ended + record.known) == as_text(past.ended)
        record = read(whole, folder)
        assert (record.seed, record.ended, record.torn) == (4, [], 0)
        assert as_text(record.known) == as_text([*past.ended, *known])
