"""GPUs of a trial: how many it may ask for, and which of them it sees.

A process learns its devices from its environment, when a library first looks at them; so they are set before it starts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from hpo_spark.errors import ConfigError

__all__ = ["DEVICES", "check_gpus", "environment_of", "share_out", "visible_devices"]

# What CUDA reads; ROCm reads it too.
DEVICES = "CUDA_VISIBLE_DEVICES"
_ORDER = "CUDA_DEVICE_ORDER"


def check_gpus(gpus: float) -> None:
    """Raise `ConfigError` for one and a half GPUs and the like."""
    if gpus > 1 and gpus % 1:
        raise ConfigError(f"gpus={gpus:g}: must be a whole number, or a fraction below 1.")


def visible_devices() -> list[str]:
    """The devices that this process is told to use, as CUDA reads it: up to the first that is none."""
    named = [device.strip() for device in os.environ.get(DEVICES, "").split(",")]
    none = next((place for place, device in enumerate(named) if device in ("", "-1")), len(named))
    return named[:none]


def share_out(gpus: float, slots: int | None, most: int) -> list[dict[str, str]]:
    """Divide the devices that this process is told to use among trials on this machine.

    Args:
        gpus: Devices of a trial; with a fraction, as many trials share one as add up to it.
        slots: Trials at a time; None for what the devices allow, and ``most`` at most.
        most: Trials at a time for which there are cores.

    Returns:
        The environment of each trial that runs at the same time. Those that share a device are far apart.

    Raises:
        ConfigError: If there are not so many devices.
    """
    check_gpus(gpus)
    devices = visible_devices()
    if not devices:
        raise ConfigError(
            f"gpus={gpus:g}: {DEVICES} names no devices on this machine; say which ones trials may have, "
            f"for example with {DEVICES}=0,1 in the environment."
        )
    if gpus < 1:
        shares = devices * int(1 / gpus + 1e-9)
    else:
        each = int(gpus)
        shares = [",".join(devices[n : n + each]) for n in range(0, len(devices) - each + 1, each)]
    wanted = slots or max(1, min(most, len(shares)))
    if wanted > len(shares):
        raise ConfigError(
            f"gpus={gpus:g}: {DEVICES}={','.join(devices)} has enough for {len(shares)} trial(s) at a time, "
            f"and {wanted} should run; name more devices, or ask for fewer."
        )
    return [{DEVICES: share} for share in shares[:wanted]]


def environment_of(addresses: Sequence[str]) -> dict[str, str]:
    """The environment of a trial to which Spark has assigned devices.

    Args:
        addresses: Spark's names of them. Numbers count within the devices that this process is told to use, where it is
            told so; else as nvidia-smi counts, from which discovery scripts have them.

    Raises:
        ConfigError: If one is past the end of these devices: two trials could else have the same.
    """
    visible = visible_devices()
    if not visible:
        return {DEVICES: ",".join(addresses), _ORDER: os.environ.get(_ORDER, "PCI_BUS_ID")}
    return {DEVICES: ",".join(_named(address, visible) for address in addresses)}


def _named(address: str, visible: Sequence[str]) -> str:
    if not address.isdigit():
        return address
    if int(address) >= len(visible):
        raise ConfigError(
            f"Spark has assigned the GPU {address}, and {DEVICES}={','.join(visible)} has 0 to {len(visible) - 1}: "
            "have the discovery script count within these, as conf/gpus.sh does, or unset it for the executors."
        )
    return visible[int(address)]
