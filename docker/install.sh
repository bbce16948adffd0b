#!/bin/sh
# Install packages into /opt/venv, in the versions that the constraints have.
set -eu
# The base's certificates count: one may have some of its own added, of a proxy for instance.
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
exec /opt/uv/bin/uv pip install --quiet --python /opt/venv --compile-bytecode --link-mode copy \
  --constraint /opt/uv/constraints.txt --build-constraint /opt/uv/constraints.txt "$@"
