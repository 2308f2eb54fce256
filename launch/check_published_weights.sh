#!/usr/bin/env bash
# Holds published weights on this disk against the code that they came with, network by network, and prints the line
# that README.md's table of published weights takes when they agree:
#
#   bash launch/check_published_weights.sh SOURCE [--peer PATH] [--clip PATH] [--tokenizer PATH]
#
#   SOURCE       a published model: its file, or its folder
#   --peer       a clone of the repository with its code, for Karlo's own files, GLIDE and guided-diffusion; for
#                OpenCLIP's where open_clip is not installed
#   --clip       the CLIP of Karlo's own files, which is checked too
#   --tokenizer  where none lies beside the weights; without one, tokens are drawn
#
# Exit code 1 where an answer differs by more than 1e-4 of the largest, 2 where nothing could be compared. Needs Python
# 3.11 or newer, memory for the largest network twice in float32, and no accelerator.
set -euo pipefail
here="$PWD"
cd "$(dirname "$0")/.."
source launch/environment.sh

if [ $# -eq 0 ]; then
  echo "$(basename "$0"): needs SOURCE, a published model's file or folder" >&2
  exit 2
fi
arguments=()
for argument in "$@"; do
  # Named from where the caller stands, and read from the repository's root.
  if [[ "$argument" != -* && "$argument" != /* && -e "$here/$argument" ]]; then argument="$here/$argument"; fi
  arguments+=("$argument")
done
make_environment parity
exec .venv/bin/python -m tests.golden.check_published "${arguments[@]}"
