#!/bin/sh
# The GPUs of a host as Spark asks for them: spark.worker.resource.gpu.discoveryScript on standalone workers,
# spark.executor.resource.gpu.discoveryScript on YARN and Kubernetes. It must be at the same path on all hosts.
# Where CUDA_VISIBLE_DEVICES is set, they are counted within it, for nvidia-smi shows all of the host.
set -eu
numbers() {
  if [ -z "${CUDA_VISIBLE_DEVICES+set}" ]; then
    nvidia-smi --query-gpu=index --format=csv,noheader
    return
  fi
  n=0 IFS=,
  for device in $CUDA_VISIBLE_DEVICES; do
    case "$device" in '' | ' ' | -1 | ' -1') break ;; esac # CUDA ends there too
    echo "$n"
    n=$((n + 1))
  done
}
addresses=$(numbers | sed 's/.*/"&"/' | paste -s -d , -)
echo "{\"name\": \"gpu\", \"addresses\": [$addresses]}"
