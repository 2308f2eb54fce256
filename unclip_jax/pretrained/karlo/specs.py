"""Stage specs of Karlo, with the diffusion settings and default sampling settings of its code."""

from collections.abc import Mapping
from typing import Any

from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.stages.spec import EncoderRef, StageSpec

PRIOR_DIFFUSION = DiffusionSpec(predicts="x0", variance="fixed_small", clip_x0=10.0)
DECODER_DIFFUSION = DiffusionSpec(predicts="eps", variance="learned_range")
UPSAMPLER_DIFFUSION = DiffusionSpec(predicts="eps", variance="fixed_small")
# Defaults of Karlo and diffusers. Karlo's slower preset uses 50 decoder steps.
PRIOR_SAMPLING = SamplingSettings(sampler="ddpm", steps=25, guidance_scale=4.0)
DECODER_SAMPLING = SamplingSettings(sampler="ddpm", steps=25, guidance_scale=8.0)
UPSAMPLER_SAMPLING = SamplingSettings(sampler="ddpm", steps=7)
READS_CLIP = {"clip": EncoderRef(stage="clip")}


def prior_spec(fields: Mapping[str, Any], diffusion: DiffusionSpec = PRIOR_DIFFUSION) -> StageSpec:
    """Returns the spec of a prior.

    Args:
      fields: Fields of `models.diffusion_prior.DiffusionPrior`.
      diffusion: Diffusion settings.
    """
    return StageSpec(
        name="diffusion_prior",
        kind="diffusion_prior",
        model=fields,
        encoders=READS_CLIP,
        diffusion=diffusion,
        sampling=PRIOR_SAMPLING,
    )


def decoder_spec(fields: Mapping[str, Any], diffusion: DiffusionSpec = DECODER_DIFFUSION) -> StageSpec:
    """Returns the spec of a decoder.

    Args:
      fields: Fields of `models.decoder.Decoder`.
      diffusion: Diffusion settings.
    """
    return StageSpec(
        name="decoder",
        kind="decoder",
        model=fields,
        encoders=READS_CLIP,
        diffusion=diffusion,
        sampling=DECODER_SAMPLING,
    )


def upsampler_spec(
    fields: Mapping[str, Any], low_res_size: int, diffusion: DiffusionSpec = UPSAMPLER_DIFFUSION
) -> StageSpec:
    """Returns the spec of an upsampler with a separate network for the last sampling step.

    Args:
      fields: Fields of `models.upsampler.Upsampler`.
      low_res_size: Size of the images to upsample.
      diffusion: Diffusion settings.
    """
    return StageSpec(
        name=f"upsampler_{low_res_size}_to_{fields['image_size']}",
        kind="upsampler",
        model=fields,
        low_res_size=low_res_size,
        diffusion=diffusion,
        sampling=UPSAMPLER_SAMPLING,
        last_step_params=True,
    )
