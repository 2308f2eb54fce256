#!/usr/bin/env bash
# What a contributor runs:
#
#   bash launch/test.sh                           all quick tests, two at a time
#   bash launch/test.sh --all                     the slow ones too (what CI runs)
#   bash launch/test.sh tests/diffusion -k ddim   any further arguments go to pytest
#
# Needs Python 3.11 or newer and nothing else. Makes .venv and installs into it (once).
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh

arguments=(-m "not slow") all=""
for argument in "$@"; do
  if [ "$argument" = --all ]; then arguments+=(-m "") all=yes; else arguments+=("$argument"); fi
done
make_environment test
if [ -n "$all" ] && [ "$(uname -sm)" = "Linux x86_64" ]; then make_tpu_compiler; fi
# worksteal: a worker begins with neighbouring tests, which share what they compile, and takes others' when it is done.
exec .venv/bin/python -m pytest -n 2 --dist worksteal "${arguments[@]}"
