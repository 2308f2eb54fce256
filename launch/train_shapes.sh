#!/usr/bin/env bash
# Trains every stage of the bundled cascade, in order, and packages them:
#
#   bash launch/train_shapes.sh [RUNS_DIR]        default: runs
#
# Each stage has its workdir RUNS_DIR/<stage>; the cascade is RUNS_DIR/shapes, for `unclip generate --cascade`.
# Stopped at any point and run again, it goes on from the last checkpoint; finished stages return at once.
# configs/shapes/README.md says how long each stage takes. Needs Python 3.11 or newer and nothing else.
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

# CLIP first, and packaged at once: what follows trains against the packaged float16 file, the one that pictures are
# later made with.
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
echo "The cascade is in $runs/shapes"
