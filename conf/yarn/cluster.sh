#!/bin/sh
# A search on YARN, in cluster mode: the driver is a container of the cluster. NOT RUN HERE on a cluster; a test has
# spark-submit read this line.
#
#   make dist
#   FILES=study.yaml,my_models.py conf/yarn/cluster.sh run study.yaml --out s3://bucket/runs/x --resume
#
# FILES lie in the driver's working folder. The driver has no other Python than the packed environment, so pack what it
# needs too: make dist EXTRAS=arrow,keras-cpu,sklearn,report,s3. With --resume a second attempt of the application goes on
# where the first one was lost. The exit code of spark-submit says little; result.json has the state.
set -eu
checkout=$(cd "$(dirname "$0")/../.." && pwd)
# As --conf they hold beside the site's own spark-defaults.conf, which --properties-file would replace.
settings=$(sed -n 's/^\(spark[^ ]*\)  *\([^ ]*\)$/--conf \1=\2/p' "$checkout/conf/spark-defaults.conf")

# shellcheck disable=SC2086 # the settings are words
exec spark-submit \
  --master yarn \
  --deploy-mode cluster \
  $settings \
  --num-executors "${EXECUTORS:-4}" \
  --executor-cores "${CORES:-2}" \
  --archives "${DIST:-$checkout/dist}/environment.tar.gz#environment" \
  --conf spark.pyspark.python=./environment/bin/python \
  --conf spark.yarn.maxAppAttempts=2 \
  ${FILES:+--files "$FILES"} \
  "$checkout/jobs/tune.py" "$@"
