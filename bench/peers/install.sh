#!/usr/bin/env bash
# Installs the benchmark's peers beside this file: PyTorch in .venv, jax-js and tfjs in node_modules.
# Each half may fail without the other; the suite skips what is missing and says so.
set -uo pipefail
cd "$(dirname "$0")"
status=0

install_python() {
  [ -x .venv/bin/python ] || python3 -m venv .venv || return
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
}

# Nothing that the peers need happens in an install script.
install_node() { npm ci --ignore-scripts --no-audit --no-fund; }

install_python || { echo 'bench:peers: the Python peers could not be installed' >&2; status=1; }
install_node || { echo 'bench:peers: the JavaScript peers could not be installed' >&2; status=1; }
exit $status
