#!/usr/bin/env bash
# A sentence becomes a picture:
#
#   bash launch/quickstart.sh "a small red circle on a blue background"
#
# Needs Python 3.11 or newer and nothing else. Makes .venv and installs into it (once), then draws with the cascade that
# comes with the package. Further arguments go to `unclip generate`, for example --count 4 --seed 7.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh

prompt="a small red circle on a blue background"
if [ $# -gt 0 ] && [[ "$1" != --* ]]; then
  prompt="$1"
  shift
fi
make_environment

# The file is named after the prompt: small letters and figures, the rest as dashes.
name="$(printf '%s' "$prompt" | tr '[:upper:]' '[:lower:]' | tr -cs 'a-z0-9' '-' | sed 's/^-*//; s/-*$//' | cut -c1-80)"
mkdir -p outputs
picture="$PWD/outputs/${name:-picture}.png"
.venv/bin/unclip generate "$prompt" --out "$picture" "$@"
