"""The pages in a real browser with its network off: all is there, drawn, read at any width, and nothing runs.

What the pages look like is kept in build/screenshots.
"""

import pytest
from searches import KINDS, MIXED, ODD, SCRIPT, SECTIONS, some_trials, write_journal

from hpo_spark.report.compare import write_comparison
from hpo_spark.report.comparison import Comparison
from hpo_spark.report.run import Run
from hpo_spark.report.write import write_report

pytestmark = pytest.mark.browser


def check(page, name):
    assert page.said == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.texts(".problem") == []
    assert page.undrawn() == []
    for width in (1280, 400):
        page.page.set_viewport_size({"width": width, "height": 900})
        page.page.wait_for_timeout(400)  # plots follow the width
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = "[...document.querySelectorAll('p, td, th')].map(e => parseFloat(getComputedStyle(e).fontSize))"
        assert min(page.page.evaluate(sizes)) >= 12
        page.shoot(name)


def test_names_and_messages_of_any_kind_are_text_and_run_nothing(tmp_path, opened):
    page = opened(write_report(KINDS["hostile"](tmp_path / "run")))
    check(page, "hostile")
    assert page.page.evaluate("window.pwned") is None
    assert page.page.locator("main b, main i, main img").count() == 0
    assert f"{SCRIPT} {ODD}" in page.page.title()
    assert "n" * 300 in page.texts("#environment")[0]
    assert f"ValueError: {SCRIPT}" in page.texts("#failures")[0]
    drawn = "".join(page.texts("#slices .infolayer text"))
    assert "<script>" in drawn or "</script>" in drawn
    assert "<b>" in drawn
    assert "&lt;" not in drawn


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "hostile"])
def test_a_report_is_whole_and_drawn(kind, tmp_path, opened):
    page = opened(write_report(KINDS[kind](tmp_path / "run")))
    check(page, kind)
    found = page.page.evaluate("[...document.querySelectorAll('section')].map(section => section.id)")
    assert set(SECTIONS) <= set(found)
    assert ("pareto" in found) == ("objectives" in kind)
    n_plots = page.page.locator(".js-plotly-plot").count()
    assert n_plots >= {"empty": 0, "failed": 1, "single": 4, "one choice": 4}.get(kind, 6)


def test_a_comparison_is_whole_and_drawn(tmp_path, opened):
    runs = []
    for number, searcher in enumerate(["grid", "bayes", "genetic", "genetic", "genetic", SCRIPT]):
        trials = some_trials(30, MIXED, seed=number)
        folder = write_journal(tmp_path / f"run-{number}", MIXED, trials, searcher=searcher, seed=number)
        runs.append(Run.read(folder))
    write_comparison(Comparison(runs), tmp_path / "compare.html")
    page = opened(tmp_path / "compare.html")
    check(page, "comparison")
    assert page.page.evaluate("window.pwned") is None
    assert page.page.evaluate("[...document.querySelectorAll('section')].map(s => s.id)") == [
        "runs", "reach", "curves", "best", "spaces",
    ]  # fmt: skip
    assert "genetic, 3 runs" in "".join(page.texts("#curves .legendtext"))


def test_a_page_of_a_search_that_runs_loads_itself_again(tmp_path, opened):
    folder = write_journal(tmp_path / "run", MIXED, some_trials(3, MIXED), ends=False)
    page = opened(write_report(folder, reload_s=1.0))
    assert "running" in page.texts("header p")[0]
    write_report(write_journal(tmp_path / "later", MIXED, some_trials(5, MIXED)), folder / "report.html")
    page.page.wait_for_function("document.querySelector('header p').textContent.startsWith('5 trials')", timeout=60_000)
    assert page.page.evaluate("document.body.dataset.reloadS") is None
