"""A journal that ends after any of its lines: the search that goes on from there ends like one that was never cut."""

import pytest

from hpo_spark import Choice, Int, SearchSpace, SerialExecutor, Study
from hpo_spark.journal import NAME, read_record

SPACE = SearchSpace(a=Int(0, 4), b=Choice(["x", "y"]), c=Int(0, 2, when={"b": "x"}))
KNOWN = [{"params": {"a": 1, "b": "y"}, "value": 30.0}, {"params": {"a": 2, "b": "y"}, "value": 10.0}]


def height(params):
    if params["a"] == 4:
        raise ValueError("too high")
    return float(params["a"] + params.get("c", 0))


def search(out, mode, **options):
    study = Study(SPACE, height, "evolution", "maximize", 5, out, resume=True, **mode, **options)
    with SerialExecutor() as executor:
        return study.run(executor, 8, give_up_after=None).trials


def table(trials):
    return [(t.number, t.params, t.seed, t.state, t.values, t.origin == {"by": "x0"}) for t in trials]


def cuts(folder):
    """Folders that hold a journal's first lines, one for each number of them."""
    lines = (folder / NAME).read_bytes().splitlines(keepends=True)
    for n_lines in range(1, len(lines)):
        cut = folder.with_name(f"{folder.name}-{n_lines}")
        cut.mkdir()
        (cut / NAME).write_bytes(b"".join(lines[:n_lines]))
        yield cut


@pytest.mark.parametrize("mode", [{}, {"deterministic": True, "lookahead": 3}], ids=str)
def test_what_was_known_beforehand_is_neither_run_nor_recorded_twice(tmp_path, mode):
    whole = search(tmp_path / "whole", mode, x0=KNOWN)
    assert [trial.values for trial in whole[:2]] == [[30.0], [10.0]]
    for cut in cuts(tmp_path / "whole"):
        trials = search(cut, mode, x0=KNOWN)
        assert table(trials)[:2] == table(whole)[:2], cut
        assert len({SPACE.key(trial.params) for trial in trials}) == len(trials) == 10
        if mode:
            assert table(trials) == table(whole), cut


def test_what_the_searcher_was_told_at_its_start_is_told_again(tmp_path):
    mode = {"deterministic": True}
    earlier = search(tmp_path / "earlier", mode)
    warm = {"warm_start": tmp_path / "earlier"}
    whole = search(tmp_path / "whole", mode, **warm)
    assert whole[0].params == max((t for t in earlier if t.values), key=lambda t: t.value).params
    for cut in cuts(tmp_path / "whole"):
        assert table(search(cut, mode, **warm)) == table(whole), cut
        assert len(read_record(cut).known) == 8
