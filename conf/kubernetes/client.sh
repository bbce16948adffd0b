#!/bin/sh
# A search on Kubernetes, in client mode: the driver is here, on a host or in a pod that the executors' pods can reach as
# DRIVER_HOST. NOT RUN HERE on a cluster; a test has spark-submit read this line.
#
#   KUBERNETES=https://HOST:6443 IMAGE=registry/hpo_spark:0.1.0 DRIVER_HOST=10.0.0.5 \
#     conf/kubernetes/client.sh run study.yaml --out /runs/x
#
# The Python here must be of the image's version, with the same hpo_spark. /runs must be the volume that executors have
# there, or the run folder a URL. GPUS=1 asks for a GPU an executor; the study file says how many a trial takes
# (resources: {gpus: 1}).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
image=/opt/hpo_spark # where the image has jobs/ and conf/

executor_pod=executor-pod.yaml
if [ "${GPUS:-0}" -gt 0 ]; then
  executor_pod=executor-pod-gpu.yaml
  set -- \
    --conf spark.executor.resource.gpu.amount="$GPUS" \
    --conf spark.executor.resource.gpu.vendor=nvidia.com \
    --conf spark.executor.resource.gpu.discoveryScript="$image/conf/gpus.sh" \
    "$here/../../jobs/tune.py" "$@"
else
  set -- "$here/../../jobs/tune.py" "$@"
fi
export SPARK_CONF_DIR="$here/.." # spark-defaults.conf, and log4j2.properties, which the pods get too
exec spark-submit \
  --master "k8s://${KUBERNETES:?KUBERNETES must be the URL of the API server, https://HOST:6443}" \
  --deploy-mode client \
  --name "${NAME:-hpo-spark}" \
  --conf spark.driver.host="${DRIVER_HOST:?DRIVER_HOST must be the name or address of this host for the executors}" \
  --conf spark.driver.bindAddress=0.0.0.0 \
  --conf spark.driver.port="${DRIVER_PORT:-7078}" \
  --conf spark.blockManager.port="${BLOCK_MANAGER_PORT:-7079}" \
  --conf spark.kubernetes.namespace="${NAMESPACE:-default}" \
  --conf spark.kubernetes.container.image="${IMAGE:?IMAGE must be the name of an image with hpo_spark}" \
  --conf spark.kubernetes.executor.podTemplateFile="$here/$executor_pod" \
  --conf spark.executor.instances="${EXECUTORS:-4}" \
  --conf spark.executor.cores="${CORES:-2}" \
  --conf spark.pyspark.driver.python="${DRIVER_PYTHON:-python3}" \
  --conf spark.pyspark.python=/opt/venv/bin/python \
  "$@"
