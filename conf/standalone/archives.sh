#!/bin/sh
# A search on a standalone cluster whose hosts have nothing but Spark, and a Python of the same version at the same path:
# the environment travels packed, and each executor unpacks it into its own folder.
#
#   make dist
#   MASTER=spark://HOST:7077 conf/standalone/archives.sh run study.yaml --out /shared/runs/x
#
# DRIVER_PYTHON is a Python here that has hpo_spark. Workers should clean up behind applications, or each leaves its copy
# on their disks; older versions of Spark do not by themselves: SPARK_WORKER_OPTS=-Dspark.worker.cleanup.enabled=true.
# Client mode, as in installed.sh.
set -eu
checkout=$(cd "$(dirname "$0")/../.." && pwd)

export SPARK_CONF_DIR="$checkout/conf"
exec spark-submit \
  --master "${MASTER:?MASTER must be the URL of the master, spark://HOST:7077}" \
  --archives "${DIST:-$checkout/dist}/environment.tar.gz#environment" \
  --conf spark.pyspark.driver.python="${DRIVER_PYTHON:-python3}" \
  --conf spark.pyspark.python=./environment/bin/python \
  "$checkout/jobs/tune.py" "$@"
