#!/bin/sh
# A search on a standalone cluster whose hosts have the libraries that hpo_spark needs, but not hpo_spark: it travels as a
# zip, and so do modules of your own that are a package or an archive (MODULES=my_models.zip,more.py). A file that the
# study names, such as my_models.py:build_model, travels by itself.
#
#   make dist
#   MASTER=spark://HOST:7077 conf/standalone/py-files.sh run study.yaml --out /shared/runs/x
#
# PYSPARK_PYTHON is the Python with the libraries, at one path on all hosts and here. Client mode, as in installed.sh.
set -eu
checkout=$(cd "$(dirname "$0")/../.." && pwd)

export SPARK_CONF_DIR="$checkout/conf"
exec spark-submit \
  --master "${MASTER:?MASTER must be the URL of the master, spark://HOST:7077}" \
  --py-files "${DIST:-$checkout/dist}/hpo_spark.zip${MODULES:+,$MODULES}" \
  "$checkout/jobs/tune.py" "$@"
