"""Pictures of a search, whatever its parameters are called."""

import matplotlib
import pytest
from searches import KINDS

from hpo_spark.report.labels import for_matplotlib
from hpo_spark.report.pictures import PICTURES, evaluations, to_png
from hpo_spark.report.run import Run
from hpo_spark.report.write import write_pictures


def test_the_main_plots_are_written_and_matplotlib_stays_as_it_was(tmp_path):
    before = dict(matplotlib.rcParams)
    written = write_pictures(KINDS["hostile"](tmp_path / "run"))
    assert dict(matplotlib.rcParams) == before
    names = {path.name for path in (tmp_path / "run" / "plots").iterdir()}
    assert len(written) == len(names)
    assert names == {f"{name}.png" for name in PICTURES} - {"pareto.png", "hypervolume.png"}
    for path in (tmp_path / "run" / "plots").iterdir():
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5_000


@pytest.mark.parametrize("kind", ["one parameter", "one choice", "categorical"])
def test_small_spaces_are_drawn_by_scikit_optimize(kind, tmp_path):
    run = Run.read(KINDS[kind](tmp_path / "run"))
    assert to_png(evaluations(run.view(for_matplotlib))).startswith(b"\x89PNG")
