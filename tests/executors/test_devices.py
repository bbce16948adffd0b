"""Devices of trials on this machine, and how Spark's are named."""

import pytest
from devices import DEVICES, counted

from hpo_spark import ConfigError, ProcessExecutor
from hpo_spark.executors.devices import environment_of


@pytest.fixture
def two_devices(monkeypatch):
    monkeypatch.setenv(DEVICES, "3, 5")


def test_trials_in_processes_have_a_device_each(two_devices, tmp_path):
    with ProcessExecutor(2, gpus=1) as executor:
        assert executor.slots == 2
        executor.prestart()
        assert counted(executor, tmp_path / "one", 12, 2) == {"3": 6, "5": 6}


def test_or_share_one(two_devices, tmp_path):
    with ProcessExecutor(4, gpus=0.5) as executor:
        assert counted(executor, tmp_path / "half", 4, 4, 2) == {"3": 2, "5": 2}
    with ProcessExecutor(2, gpus=0.5) as executor:  # as long as there are enough, nobody does
        assert counted(executor, tmp_path / "two", 2, 2) == {"3": 1, "5": 1}


def test_or_have_them_all(two_devices, tmp_path):
    with ProcessExecutor(gpus=2) as executor:
        assert executor.slots == 1
        assert counted(executor, tmp_path / "all", 2, 1) == {"3,5": 2}


def test_devices_survive_the_process_of_a_trial(two_devices, tmp_path):
    with ProcessExecutor(2, gpus=1, isolation="trial") as executor:
        assert counted(executor, tmp_path / "one", 6, 2) == {"3": 3, "5": 3}


def test_slots_are_those_of_cores_and_devices_together(monkeypatch):
    monkeypatch.setattr("hpo_spark.executors.process.usable_cores", lambda: 4)
    monkeypatch.setenv(DEVICES, "0,1,2,3,4,5,6,7")
    for options, slots in (({"gpus": 1}, 4), ({"gpus": 4}, 2), ({"gpus": 3, "cpus": 4}, 1), ({"gpus": 0.25}, 4)):
        with ProcessExecutor(**options) as executor:
            assert executor.slots == slots
    with ProcessExecutor(80, gpus=0.1) as executor:
        assert executor.slots == 80


@pytest.mark.parametrize(
    ("visible", "options", "words"),
    [
        ("", {"gpus": 1}, "gpus=1: CUDA_VISIBLE_DEVICES names no devices"),
        ("-1", {"gpus": 1}, "gpus=1: CUDA_VISIBLE_DEVICES names no devices"),
        ("0,-1,1", {"gpus": 2}, "CUDA_VISIBLE_DEVICES=0 has enough for 0"),
        ("0,1", {"gpus": 3}, "gpus=3: CUDA_VISIBLE_DEVICES=0,1 has enough for 0 trial"),
        ("0,1", {"gpus": 0.5, "slots": 5}, "gpus=0.5: CUDA_VISIBLE_DEVICES=0,1 has enough for 4 trial.*and 5 should"),
        ("0,1", {"gpus": 1.5}, "gpus=1.5: must be a whole number"),
        ("0,1", {"gpus": -1}, "gpus must be a number above 0"),
    ],
)
def test_devices_that_are_not_there_are_refused(monkeypatch, visible, options, words):
    monkeypatch.setenv(DEVICES, visible)
    with pytest.raises(ValueError, match=words) as caught:
        ProcessExecutor(**options)
    assert isinstance(caught.value, ConfigError) or options["gpus"] < 0


def test_sparks_addresses_count_within_what_its_executor_may_see(monkeypatch):
    monkeypatch.setenv(DEVICES, "GPU-aa,GPU-bb")
    assert environment_of(["1"]) == {DEVICES: "GPU-bb"}
    assert environment_of(["0", "GPU-cc"]) == {DEVICES: "GPU-aa,GPU-cc"}


def test_an_address_past_the_end_is_refused_for_two_trials_could_have_one_device(monkeypatch):
    monkeypatch.setenv(DEVICES, "2,3")
    assert [environment_of([address])[DEVICES] for address in "01"] == ["2", "3"]
    for address in "23":
        with pytest.raises(ConfigError, match=f"assigned the GPU {address}, and CUDA_VISIBLE_DEVICES=2,3 has 0 to 1"):
            environment_of([address])


def test_else_as_nvidia_smi_counts(monkeypatch):
    """CUDA counts by speed unless told to count as nvidia-smi does, from which Spark's discovery scripts have them."""
    monkeypatch.delenv(DEVICES, raising=False)
    assert environment_of(["1", "0"]) == {DEVICES: "1,0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert environment_of(["1"])["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
