#!/bin/sh
# A search on Kubernetes, in cluster mode: the driver is a pod too. NOT RUN HERE on a cluster; a test submits it to a
# server that records what Spark asks for.
#
#   kubectl create configmap hpo-spark-study --from-file=study.yaml --from-file=my_models.py
#   KUBERNETES=https://HOST:6443 IMAGE=registry/hpo_spark:0.1.0 \
#     conf/kubernetes/cluster.sh run /study/study.yaml --out /runs/x --resume
#
# IMAGE is built from docker/Dockerfile; setup.yaml beside this file makes the account and the volume. GPUS=1 asks for a GPU
# an executor; the study file says how many a trial takes (resources: {gpus: 1}).
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
    "local://$image/jobs/tune.py" "$@"
else
  set -- "local://$image/jobs/tune.py" "$@"
fi
export SPARK_CONF_DIR="$here/.." # spark-defaults.conf, and log4j2.properties, which the pods get too
exec spark-submit \
  --master "k8s://${KUBERNETES:?KUBERNETES must be the URL of the API server, https://HOST:6443}" \
  --deploy-mode cluster \
  --name "${NAME:-hpo-spark}" \
  --conf spark.kubernetes.namespace="${NAMESPACE:-default}" \
  --conf spark.kubernetes.container.image="${IMAGE:?IMAGE must be the name of an image with hpo_spark}" \
  --conf spark.kubernetes.authenticate.driver.serviceAccountName=hpo-spark \
  --conf spark.kubernetes.driver.podTemplateFile="$here/driver-pod.yaml" \
  --conf spark.kubernetes.executor.podTemplateFile="$here/$executor_pod" \
  --conf spark.executor.instances="${EXECUTORS:-4}" \
  --conf spark.executor.cores="${CORES:-2}" \
  "$@"
