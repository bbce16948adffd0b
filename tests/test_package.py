"""The public surface and its promises: names, light imports, a README that is true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from setuptools import find_packages

import hpo_spark

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_all_is_the_whole_public_surface():
    assert sorted(hpo_spark.__all__) == sorted([*hpo_spark._HOME_OF, "__version__"])
    for name in hpo_spark.__all__:
        assert getattr(hpo_spark, name) is not None
    assert set(dir(hpo_spark)) == set(hpo_spark.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Optimizer'"):
        hpo_spark.Optimizer  # noqa: B018


def test_every_module_is_in_a_package_that_is_shipped():
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "hpo_spark").rglob("*.py")}
    shipped = find_packages(str(ROOT), include=["hpo_spark", "hpo_spark.*"])  # as setup.py does
    assert sorted(".".join(folder.parts) for folder in folders) == sorted(shipped)


def test_importing_needs_neither_spark_nor_tensorflow():
    script = (
        "import sys\n"
        "heavy = 'pyspark', 'tensorflow', 'keras', 'sklearn', 'optuna', 'skopt', 'hyperopt', 'pandas', 'fsspec'\n"
        "for name in heavy: sys.modules[name] = None\n"
        "import hpo_spark\n"
        "for name in hpo_spark.__all__: getattr(hpo_spark, name)\n"
        "import hpo_spark.cli\n"
        "space = hpo_spark.SearchSpace(x=hpo_spark.Float(0, 1))\n"
        "study = hpo_spark.Study(space, lambda params: params['x'], seed=0)\n"
        "with hpo_spark.ProcessExecutor(2) as executor:\n"
        "    print(study.run(executor, max_trials=8).best_trial.value)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout) <= 1


def test_no_placeholder_is_left_in_the_readme():
    assert re.findall(r"\b(?:SIZE|MATRIX|TODO|FIXME|XXX|TBD)\b", README) == []


def test_the_readmes_first_search_prints_what_it_says(tmp_path):
    code, output = re.findall(r"```(?:python|text)\n(.*?)```", README, re.DOTALL)[:2]
    (tmp_path / "first.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "first.py"], capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    names = [sorted(re.findall(r"'(\w+)':", text)) for text in (done.stdout, output)]
    assert names[0] == names[1]
    for found, written in zip(
        *(re.findall(r"(?:validation|test) ([\d.]+)", text) for text in (done.stdout, output)), strict=True
    ):
        assert float(found) == pytest.approx(float(written), abs=0.02)  # another processor may round otherwise
    assert (tmp_path / "runs" / "first" / "best" / "model.keras").exists()


def test_the_readmes_study_file_is_the_demos():
    from hpo_spark import yaml

    text, *_ = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    demo = yaml.load((ROOT / "conf" / "digits.yaml").read_text())
    shown = yaml.load(text)
    demo["objective"] = {key: demo["objective"][key] for key in shown["objective"]}
    assert shown == demo


def test_the_readme_names_what_there_is():
    from hpo_spark.searchers import NAMES

    assert set(re.findall(r"^\| `([\w:<>]+)` \|", README, re.MULTILINE)) >= set(NAMES)
    assert hpo_spark.__version__ in README
    assert hpo_spark.__version__ in (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        path, _, heading = target.partition("#")
        assert (ROOT / path).exists()
        assert path or heading in {re.sub(r"[^\w-]", "", name.lower().replace(" ", "-")) for name in headings}, target
    makefile = (ROOT / "Makefile").read_text()
    for word in re.findall(r"`(?:[A-Z_]+=\S+ )?make ([a-z-]+)`", README):
        assert re.search(rf"^{word}:", makefile, re.MULTILINE)
