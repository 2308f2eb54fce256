"""Text to image: the whole cascade, from captions to images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unclip_jax.arrays import Float, UInt8
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.encode import encode, encode_captions
from unclip_jax.cascades.generate import generate, sample_embeddings, upsample_images
from unclip_jax.cascades.image_stages import image_stages, reads, reads_prompts, space_of
from unclip_jax.cascades.plan import Plan, make_plan
from unclip_jax.sampling.rows import Progress
from unclip_jax.sampling.transforms import DenoiserTransform, SamplerTransform


def text_to_image(
    cascade: Cascade,
    prompts: Sequence[str],
    *,
    count: int = 1,
    seed: int | Sequence[int] = 0,
    first_image: int = 0,
    image_embeddings: Float["N E"] | None = None,
    empty_caption: bool = False,
    prior: str | None = None,
    prior_scale: float | None = None,
    decoder_scale: float | None = None,
    steps: Mapping[str, int | str] | None = None,
    sampler: Mapping[str, str] | None = None,
    candidates: int | None = None,
    sampling: Mapping[str, Mapping[str, Any]] | None = None,
    denoiser_transforms: Mapping[str, Sequence[DenoiserTransform]] | None = None,
    sampler_transforms: Mapping[str, Sequence[SamplerTransform]] | None = None,
    stop_after: str | None = None,
    low_memory: bool = False,
    free: bool | None = None,
    progress: Progress | None = None,
) -> UInt8["N H W 3"]:
    """Generates images of prompts, `count` of each: all of the first prompt, then all of the second.

    Image k of a call depends only on its seed, its index `first_image` + k, its prompt and the settings, up to
    rounding.

    Args:
      cascade: The cascade.
      prompts: P captions; N = P * `count`.
      count: Images per prompt.
      seed: Seed in [0, 2**32), or one per prompt.
      first_image: Index of the first image.
      image_embeddings: Raw CLIP image embeddings that replace the prior's. If None, the prior samples them.
      empty_caption: Gives the decoder the empty caption, so that the image comes from the embedding alone.
      prior: Name of the stage that samples embeddings, in full or without "_prior". If None, the cascade's first.
      prior_scale: Guidance scale of the prior; 1 disables guidance. If None, here and below, the cascade's own.
      decoder_scale: Guidance scale of the first image stage.
      steps: {stage: number of steps, or name of a path}. "prior" stands for the prior.
      sampler: {stage: "ddpm" | "ddim" | "dpm", or a registered sampler}.
      candidates: Embeddings that the prior samples for each that it returns: the one closest to the caption.
      sampling: {stage: {field: value}}, any field of `SamplingSettings`; the arguments above take precedence. With
        "candidates" the decoder, too, samples several images for each, every one from an embedding of its own if the
        prior samples them, and the one closest to the caption is returned; closest to the given embedding if the
        decoder receives the empty caption.
      denoiser_transforms: {stage: transforms}, applied after classifier-free guidance and before clipping.
      sampler_transforms: {stage: transforms} of the sampler.
      stop_after: Name of the stage whose images are returned. If None, the last.
      low_memory: Deletes parameters from the devices when this call no longer needs them: the prior's before the first
        image stage samples, CLIP's and that stage's before the next one does. This uses up the cascade, and whatever
        shares its arrays, such as a CLIP taken from it: load it again to use it again.
      free: Former name of `low_memory`.
      progress: Called with the stage's name, the steps done and all steps.

    Returns:
      N images.

    Warns:
      UserWarning: If a prompt is truncated, or contains words that no caption of the cascade's training contained.

    Raises:
      ValueError: For empty prompts, values out of range, unknown or missing stages, or a cascade that was used up.
    """
    plan = plan_text_to_image(
        cascade, prompts, count=count, seed=seed, first_image=first_image, image_embeddings=image_embeddings,
        empty_caption=empty_caption, prior=prior, prior_scale=prior_scale, decoder_scale=decoder_scale, steps=steps,
        sampler=sampler, candidates=candidates, sampling=sampling, denoiser_transforms=denoiser_transforms,
        sampler_transforms=sampler_transforms, stop_after=stop_after,
    )  # fmt: skip
    return generate(plan, low_memory=low_memory, free=free, progress=progress)


def plan_text_to_image(
    cascade: Cascade,
    prompts: Sequence[str],
    *,
    image_embeddings: Float["N E"] | None = None,
    empty_caption: bool = False,
    **arguments: Any,
) -> Plan:
    """Checks the arguments of `text_to_image` and returns their plan, for `generate`."""
    _check_prompts(prompts)
    cascade.check_not_deleted()
    base = image_stages(cascade, arguments.get("stop_after"))[0]
    if not reads_prompts(base):
        raise ValueError(f"cascade {cascade.path!r} reads no prompts; give it labels: --class N, or class_to_image")
    if "image_embedding" not in reads(base) and (image_embeddings is not None or empty_caption):
        raise ValueError(f"cascade {cascade.path!r} is GLIDE, which knows captions alone, and no embeddings")
    plan = make_plan(
        cascade,
        inputs=len(prompts),
        prompts=tuple(prompts),
        image_embeddings=image_embeddings,
        empty_caption=empty_caption,
        **arguments,
    )
    if image_embeddings is not None:
        wanted = (plan.total, cascade.stage(space_of(base), reader=base.name).module.embed_dim)
        if np.shape(image_embeddings) != wanted:
            raise ValueError(f"image_embeddings are {list(np.shape(image_embeddings))}; {list(wanted)} is wanted")
    return plan


def sample_prior(
    cascade: Cascade, prompts: Sequence[str], *, seed: int = 0, first_image: int = 0, prior: str | None = None
) -> Float["N E"]:
    """Samples raw image embeddings of prompts from the prior alone, with the cascade's own settings."""
    _check_prompts(prompts)
    alone = {name: stage for name, stage in cascade.stages.items() if stage not in cascade.stages_producing("image")}
    cascade.check_not_deleted()
    plan = make_plan(
        Cascade(alone, cascade.description, cascade.devices, cascade.path),
        inputs=len(prompts), prompts=tuple(prompts), seed=seed, first_image=first_image, prior=prior,
    )  # fmt: skip
    found = sample_embeddings(plan, encode(plan), encode_captions(plan, [""]), per_image=1)
    return found.image_embedding[plan.prior_space]


def upsample(
    cascade: Cascade, low_res: Float["N h w 3"], *, size: int, seed: int = 0, first_image: int = 0
) -> UInt8["N H W 3"]:
    """Upsamples images in [-1, 1] by the one upsampler that makes images of this size.

    Raises:
      ValueError: If no stage makes that size, or the cascade was used up.
    """
    cascade.check_not_deleted()
    found = {
        stage.module.image_size: stage
        for stage in cascade.stages_producing("image")
        if stage.spec.low_res_size is not None and not reads(stage)
    }
    if size not in found:
        raise ValueError(f"size {size} is made by no upsampler of the cascade; known: {sorted(found)}")
    return upsample_images(found[size], low_res, seed=seed, first_image=first_image, devices=cascade.devices)


def _check_prompts(prompts: Sequence[str]) -> None:
    if isinstance(prompts, str):
        raise ValueError(f"prompts is the string {prompts!r}; a list of strings is wanted")
    if not len(prompts) or not all(isinstance(prompt, str) and prompt.strip() for prompt in prompts):
        raise ValueError("a prompt is empty; say what the picture shows")
