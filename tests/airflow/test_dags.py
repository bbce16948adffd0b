"""The DAGs as a user runs them: a search, what judges it, and what publishes its model."""

import json

import joblib
import numpy as np
import pytest
from installed import HERE, ROOT

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

STUDY = """\
study: {name: digits, seed: 1, max_trials: 30}
report: false
space:
  C: {float: [1.0e-3, 1.0e+1], log: true}
searcher: random
objective:
  sklearn: my_models.py:classifier
  data: digits
  cv: 3
"""
MODELS = """\
from sklearn.svm import LinearSVC

def classifier(params):
    return LinearSVC(**params)
"""


@pytest.fixture(scope="module", autouse=True)
def study(airflow):
    (airflow.folder / "study.yaml").write_text(STUDY)
    (airflow.folder / "my_models.py").write_text(MODELS)


def test_the_dags_load_and_airflow_refuses_wrong_params(airflow):
    wrong = {
        "trials": [0, 2.5, "many"],
        "timeout_s": [0, "1 h"],
        "study_file": ["", None],
        "at_least": ["high"],
        "publish_to": [""],
    }
    confs = [{name: value} for name, values in wrong.items() for value in values]
    right = {"trials": 3, "timeout_s": 60, "at_least": 0.9, "publish_to": "/srv/models"}
    done = airflow.call(
        "python", str(HERE / "look.py"), str(ROOT / "jobs" / "airflow"), *map(json.dumps, [*confs, right])
    )
    assert done.returncode == 0, done.stdout
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["errors"] == {}
    assert seen["dags"] == ["hpo_spark", "hpo_spark_local"]
    assert seen["files"] == ["hpo_spark_dags.py"]
    *answers, last = seen["answers"]
    assert last == "accepted"
    for conf, answer in zip(confs, answers, strict=True):
        (name,) = conf
        assert answer.startswith("ParamValidationError") and name in answer, (conf, answer)


def test_a_run_with_wrong_params_does_not_begin(airflow):
    done = airflow.test("submitted", trials=0)
    assert done.returncode != 0
    assert "0 is less than the minimum of 1" in done.stdout
    assert not (airflow.folder / "runs").exists()


def test_a_search_on_spark_is_judged_and_its_model_published(airflow):
    place = airflow.folder / "published"
    done = airflow.test("submitted", trials=4, metric="test.score", at_least=0.8, publish_to=str(place))
    assert done.returncode == 0, done.stdout[-8000:]
    assert airflow.tasks("submitted") == dict.fromkeys(("search", "judge", "publish"), ("success", 1))
    folder = airflow.run_folder("submitted")
    result = json.loads((folder / "result.json").read_text())
    assert (result["state"], result["trials"], result["slots"]) == ("finished", 4, 2)
    best = result["best_trial"]
    found = airflow.xcom("submitted", "search")
    assert (found["folder"], found["params"]) == (str(folder), best["params"])
    assert found["metrics"] == {**best["metrics"], "value": best["value"], "test.score": result["test"]["score"]}
    assert airflow.xcom("submitted", "judge") == result["test"]["score"]
    current = json.loads((place / "current.json").read_text())
    assert current == {"model": f"{folder.name}/model.joblib", "params": found["params"], "metrics": found["metrics"]}
    assert airflow.xcom("submitted", "publish") == str(place / current["model"])
    assert sorted(path.name for path in (place / folder.name).iterdir()) == [
        "model.joblib", "params.yaml", "result.json"]  # fmt: skip
    assert joblib.load(place / current["model"]).predict(np.zeros((1, 64))).shape == (1,)


def test_a_search_on_airflows_machine_below_the_threshold_fails_and_publishes_nothing(airflow):
    place = airflow.folder / "not published"
    done = airflow.test("local", trials=2, at_least=1.5, publish_to=str(place))
    assert done.returncode != 0
    tasks = airflow.tasks("local")
    assert tasks["search"] == ("success", 1)
    assert tasks["judge"] == ("failed", 1)
    assert tasks["publish"][0] == "upstream_failed"
    assert "below the threshold: expected at least 1.5" in done.stdout
    assert not place.exists()
    assert json.loads((airflow.run_folder("local") / "result.json").read_text())["trials"] == 2
