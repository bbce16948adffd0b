"""What a report says, without a browser: right for every kind of search, whatever fails while it is drawn."""

import html
import re
import shlex
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from searches import HOSTILE, KINDS, MIXED, SCRIPT, SECTIONS, some_trials, write_journal

from hpo_spark import Choice, ConfigError, Float, ProcessExecutor, SearchSpace, Study, Trial, TrialState
from hpo_spark.journal import Journal, read_record
from hpo_spark.report import plots, write
from hpo_spark.report.view import View
from hpo_spark.report.write import watch, write_report
from hpo_spark.storage import open_storage


def text_of(path):
    """The page's text, section by section, without what is packed."""
    html = Path(path).read_text(encoding="utf-8")
    html = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", html, flags=re.DOTALL)
    return dict(re.findall(r'<section id="(\w+)">(.*?)</section>', html, re.DOTALL)), html


def test_a_report_of_a_search_has_all_sections_and_is_one_small_file(tmp_path):
    path = write_report(KINDS["mixed"](tmp_path / "run"))
    sections, html = text_of(path)
    assert tuple(sections) == SECTIONS
    assert "problem" not in "".join(sections.values())
    assert (tmp_path / "run" / "report.html").stat().st_size < 6e6
    assert not re.findall(r"""(?:src|href)=["']?(?!#|data:)\w""", html)
    best = read_record(tmp_path / "run").trials
    best = max((trial for trial in best if trial.values), key=lambda trial: trial.value)
    assert f"<td>{best.number}</td>" in sections["best"]
    assert "6 of 60 trials failed, for 3 reason(s)" in sections["failures"]
    assert "4 run again" in sections["timeline"]
    assert "3.11.7" in sections["environment"]


def test_searches_without_a_value_say_so(tmp_path):
    sections, _ = text_of(write_report(KINDS["empty"](tmp_path / "empty")))
    assert "No trial has a value yet" in sections["best"]
    assert "no trial has ended" in sections["history"]
    assert "No trial has run" in sections["timeline"]
    assert "running, or was killed" in sections["summary"]
    sections, _ = text_of(write_report(KINDS["failed"](tmp_path / "failed")))
    assert "No trial succeeded" in sections["best"]
    assert "of 12 trial(s) none has one" in sections["history"]
    assert "12 of 12 trials failed" in sections["failures"]


def test_only_trials_of_the_highest_fidelity_are_compared(tmp_path):
    folder = KINDS["fidelities"](tmp_path / "run")
    sections, _ = text_of(write_report(folder))
    completed = [trial for trial in read_record(folder).trials if trial.values]
    top = [trial for trial in completed if trial.fidelity == 9]
    assert f"{len(top)} of {len(completed)} completed trials are shown" in sections["history"]
    assert "at the highest fidelity, 9" in sections["history"]
    assert "pruned" in sections["summary"]
    assert "pruned" not in sections["failures"]


def test_the_winner_of_the_repeats_is_the_best(tmp_path):
    folder = KINDS["repeats"](tmp_path / "run")
    sections, _ = text_of(write_report(folder))
    assert "0.7 (trial 23)" in sections["summary"]  # of the better mean, the repeat of median value
    assert "Trained again with other seeds" in sections["best"]
    assert "0.6 / 0.7 / 0.8" in sections["best"]
    assert "18 of 24 completed trials are shown" in sections["history"]


def test_only_the_pages_own_scripts_are_in_it(tmp_path):
    path = write_report(KINDS["hostile"](tmp_path / "run"))
    html = Path(path).read_text(encoding="utf-8")
    assert len(re.findall("<script", html)) == 3
    assert "<img" not in html and "<b>" not in html
    assert "&lt;/script&gt;&lt;script&gt;window.pwned=1" in html
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", html)[0]  # {{ 7*7 }}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    assert policy.startswith("default-src 'none'; script-src 'unsafe-eval'")
    assert len(re.findall("sha256-", policy)) == 2


def test_how_to_run_it_again_can_be_pasted_whatever_the_folder_is_called(tmp_path):
    folder = write_journal(tmp_path / "it's", MIXED, some_trials(1, MIXED), executor="spark")
    sections, _ = text_of(write_report(folder))
    written = html.unescape(sections["environment"])
    place = shlex.quote(str(folder))
    assert f"hpo-spark resume {place} --set study.max_trials=N" in written
    again = next(line for line in written.splitlines() if "hpo-spark run" in line)
    assert shlex.split(again[again.index("hpo-spark") :])[2] == f"{folder}/study.yaml"


def test_a_section_that_fails_says_why_and_loses_no_other(tmp_path, monkeypatch):
    def broken(view, objective):
        raise TypeError(f"it broke {SCRIPT}")

    monkeypatch.setattr(plots, "history", broken)
    sections, html = text_of(write_report(KINDS["mixed"](tmp_path / "run")))
    assert tuple(sections) == SECTIONS
    assert "This could not be made: TypeError: it broke &lt;/script&gt;" in sections["history"]
    assert html.count('class="problem"') == 2  # and where there is no JavaScript
    assert "plot-0" in sections["parallel"]


