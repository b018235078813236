#!/usr/bin/env bash
# Installs the benchmark's peers beside this file: PyTorch, transformers, TRL and Math-Verify in .venv, jax-js and tfjs in node_modules,
# and last llama.cpp, which is compiled here (about 8 minutes, with a C++ compiler); --without-llama-cpp leaves it out.
# Each part may fail without the others; the suites skip what is missing and say so.
set -uo pipefail
cd "$(dirname "$0")"
status=0

pip_install() { .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$1"; }

install_python() {
  [ -x .venv/bin/python ] || python3 -m venv .venv || return
  pip_install requirements.txt
}

# Nothing that the peers need happens in an install script.
install_node() { npm ci --ignore-scripts --no-audit --no-fund; }

install_python || { echo 'bench:peers: the Python peers could not be installed' >&2; status=1; }
install_node || { echo 'bench:peers: the JavaScript peers could not be installed' >&2; status=1; }
if [ "${1:-}" != --without-llama-cpp ]; then
  pip_install requirements-llama-cpp.txt || { echo 'bench:peers: llama.cpp could not be compiled' >&2; status=1; }
fi
exit $status
