# MLflow's server and an S3 server for trying things out, as docker/compose.yaml runs them beside the cluster.
ARG BASE_IMAGE=docker.io/library/debian:12.12-slim

FROM ${BASE_IMAGE}
# As in docker/Dockerfile.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
      ca-certificates python3 python3-venv tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home server \
    && install --directory --owner server /data
COPY docker/constraints.txt /tmp/
ENV PATH=/opt/venv/bin:$PATH \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    PIP_DISABLE_PIP_VERSION_CHECK=1
# hadolint ignore=DL3013,DL3042
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/venv \
    && pip install --quiet --constraint /tmp/constraints.txt mlflow "moto[server]"
COPY docker/s3.py /opt/
USER 1000
WORKDIR /data
EXPOSE 5000 9000
ENTRYPOINT ["/usr/bin/tini", "-s", "--"]
CMD ["mlflow", "--help"]
