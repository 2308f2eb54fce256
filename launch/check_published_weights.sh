#!/usr/bin/env bash
# Compares published weights on this disk with their original implementation, network by network. If all outputs match,
# prints a row for the table of pretrained weights in README.md.
#
#   bash launch/check_published_weights.sh SOURCE [--peer PATH] [--clip PATH] [--tokenizer PATH]
#
#   SOURCE       file or folder of a published model
#   --peer       clone of the original repository, for Karlo's original files, GLIDE and guided-diffusion, and for
#                OpenCLIP if open_clip is not installed
#   --clip       CLIP model for Karlo's original files; it is checked as well
#   --tokenizer  tokenizer, if there is none next to the weights (default: use random tokens)
#
# The exit code is 1 if an output differs by more than 1e-4 of the largest value, and 2 if nothing could be compared.
# Needs Python 3.11 or newer and memory for two float32 copies of the largest network, but no accelerator.
set -euo pipefail
here="$PWD"
cd "$(dirname "$0")/.."
source launch/environment.sh

if [ $# -eq 0 ]; then
  echo "$(basename "$0"): SOURCE is required: file or folder of a published model." >&2
  exit 2
fi
arguments=()
for argument in "$@"; do
  # Resolve paths relative to the directory of the caller.
  if [[ "$argument" != -* && "$argument" != /* && -e "$here/$argument" ]]; then argument="$here/$argument"; fi
  arguments+=("$argument")
done
make_environment parity
exec .venv/bin/python -m tests.golden.check_published "${arguments[@]}"
