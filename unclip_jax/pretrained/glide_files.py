"""Where a published GLIDE lies: OpenAI's files base.pt and upsample.pt, each by itself or both in one folder.

base_inpaint.pt and upsample_inpaint.pt stand in for those that the folder has not. No file holds the vocabulary, which
is GPT-2's; it may lie beside them.
"""

from collections.abc import Mapping
from typing import Any

from etils import epath

from unclip_jax.pretrained.clip_files import tokenizer_in
from unclip_jax.pretrained.glide import glide_fields, glide_rules
from unclip_jax.pretrained.published import Published, PublishedStage, Weights
from unclip_jax.pretrained.stored_tensor import StoredTensor
from unclip_jax.pretrained.tensor_files import open_tensors

FILES = (("base.pt", "base_inpaint.pt"), ("upsample.pt", "upsample_inpaint.pt"))
TOKENIZER = "openai-community/gpt2"
# By the channels that a network sees. Sides, schedules and sampling are those of GLIDE's code and notebooks.
BASE = (3, 7)
SAMPLING: dict[int, dict[str, Any]] = {
    3: {"sampler": "ddpm", "steps": 100, "scale": 3.0},
    7: {"sampler": "ddpm", "steps": 100, "scale": 5.0},
    6: {"sampler": "ddim", "steps": "fast27", "scale": 1.0, "temperature": 0.997},
    10: {"sampler": "ddpm", "steps": "fast27", "scale": 1.0, "temperature": 0.997},
}


def is_glide(tensors: Mapping[str, StoredTensor]) -> bool:
    return "transformer_proj.weight" in tensors and "input_blocks.0.0.weight" in tensors


def found(folder: epath.Path) -> list[epath.Path]:
    """GLIDE's files in a folder, of the base and of the upsampler the one that is preferred."""
    chosen = [next((folder / name for name in names if (folder / name).exists()), None) for names in FILES]
    return [path for path in chosen if path is not None]


def open_folder(folder: epath.Path) -> Published:
    stages = [_stage(path, open_tensors(path)) for path in found(folder)]
    return Published("GLIDE", stages, tokenizer_in(folder), tokenizer_name=TOKENIZER)


def open_file(path: epath.Path, tensors: Mapping[str, StoredTensor]) -> Published:
    return Published("GLIDE", [_stage(path, tensors)], tokenizer_in(path.parent), tokenizer_name=TOKENIZER)


def _stage(path: epath.Path, tensors: Mapping[str, StoredTensor]) -> PublishedStage:
    channels = tensors["input_blocks.0.0.weight"].shape[1]
    if channels not in SAMPLING:
        known = ", ".join(map(str, SAMPLING))
        raise ValueError(f"{str(path)!r} sees {channels} channels; GLIDE's networks see {known}")
    name, image_size, schedule = ("base", 64, "cosine") if channels in BASE else ("upsampler_64_to_256", 256, "linear")
    fields = glide_fields(tensors, image_size=image_size)
    diffusion = {
        "schedule": schedule, "steps": 1000, "predicts": "eps", "variance": "learned_range", "clip_x0": 1.0,
    }  # fmt: skip
    config = {"kind": "glide", "model": fields, "diffusion": diffusion, "sampling": SAMPLING[channels]}
    return PublishedStage(name, config, Weights(tensors, glide_rules(fields)), str(path))
