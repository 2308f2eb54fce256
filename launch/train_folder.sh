#!/usr/bin/env bash
# Trains every stage on a folder of captioned pictures, packages them, and makes a picture:
#
#   bash launch/train_folder.sh PICTURES [RUNS_DIR] [--clip CASCADE] [--configs DIR] [--config.SECTION.FIELD=VALUE ...]
#
#   PICTURES    for each picture a .txt of its name with a caption a line, or a captions.jsonl that names them all
#   RUNS_DIR    a workdir for each stage, the CLIP embeddings, and the cascade (runs/folder)
#   --clip      takes the CLIP, frozen, of a cascade ("shapes", or a folder), instead of training one
#   --configs   a config file for each stage, as in configs/shapes, which is the default
#   --config.*  set in every stage
#
# The configs of configs/shapes make pictures of 256 px and want such, or larger ones. Stopped at any point and run
# again, it goes on from the last checkpoint; what is finished returns at once. Needs Python 3.11 or newer and nothing
# else.
set -euo pipefail
here="$PWD"
cd "$(dirname "$0")/.."
source launch/environment.sh

absolute() {
  if [[ "$1" == /* || "$1" == *://* ]]; then echo "$1"; else echo "$here/$1"; fi
}

places=() settings=() clip="" configs="configs/shapes"
while [ $# -gt 0 ]; do
  case "$1" in
    --clip | --configs)
      [ $# -gt 1 ] || fail "$1 needs a value"
      if [ "$1" = --configs ]; then configs="$(absolute "$2")"; else clip="$2"; fi
      shift
      ;;
    --config.*) settings+=("$1") ;;
    -*) fail "unknown argument $1. Known: --clip, --configs, --config.SECTION.FIELD=VALUE" ;;
    *) places+=("$1") ;;
  esac
  shift
done
case ${#places[@]} in 1 | 2) ;; *) fail "needs PICTURES and perhaps RUNS_DIR, and got ${#places[@]} of them" ;; esac
pictures="$(absolute "${places[0]}")"
runs="$(absolute "${places[1]:-runs/folder}")"
cascade="$runs/cascade"
if [ -n "$clip" ] && [ -e "$here/$clip" ]; then clip="$here/$clip"; fi
make_environment
unclip=.venv/bin/unclip
# Without a cache: a folder's pictures may be larger than the memory.
folder=(--config.data.source=folder --config.data.dir="$pictures" --config.data.cache=False
  ${settings[@]+"${settings[@]}"})

train() {
  local stage="$1"
  shift
  echo "== $stage"
  $unclip train --config="$configs/$stage.py" --workdir="$runs/$stage" "$@"
}

# The CLIP is packaged first: what follows trains beside the packaged float16 file, with which pictures are later made.
# Of a folder nobody knows wrong captions, or what is where.
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
echo "The cascade is in $cascade, and $runs/sample.png is its picture of: $caption"
