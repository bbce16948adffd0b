#!/usr/bin/env bash
# What a container of the image does:
#   master | worker MASTER_URL | history   a daemon of a standalone cluster, in the foreground
#   driver ARGUMENTS | executor            as Spark on Kubernetes calls its images
#   anything else                          is run as it is: hpo-spark, spark-submit, bash
#
# The daemons take their settings from the environment, as Spark documents them: SPARK_WORKER_CORES,
# SPARK_WORKER_MEMORY, SPARK_DAEMON_MEMORY, SPARK_HISTORY_OPTS and others.
set -euo pipefail

spark_class="$SPARK_HOME/bin/spark-class"

# Kubernetes: whatever an executor needs to know comes in variables, its Java options in numbered ones.
start_executor() {
  local -a java_options=()
  local name
  for ((i = 0; ; i++)); do
    name="SPARK_JAVA_OPT_$i"
    [[ -v $name ]] || break
    java_options+=("${!name}")
  done
  local class_path="${SPARK_CONF_DIR:-$SPARK_HOME/conf}:${HADOOP_CONF_DIR:+$HADOOP_CONF_DIR:}"
  class_path+="${SPARK_CLASSPATH:+$SPARK_CLASSPATH:}$SPARK_HOME/jars/*${SPARK_DIST_CLASSPATH:+:$SPARK_DIST_CLASSPATH}"
  exec "$JAVA_HOME/bin/java" \
    "${java_options[@]}" "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" -cp "$class_path" \
    org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
    --driver-url "$SPARK_DRIVER_URL" \
    --executor-id "$SPARK_EXECUTOR_ID" \
    --cores "$SPARK_EXECUTOR_CORES" \
    --app-id "$SPARK_APPLICATION_ID" \
    --hostname "$SPARK_EXECUTOR_POD_IP" \
    --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" \
    --podName "$SPARK_EXECUTOR_POD_NAME"
}

role="${1:-}"
case "$role" in
  master)
    exec "$spark_class" org.apache.spark.deploy.master.Master "${@:2}"
    ;;
  worker)
    exec "$spark_class" org.apache.spark.deploy.worker.Worker "${@:2}"
    ;;
  history)
    exec "$spark_class" org.apache.spark.deploy.history.HistoryServer "${@:2}"
    ;;
  driver)
    exec "$SPARK_HOME/bin/spark-submit" \
      --conf "spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS" --deploy-mode client "${@:2}"
    ;;
  executor)
    start_executor
    ;;
  *)
    exec "$@"
    ;;
esac
