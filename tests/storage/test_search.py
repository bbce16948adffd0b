"""Searches whose run folder lies on an S3 server that fails for a while, or goes away."""

import fsspec
import pytest
from conftest import KEY, SECRET
from tensorboard.backend.event_processing import event_accumulator

from hpo_spark import Float, SearchSpace, SerialExecutor, Study
from hpo_spark import study as study_module
from hpo_spark.errors import StorageError
from hpo_spark.journal import read_trials
from hpo_spark.storage import open_storage
from hpo_spark.storage.remote import RemoteStorage

SPACE = SearchSpace(x=Float(-5.0, 5.0))


def square(params):
    return params["x"] ** 2


def search(url, retry_s=60.0, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module, "open_storage", lambda url: RemoteStorage(url, retry_s))
        study = Study(SPACE, square, "random", "minimize", seed=1, out=url, **options)
    with SerialExecutor() as executor:
        return study.run(executor, max_trials=12)


def table(trials):
    return [(trial.number, trial.params, trial.values) for trial in trials]


def test_a_search_goes_on_through_passing_faults(healthy, s3_url, memory_url):
    for number in range(12):
        healthy.fail(status=503 if number % 2 else None, path=f"journal/0000000{number % 10}", after=number % 3 == 0)
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        healthy.fail(method=method, times=3)
    result = search(s3_url)
    assert table(result.trials) == table(search(memory_url).trials) == table(read_trials(s3_url))
    assert open_storage(s3_url).names("") == ["result.json", "study.yaml", "trials.csv"]


def test_tensorboard_reads_what_a_search_wrote_there(healthy, s3_url, tmp_path):
    result = search(s3_url, tracking="tensorboard")
    storage = open_storage(s3_url)
    found = {}
    fs, _, (root,) = fsspec.get_fs_token_paths(s3_url)
    for path in fs.glob(f"{root}/tensorboard/trial-*/*"):
        *_, folder, file = path.split("/")
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(storage.read(f"tensorboard/{folder}/{file}"))
        events = event_accumulator.EventAccumulator(str(tmp_path / folder)).Reload()
        found[int(folder.split(",")[0].removeprefix("trial-"))] = events.Scalars("value")[0].value
    assert found == {trial.number: pytest.approx(trial.value, rel=1e-6) for trial in result.trials}


def test_a_search_whose_server_has_gone_ends_and_is_resumed(healthy, s3_url, memory_url, caplog):
    def stop(study, trial):
        if trial.number == 5:
            healthy.fail(status=503, times=10**6, message=f"away, {KEY}:{SECRET}")

    with pytest.raises(StorageError, match="what was told before is safe there") as caught:
        search(s3_url, 0.4, callbacks=[stop])
    healthy.faults.clear()
    assert not any(secret in text for secret in (KEY, SECRET) for text in (str(caught.value), caplog.text))
    assert [trial.number for trial in read_trials(s3_url)] == list(range(6))
    open_storage(s3_url).remove("lease-1.json")  # which could not be given back, and whose process lives on
    result = search(s3_url, resume=True)
    assert table(result.trials) == table(search(memory_url).trials)
    assert not any(secret.encode() in open_storage(s3_url).read_log("journal.jsonl") for secret in (KEY, SECRET))
