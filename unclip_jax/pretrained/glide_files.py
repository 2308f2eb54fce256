"""Where a published GLIDE lies: OpenAI's files base.pt and upsample.pt, each by itself or both in one folder.

base_inpaint.pt and upsample_inpaint.pt stand in for those that the folder has not. No file holds the vocabulary, which
is GPT-2's; it may lie beside them.
"""

from collections.abc import Mapping

from etils import epath

from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.pretrained.clip_files import tokenizer_in
from unclip_jax.pretrained.glide import glide_fields, glide_rules
from unclip_jax.pretrained.published import Published, PublishedStage, Weights
from unclip_jax.pretrained.stored_tensor import StoredTensor
from unclip_jax.pretrained.tensor_files import open_tensors
from unclip_jax.stages.spec import StageSpec

FILES = (("base.pt", "base_inpaint.pt"), ("upsample.pt", "upsample_inpaint.pt"))
TOKENIZER = "openai-community/gpt2"
# By the number of a network's input channels. Sizes, schedules and sampling are those of GLIDE's code and notebooks.
BASE, MASKED = (3, 7), (7, 10)
LOW_RES_SIZE = 64
SAMPLING = {
    3: SamplingSettings(sampler="ddpm", steps=100, guidance_scale=3.0),
    7: SamplingSettings(sampler="ddpm", steps=100, guidance_scale=5.0),
    6: SamplingSettings(sampler="ddim", steps="fast27", temperature=0.997),
    10: SamplingSettings(sampler="ddpm", steps="fast27", temperature=0.997),
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
    spec = StageSpec(
        name=name,
        kind="glide",
        model=fields,
        low_res_size=None if channels in BASE else LOW_RES_SIZE,
        mask_channels=channels in MASKED,
        diffusion=DiffusionSpec(schedule=schedule, variance="learned_range"),
        sampling=SAMPLING[channels],
    )
    return PublishedStage(spec, Weights(tensors, glide_rules(fields)), str(path))
