#!/usr/bin/env bash
# Trains every stage of the bundled cascade from scratch, in order, and packages the result:
#
#   bash launch/train_shapes.sh [RUNS_DIR]        (default: runs)
#
# The workdir of each stage is RUNS_DIR/<stage>, and the cascade is RUNS_DIR/shapes, for `unclip generate --cascade`.
# If interrupted, run it again to resume from the latest checkpoint; finished stages are skipped. launch/README.md
# states how long each stage takes. Needs only Python 3.11 or newer.
set -euo pipefail
here="$PWD"
cd "$(dirname "$0")/.."
source launch/environment.sh

runs="${1:-runs}"
if [ $# -gt 0 ] && [[ "$runs" != /* && "$runs" != *://* ]]; then runs="$here/$runs"; fi
make_environment

train() {
  local stage="$1"
  shift
  echo "== $stage"
  .venv/bin/unclip train --config="configs/shapes/$stage.py" --workdir="$runs/$stage" "$@"
}

# Package CLIP first: the other stages train with the packaged float16 weights, which are also used for sampling.
train clip
[ -e "$runs/shapes/clip/config.json" ] || .venv/bin/unclip package "$runs/clip" --out "$runs/shapes"
encoder=--config.encoders.clip="$runs/shapes/clip"
if [ ! -e "$runs/embeddings/manifest.json" ]; then
  echo "== embeddings"
  .venv/bin/unclip prepare-data embeddings --config=configs/shapes/diffusion_prior.py --out="$runs/embeddings" "$encoder"
fi
train diffusion_prior "$encoder" --config.data.source=embeddings --config.data.dir="$runs/embeddings"
train decoder "$encoder"
train upsampler_16_to_64
train upsampler_64_to_256
.venv/bin/unclip package \
  "$runs"/{clip,diffusion_prior,decoder,upsampler_16_to_64,upsampler_64_to_256} --out "$runs/shapes"
echo "Saved the cascade to $runs/shapes."
