"""Files of published GLIDE models: base.pt and upsample.pt, each alone or both in one folder.

base_inpaint.pt and upsample_inpaint.pt are used if the folder lacks the file of the same stage without inpainting. The
tokenizer, which is that of GPT-2, may be in the same folder.
"""

from collections.abc import Mapping
from typing import Any

from etils import epath

from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.pretrained.family import Source, WeightFamily
from unclip_jax.pretrained.glide.weights import glide_fields, glide_rules
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.published import Published, PublishedStage, Weights, tokenizer_in
from unclip_jax.pretrained.tensor_files import open_tensors
from unclip_jax.stages.spec import StageSpec

TOKENIZER = "openai-community/gpt2"
FILES = (("base.pt", "base_inpaint.pt"), ("upsample.pt", "upsample_inpaint.pt"))  # pairs: the first is preferred
BASE_SIZE, UPSAMPLED_SIZE = 64, 256
BASE_CHANNELS, UPSAMPLER_CHANNELS = (3, 7), (6, 10)  # input channels without and with inpainting
# Settings of the original code and notebooks.
BASE_DIFFUSION = DiffusionSpec(schedule="cosine", variance="learned_range")
UPSAMPLER_DIFFUSION = DiffusionSpec(schedule="linear", variance="learned_range")
BASE_SAMPLING = SamplingSettings(sampler="ddpm", steps=100, guidance_scale=3.0)
BASE_INPAINTING_SAMPLING = SamplingSettings(sampler="ddpm", steps=100, guidance_scale=5.0)
UPSAMPLER_SAMPLING = SamplingSettings(sampler="ddim", steps="fast27", temperature=0.997)
UPSAMPLER_INPAINTING_SAMPLING = SamplingSettings(sampler="ddpm", steps="fast27", temperature=0.997)


def matches(source: Source) -> bool:
    """Returns whether a source is a GLIDE model."""
    return bool(_files(source.path)) or {"transformer_proj.weight", "input_blocks.0.0.weight"} <= source.tensors.keys()


def open_model(source: Source) -> Published:
    """Opens the networks of a folder, or the network of one file.

    Raises:
      ValueError: If a network has a number of input channels that no GLIDE model has.
    """
    if source.tensors:
        folder, stages = source.path.parent, [_stage(source.path, source.tensors)]
    else:
        folder, stages = source.path, [_stage(path, open_tensors(path)) for path in _files(source.path)]
    return Published("GLIDE", stages, tokenizer_in(folder), tokenizer_name=TOKENIZER)


FAMILY = WeightFamily(
    name="GLIDE",
    description=" or ".join(name for names in FILES for name in names),
    matches=matches,
    open=open_model,
)


def _files(folder: epath.Path) -> list[epath.Path]:
    preferred = [next((folder / name for name in names if (folder / name).exists()), None) for names in FILES]
    return [path for path in preferred if path is not None]


def _stage(path: epath.Path, tensors: Mapping[str, LazyTensor]) -> PublishedStage:
    channels = tensors["input_blocks.0.0.weight"].shape[1]
    if channels in BASE_CHANNELS:
        spec = _base_spec(glide_fields(tensors, image_size=BASE_SIZE))
    elif channels in UPSAMPLER_CHANNELS:
        spec = _upsampler_spec(glide_fields(tensors, image_size=UPSAMPLED_SIZE))
    else:
        known = ", ".join(map(str, (*BASE_CHANNELS, *UPSAMPLER_CHANNELS)))
        raise ValueError(f"{str(path)!r} must have one of {known} input channels, as in GLIDE, got {channels}.")
    return PublishedStage(spec, Weights(tensors, glide_rules(spec.model)), str(path))


def _base_spec(fields: Mapping[str, Any]) -> StageSpec:
    inpaints = fields["in_channels"] == BASE_CHANNELS[1]
    return StageSpec(
        name="base",
        kind="glide",
        model=fields,
        mask_channels=inpaints,
        diffusion=BASE_DIFFUSION,
        sampling=BASE_INPAINTING_SAMPLING if inpaints else BASE_SAMPLING,
    )


def _upsampler_spec(fields: Mapping[str, Any]) -> StageSpec:
    inpaints = fields["in_channels"] == UPSAMPLER_CHANNELS[1]
    return StageSpec(
        name=f"upsampler_{BASE_SIZE}_to_{UPSAMPLED_SIZE}",
        kind="glide",
        model=fields,
        low_res_size=BASE_SIZE,
        mask_channels=inpaints,
        diffusion=UPSAMPLER_DIFFUSION,
        sampling=UPSAMPLER_INPAINTING_SAMPLING if inpaints else UPSAMPLER_SAMPLING,
    )