def test_what_is_not_there_is_an_error_in_words(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no journal\.jsonl"):
        write_report(tmp_path)
    folder = KINDS["single"](tmp_path / "run")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report(folder, tmp_path / "run" / "journal.jsonl" / "report.html")


def test_the_journal_may_lie_behind_a_url(tmp_path):
    folder = KINDS["single"](tmp_path / "run")
    assert write_report(f"file://{folder}") == f"{folder}/report.html"
    assert write_report(folder / "journal.jsonl") == f"{folder}/report.html"


def test_a_search_is_watched_to_its_end(tmp_path, monkeypatch):
    """The watcher reads while the journal grows, and halves of its last line too."""
    monkeypatch.setattr(write, "_MAX_SHARE", 10.0)  # it may do nothing else
    trials = some_trials(6, MIXED)
    folder = write_journal(tmp_path / "run", MIXED, trials[:2], ends=False)
    content = (folder / "journal.jsonl").read_bytes()
    whole = (write_journal(tmp_path / "whole", MIXED, trials) / "journal.jsonl").read_bytes()
    journal = Journal(open_storage(folder), read_record(folder).check)
    seen = []

    def go_on():
        for trial in trials[2:]:
            time.sleep(0.05)
            journal.ask(replace(trial, state="RUNNING", values=None, error=None), 0)
            journal.tell(trial)
        journal.end({"state": "finished", "reason": "done", "slots": 4})

    (folder / "journal.jsonl").write_bytes(content + whole[:50])  # torn
    steps = watch(folder, every_s=0.05)
    assert 'data-reload-s="1.05"' in Path(next(steps)).read_text(encoding="utf-8")
    (folder / "journal.jsonl").write_bytes(content)
    writer = threading.Thread(target=go_on)
    writer.start()
    for path in steps:
        seen.append(Path(path).read_text(encoding="utf-8"))
    writer.join()
    assert "data-reload-s" not in seen[-1]
    assert "6 trials, finished" in seen[-1]
    assert len(seen) >= 1


def test_a_trial_that_runs_shows_how_far_it_has_come(tmp_path, monkeypatch):
    """What it reports is in no journal yet."""
    monkeypatch.setattr(write, "_MAX_SHARE", 10.0)
    gates = [threading.Event() for _ in range(3)]

    def objective(params, context):
        for step, gate in enumerate(gates, 1):
            context.report(step, params["x"])
            gate.wait(60)
        return params["x"]

    folder = tmp_path / "run"
    study = Study(SearchSpace(x=Float(0, 1)), objective, "random", seed=0, out=folder)
    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as driver:
        search = driver.submit(study.run, pool, 1)
        deadline = time.monotonic() + 60
        while not list(folder.glob("live/trial-0-*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        steps = watch(folder, tmp_path / "page.html", every_s=0.01)
        try:
            for gate in gates:
                sections, _ = text_of(next(steps))
                assert "Still running, and shown as far as they have come: 0." in sections["curves"]
                assert "plot-" in sections["curves"]
                gate.set()
        finally:
            for gate in gates:
                gate.set()
        last = text_of([*steps][-1])[0]
        assert search.result(60).state == "finished"
    assert "Still running" not in last["curves"] and "plot-" in last["curves"]


def test_without_the_extra_a_search_ends_well_and_says_one_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("HPO_SPARK_REPORT")
    (tmp_path / "mine.py").write_text("def score(params):\n    return params['x']\n")
    (tmp_path / "study.yaml").write_text(
        "study: {seed: 1, max_trials: 3}\nspace: {x: {float: [0, 1]}}\n"
        "objective: {function: mine.py:score}\nexecutor: serial\n"
    )
    script = (
        "import sys\nsys.modules['plotly'] = None\nfrom hpo_spark.cli import main\n"
        "print('code', main(['run', 'study.yaml', '--out', 'run']))\nprint('code', main(['report', 'run']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )
    assert re.findall(r"code (\d+)", done.stdout) == ["0", "2"]
    needs = 'The report needs plotly. Install it with: pip install "hpo_spark[report]"'
    assert done.stdout.count(f"no report.html: {needs}") == 1
    assert f"hpo-spark: {needs}" in done.stderr
    assert "Traceback" not in done.stderr


def test_axes_keep_their_names_where_a_rare_parameter_is_in_no_line():
    """Of many trials a sample is drawn; its axes are those of the sample."""
    space = SearchSpace(a=Float(0, 1), kind=Choice(["x", "y"]), b=Float(0, 1, when={"kind": "y"}), c=Float(0, 1))
    trials = [
        Trial(number, {"a": 0.5, "kind": "x", "c": number / 1000}, 0, state=TrialState.COMPLETED, values=[-number])
        for number in range(1000)
    ]
    trials[998] = replace(trials[998], params={"a": 0.5, "kind": "y", "b": 0.1, "c": 0.998})
    view = View(trials, space, ["maximize"])
    assert "b" in view.active and all("b" not in trial.params for trial in view.sample(plots.N_LINES))
    figure = plots.parallel(view)
    labels = [label for label, _ in figure.data[0].customdata]
    assert list(figure.layout.xaxis.ticktext) == labels == ["value", "a", "c", "kind"]


def test_a_result_draws_in_python(tmp_path):
    with ProcessExecutor(2) as executor:
        study = Study(HOSTILE, lambda params: float(len(str(params))), seed=0)
        result = study.run(executor, max_trials=12)
    assert len(result.plot_history().data[0].x) == 12
    for name in ("parallel", "slices", "contour", "importances", "timeline"):
        assert getattr(result, f"plot_{name}")().data
    with pytest.raises(ValueError, match="has reported a value on its way"):
        result.plot_curves()
    with pytest.raises(ValueError, match="A front needs several objectives"):
        result.plot_pareto()
