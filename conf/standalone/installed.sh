#!/bin/sh
# A search on a standalone cluster whose hosts have hpo_spark in the same Python as this one.
#
#   MASTER=spark://HOST:7077 conf/standalone/installed.sh run conf/digits.yaml --out /shared/runs/digits
#
# Client mode, as Spark runs no Python program otherwise on a standalone cluster: the driver is here, and the hosts must
# reach it (spark.driver.host, spark.driver.port and spark.blockManager.port, where a firewall stands between).
set -eu
checkout=$(cd "$(dirname "$0")/../.." && pwd)

export SPARK_CONF_DIR="$checkout/conf" # spark-defaults.conf and log4j2.properties
exec spark-submit \
  --master "${MASTER:?MASTER must be the URL of the master, spark://HOST:7077}" \
  "$checkout/jobs/tune.py" "$@"
