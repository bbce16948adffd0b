#!/bin/sh
# A search on YARN, in client mode: the driver is here, on a gateway that the cluster's hosts can reach. NOT RUN HERE on
# a cluster; a test has spark-submit read this line.
#
#   make dist
#   conf/yarn/client.sh run study.yaml --out /shared/runs/x
#
# Executors unpack the packed environment; DRIVER_PYTHON is a Python here that has hpo_spark. The run folder is on a file
# system that all hosts share, or a URL such as s3://.
set -eu
checkout=$(cd "$(dirname "$0")/../.." && pwd)
# As --conf they hold beside the site's own spark-defaults.conf, which --properties-file would replace.
settings=$(sed -n 's/^\(spark[^ ]*\)  *\([^ ]*\)$/--conf \1=\2/p' "$checkout/conf/spark-defaults.conf")

# shellcheck disable=SC2086 # the settings are words
exec spark-submit \
  --master yarn \
  --deploy-mode client \
  $settings \
  --num-executors "${EXECUTORS:-4}" \
  --executor-cores "${CORES:-2}" \
  --archives "${DIST:-$checkout/dist}/environment.tar.gz#environment" \
  --conf spark.pyspark.driver.python="${DRIVER_PYTHON:-python3}" \
  --conf spark.pyspark.python=./environment/bin/python \
  "$checkout/jobs/tune.py" "$@"
