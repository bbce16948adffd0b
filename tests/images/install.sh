#!/usr/bin/env bash
# What the tests of images need of Debian: an engine for containers without a daemon, and the base image's maker.
set -euo pipefail

missing=()
for command in buildah podman runc debootstrap dnsmasq; do
  command -v "$command" >/dev/null || missing+=("$command")
done
if ((${#missing[@]})); then
  echo "installing for want of: ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
    buildah podman runc debootstrap golang-github-containernetworking-plugin-dnsname dnsmasq-base >/dev/null
fi
