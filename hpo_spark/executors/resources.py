"""CPUs and GPUs for a task on Spark: what the session gives anyway, a resource profile, or a refusal in words.

Spark itself ignores a profile on ``local[N]``, and waits for ever for a GPU that nobody has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo_spark.errors import ConfigError
from hpo_spark.executors.devices import DEVICES, check_gpus
from hpo_spark.executors.spark_task import GPU

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.resource import ResourceProfile

__all__ = ["TASK_GPUS", "asked_of_executors", "is_dynamic", "is_local", "task_profile"]

TASK_GPUS = f"spark.task.resource.{GPU}.amount"
_EXECUTOR_GPUS = f"spark.executor.resource.{GPU}.amount"


def is_local(context: SparkContext) -> bool:
    """Whether driver and workers are one process: ``local``, ``local[N]``, but not ``local-cluster[...]``."""
    master: str = context.master
    return master.startswith("local") and not master.startswith("local-cluster")


def is_dynamic(context: SparkContext) -> bool:
    """Whether executors come and go with the tasks that wait."""
    return (context.getConf().get("spark.dynamicAllocation.enabled") or "").lower() == "true"


def task_profile(context: SparkContext, cpus: int | None, gpus: float) -> ResourceProfile | None:
    """The resource profile that gives a task what it needs; None where the session does so by itself.

    Args:
        context: The session's context.
        cpus: Cores for a task; None for what the session says.
        gpus: GPUs for a task, also a fraction; 0 for what the session says.

    Raises:
        ConfigError: If they cannot be had; says what to submit with.
    """
    check_gpus(gpus)
    conf = context.getConf()
    given_cpus, given_gpus = int(conf.get("spark.task.cpus") or 1), float(conf.get(TASK_GPUS) or 0)
    if is_local(context):
        _check_local(context.master, cpus, gpus, given_cpus, given_gpus)
        return None
    if cpus in (None, given_cpus) and gpus in (0, given_gpus):
        return None
    cores, devices = conf.get("spark.executor.cores"), float(conf.get(_EXECUTOR_GPUS) or 0)
    if cores is not None and cpus is not None and cpus > int(cores):
        raise ConfigError(
            f"cpus={cpus}: executors of this session have spark.executor.cores={cores}; "
            f"submit with --conf spark.executor.cores={cpus} or more."
        )
    if gpus > devices:
        raise ConfigError(
            f"gpus={gpus:g}: executors of this session have {devices:g}; submit with "
            f"--conf {_EXECUTOR_GPUS}={-(-gpus // 1):g} and --conf spark.executor.resource.{GPU}.discoveryScript=FILE, "
            "or have them in spark-defaults.conf."
        )
    if gpus not in (0, given_gpus) and (gpus % 1 or given_gpus % 1) and not _profiles_divide(context):
        raise ConfigError(
            f"gpus={gpus:g}: Spark {context.version} divides GPUs only as the submission says, which has "
            f"{given_gpus:g} a task; submit with --conf {TASK_GPUS}={gpus:g}, or use Spark 4."
        )
    return _profile(context, cpus or given_cpus, gpus or given_gpus)


def _profiles_divide(context: SparkContext) -> bool:
    """Whether a resource profile may divide GPUs in another way than the submission does (SPARK-45527)."""
    return int(context.version.partition(".")[0]) >= 4 or is_dynamic(context)


def asked_of_executors(context: SparkContext) -> str:
    """What the submission wants each executor to have; a master that has no machine with so much waits for one."""
    conf = context.getConf()
    wanted = {name: conf.get(name) for name in ("spark.executor.cores", "spark.executor.memory", _EXECUTOR_GPUS)}
    return ", ".join(f"{name}={value}" for name, value in wanted.items() if value) or "what the master gives by default"


def _check_local(master: str, cpus: int | None, gpus: float, given_cpus: int, given_gpus: float) -> None:
    if gpus or given_gpus:
        what = f"gpus={gpus:g}" if gpus else f"{TASK_GPUS}={given_gpus:g}"
        raise ConfigError(
            f"{what}: the master {master} gives tasks no GPUs, and Spark would wait for them for ever. "
            f"Use a cluster; or the executor 'processes', which divides the devices that {DEVICES} names; "
            "or gpus=0, and every trial sees them all."
        )
    if cpus not in (None, given_cpus):
        raise ConfigError(
            f"cpus={cpus}: this session gives a task spark.task.cpus={given_cpus}, which the master {master} "
            f"cannot change any more; submit with --conf spark.task.cpus={cpus}."
        )


def _profile(context: SparkContext, cpus: int, gpus: float) -> ResourceProfile:
    from pyspark.resource import ExecutorResourceRequests, ResourceProfileBuilder, TaskResourceRequests

    conf = context.getConf()
    task = TaskResourceRequests().cpus(cpus)
    if gpus:
        task = task.resource(GPU, gpus)
    builder = ResourceProfileBuilder().require(task)
    if is_dynamic(context):
        # Spark then starts executors for the profile, which must say what they are: the same as the others.
        executor = ExecutorResourceRequests().cores(int(conf.get("spark.executor.cores") or cpus))
        executor = executor.memory(conf.get("spark.executor.memory") or "1g")
        if gpus:
            script = conf.get(f"spark.executor.resource.{GPU}.discoveryScript") or ""
            vendor = conf.get(f"spark.executor.resource.{GPU}.vendor") or ""
            executor = executor.resource(GPU, int(float(conf.get(_EXECUTOR_GPUS))), script, vendor)
        builder = builder.require(executor)
    profile: ResourceProfile = builder.build
    return profile
