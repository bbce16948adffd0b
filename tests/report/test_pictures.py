"""Pictures of a search, whatever its parameters are called."""

import matplotlib
import pytest
from searches import KINDS, ODD, SCRIPT, some_trials, write_journal

from hpo_spark import Choice, Float, SearchSpace
from hpo_spark.report.labels import for_matplotlib
from hpo_spark.report.pictures import PICTURES, evaluations, objective, to_png
from hpo_spark.report.plots import NothingToShow
from hpo_spark.report.run import Run
from hpo_spark.report.write import write_pictures

SPACE = SearchSpace(**{SCRIPT: Float(1e-3, 1, log=True), ODD: Choice(["$\\frac{1$", "k" * 300, ""])})


def test_the_main_plots_are_written_and_matplotlib_stays_as_it_was(tmp_path):
    before = settings()
    folder = write_journal(tmp_path / "run", SPACE, some_trials(20, SPACE), name=ODD)
    written = write_pictures(folder)
    assert settings() == before
    assert {str(path) for path in (folder / "plots").iterdir()} == set(written)
    assert {path.stem for path in (folder / "plots").iterdir()} == {*PICTURES} - {"pareto", "hypervolume"}
    for path in (folder / "plots").iterdir():
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5_000


def test_several_objectives_have_their_pictures_and_none_of_scikit_optimize(tmp_path):
    written = write_pictures(KINDS["four objectives"](tmp_path / "four"))
    assert {path.split("/")[-1] for path in written} == {
        "history.png", "parallel.png", "slices.png", "importances.png", "curves.png", "hypervolume.png"
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "draw"), [("one parameter", objective), ("categorical", evaluations)])
def test_small_spaces_are_drawn_by_scikit_optimize(kind, draw, tmp_path):
    run = Run.read(KINDS[kind](tmp_path / "run"))
    assert to_png(draw(run.view(for_matplotlib))).startswith(b"\x89PNG")


def test_what_scikit_optimize_cannot_draw_is_said(tmp_path):
    run = Run.read(KINDS["one parameter"](tmp_path / "run"))
    with pytest.raises(NothingToShow, match="needs two parameters that vary"):
        evaluations(run.view(for_matplotlib))


def settings():
    """Matplotlib's, but for the backend, whose name scikit-optimize writes otherwise under pytest."""
    return {key: value for key, value in matplotlib.rcParams.items() if key != "backend"}
