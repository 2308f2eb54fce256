#!/usr/bin/env bash
# Runs the tests:
#
#   bash launch/test.sh                           all fast tests, in two processes
#   bash launch/test.sh --all                     slow tests as well, as in CI
#   bash launch/test.sh tests/diffusion -k ddim   further arguments are passed to pytest
#
# Needs only Python 3.11 or newer. Installs the package into .venv (once).
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh

arguments=(-m "not slow") all=""
for argument in "$@"; do
  if [ "$argument" = --all ]; then arguments+=(-m "") all=yes; else arguments+=("$argument"); fi
done
make_environment "test${all:+,lint}"
if [ -n "$all" ] && [ "$(uname -sm)" = "Linux x86_64" ]; then make_tpu_compiler; fi
# worksteal starts each worker with adjacent tests, which share compiled programs, and rebalances when a worker is idle.
exec .venv/bin/python -m pytest -n 2 --dist worksteal "${arguments[@]}"
