#!/usr/bin/env bash
# Generates an image from a prompt:
#
#   bash launch/quickstart.sh "a small red circle on a blue background"
#
# Needs only Python 3.11 or newer. Installs the package into .venv (once) and uses the bundled cascade. Further
# arguments are passed to `unclip generate`, such as --count 4 --seed 7.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh

prompt="a small red circle on a blue background"
if [ $# -gt 0 ] && [[ "$1" != --* ]]; then
  prompt="$1"
  shift
fi
make_environment

# Name the file after the prompt: lower-case letters and digits, everything else as dashes.
name="$(printf '%s' "$prompt" | tr '[:upper:]' '[:lower:]' | tr -cs 'a-z0-9' '-' | sed 's/^-*//; s/-*$//' | cut -c1-80)"
mkdir -p outputs
image="$PWD/outputs/${name:-picture}.png"
.venv/bin/unclip generate "$prompt" --out "$image" "$@"
