#!/usr/bin/env bash
# Trains every stage on a folder of captioned images, packages them and generates an image:
#
#   bash launch/train_folder.sh IMAGES [RUNS_DIR] [--clip CASCADE] [--configs DIR] [--config.SECTION.FIELD=VALUE ...]
#
#   IMAGES      folder of images, each with a .txt file of captions, one per line, or with a captions.jsonl for all
#   RUNS_DIR    folder for the workdir of each stage, the CLIP embeddings and the cascade (default: runs/folder)
#   --clip      use the frozen CLIP model of a cascade (bundled name or folder) instead of training one
#   --configs   folder with a config file for each stage (default: configs/shapes)
#   --config.*  overrides for all stages
#
# The configs in configs/shapes train on images of at least 256 px. If interrupted, run it again to resume from the
# latest checkpoint; finished stages are skipped. Needs only Python 3.11 or newer.
set -euo pipefail
here="$PWD"
cd "$(dirname "$0")/.."
source launch/environment.sh

absolute() {
  if [[ "$1" == /* || "$1" == *://* ]]; then echo "$1"; else echo "$here/$1"; fi
}

paths=() settings=() clip="" configs="configs/shapes"
while [ $# -gt 0 ]; do
  case "$1" in
    --clip | --configs)
      [ $# -gt 1 ] || fail "$1 requires a value."
      if [ "$1" = --configs ]; then configs="$(absolute "$2")"; else clip="$2"; fi
      shift
      ;;
    --config.*) settings+=("$1") ;;
    -*) fail "Unknown argument $1. Available: --clip, --configs, --config.SECTION.FIELD=VALUE." ;;
    *) paths+=("$1") ;;
  esac
  shift
done
case ${#paths[@]} in
  1 | 2) ;;
  *) fail "Expected IMAGES and optionally RUNS_DIR, got ${#paths[@]} positional arguments." ;;
esac
images="$(absolute "${paths[0]}")"
runs="$(absolute "${paths[1]:-runs/folder}")"
cascade="$runs/cascade"
if [ -n "$clip" ] && [ -e "$here/$clip" ]; then clip="$here/$clip"; fi
make_environment
unclip=.venv/bin/unclip
# Disable the cache, because the images may not fit in memory.
folder=(--config.data.source=folder --config.data.dir="$images" --config.data.cache=False
  ${settings[@]+"${settings[@]}"})

train() {
  local stage="$1"
  shift
  echo "== $stage"
  $unclip train --config="$configs/$stage.py" --workdir="$runs/$stage" "$@"
}

# Package CLIP first: the other stages train with the packaged float16 weights, which are also used for sampling.
# Image folders have no negative captions and no scene targets.
if [ -z "$clip" ]; then train clip --config.data.{negative_captions,scene_targets}=False "${folder[@]}"; fi
if [ -n "$clip" ]; then source=(--clip "$clip"); else source=("$runs/clip"); fi
[ -e "$cascade/cascade.json" ] || $unclip package "${source[@]}" --out "$cascade"
encoder=--config.encoders.clip="$cascade/clip"

if [ ! -e "$runs/embeddings/manifest.json" ]; then
  echo "== embeddings"
  $unclip prepare-data embeddings --config="$configs/diffusion_prior.py" --out="$runs/embeddings" \
    "${folder[@]}" "$encoder"
fi
train diffusion_prior "${folder[@]}" "$encoder" --config.data.source=embeddings --config.data.dir="$runs/embeddings"
train decoder "${folder[@]}" "$encoder"
train upsampler_16_to_64 "${folder[@]}"
train upsampler_64_to_256 "${folder[@]}"
$unclip package "$runs"/{diffusion_prior,decoder,upsampler_16_to_64,upsampler_64_to_256} --out "$cascade"

caption="$(.venv/bin/python -c 'import json, sys; print(json.loads(sys.stdin.readline())[0])' \
  <"$runs/embeddings/test/captions.jsonl")"
$unclip generate "$caption" --cascade "$cascade" --out "$runs/sample.png"
echo "Saved the cascade to $cascade and a sample image to $runs/sample.png. Prompt: $caption"
