"""Text-to-image generation with a whole cascade."""

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
    """Generates images from prompts.

    Up to rounding, image k of a call depends only on its seed, its index `first_image` + k, its prompt and the
    settings.

    Args:
      cascade: The cascade.
      prompts: P prompts.
      count: Number of images per prompt.
      seed: Seed in [0, 2**32), or one seed per prompt.
      first_image: Index of the first image.
      image_embeddings: N unnormalized CLIP image embeddings, grouped by prompt, that replace those of the prior. If
        None, the prior samples them.
      empty_caption: Whether the decoder receives the empty caption, so that images depend on the embeddings only.
      prior: Name of the prior, in full or without "_prior". If None, the first prior of the cascade.
      prior_scale: Guidance scale of the prior; 1 disables guidance. If None, the default of the stage is used, as for
        `decoder_scale`, `steps`, `sampler`, `candidates` and `sampling`.
      decoder_scale: Guidance scale of the first image stage; 1 disables guidance.
      steps: {stage: steps}, with a number of steps or the name of a path of timesteps (see
        `diffusion.timesteps.named_path`). In `steps`, `sampler` and `sampling`, the key "prior" refers to the prior
        that runs.
      sampler: {stage: sampler}, with "ddpm", "ddim", "dpm" or a registered sampler.
      candidates: Number of embeddings that the prior samples per image. The one closest to the prompt is kept.
      sampling: {stage: {field: value}} with fields of `SamplingSettings`. The arguments above take precedence. If
        "candidates" of the decoder is greater than 1, it samples several images per output, each from its own embedding
        if the prior samples them. The image closest to the prompt under CLIP is returned, or, if `image_embeddings` is
        passed and `empty_caption` is True, the one closest to its image embedding.
      denoiser_transforms: {stage: transforms} of the denoiser, applied after classifier-free guidance and before
        clipping. Keys are full names of stages that run, also in `sampler_transforms`.
      sampler_transforms: {stage: transforms} of the sampler.
      stop_after: Name of the stage whose images are returned. If None, the last stage.
      low_memory: Whether to delete parameters from the devices as soon as possible: those of the prior before the first
        image stage runs, those of CLIP and of each image stage after their last use (see `cascades.generate`). The
        cascade and objects that share its arrays, such as its CLIP, cannot be used again and must be reloaded.
      free: Deprecated name of `low_memory`.
      progress: Called with the name of the stage, the number of completed steps and the total number of steps.

    Returns:
      N = P * `count` images, grouped by prompt.

    Warns:
      UserWarning: If a prompt is truncated, or contains words that no training caption of the cascade contained.

    Raises:
      ValueError: If a prompt is empty, if an argument is invalid, if a stage is unknown or missing, or if the
        parameters of the cascade have been released.
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
    """Checks the arguments of `text_to_image` and returns the plan for `generate`."""
    _check_prompts(prompts)
    cascade.check_not_deleted()
    base = image_stages(cascade, arguments.get("stop_after"))[0]
    if not reads_prompts(base):
        raise ValueError(f"cascade {cascade.path!r} is not text-conditional. Use class_to_image or --class N.")
    if "image_embedding" not in reads(base) and (image_embeddings is not None or empty_caption):
        raise ValueError(
            f"cascade {cascade.path!r} is conditioned on captions only. Do not pass image_embeddings or empty_caption."
        )
    plan = make_plan(
        cascade,
        inputs=len(prompts),
        prompts=tuple(prompts),
        image_embeddings=image_embeddings,
        empty_caption=empty_caption,
        **arguments,
    )
    if image_embeddings is not None:
        expected = (plan.total, cascade.stage(space_of(base), reader=base.name).module.embed_dim)
        actual = np.shape(image_embeddings)
        if actual != expected:
            raise ValueError(f"image_embeddings must have shape {list(expected)}, got {list(actual)}.")
    return plan


def sample_prior(
    cascade: Cascade, prompts: Sequence[str], *, seed: int = 0, first_image: int = 0, prior: str | None = None
) -> Float["N E"]:
    """Samples unnormalized image embeddings from the prior, with the default settings of the cascade.

    Args:
      cascade: The cascade.
      prompts: N prompts.
      seed: Seed in [0, 2**32).
      first_image: Index of the first image.
      prior: Name of the prior, in full or without "_prior". If None, the first prior of the cascade.

    Raises:
      ValueError: If a prompt is empty, an argument is invalid, there is no such prior, or the parameters of the cascade
        have been released.
    """
    _check_prompts(prompts)
    without_images = {
        name: stage for name, stage in cascade.stages.items() if stage not in cascade.stages_producing("image")
    }
    cascade.check_not_deleted()
    plan = make_plan(
        Cascade(without_images, cascade.description, cascade.devices, cascade.path),
        inputs=len(prompts), prompts=tuple(prompts), seed=seed, first_image=first_image, prior=prior,
    )  # fmt: skip
    sampled = sample_embeddings(plan, encode(plan), encode_captions(plan, [""]), per_image=1)
    return sampled.image_embedding[plan.prior_space]


def upsample(
    cascade: Cascade, low_res: Float["N h w 3"], *, size: int, seed: int = 0, first_image: int = 0
) -> UInt8["N H W 3"]:
    """Upsamples images with a single upsampler, with its default settings.

    Only upsamplers that are conditioned on nothing but the low-resolution image are supported.

    Args:
      cascade: The cascade.
      low_res: Images in [-1, 1].
      size: Image size of the upsampler in pixels.
      seed: Seed in [0, 2**32).
      first_image: Index of the first image.

    Raises:
      ValueError: If no upsampler has that size, or if the parameters of the cascade have been released.
    """
    cascade.check_not_deleted()
    upsamplers = {
        stage.module.image_size: stage
        for stage in cascade.stages_producing("image")
        if stage.spec.low_res_size is not None and not reads(stage)
    }
    if size not in upsamplers:
        raise ValueError(f"size must be the image size of an upsampler, got {size}. Available: {sorted(upsamplers)}.")
    return upsample_images(upsamplers[size], low_res, seed=seed, first_image=first_image, devices=cascade.devices)


def _check_prompts(prompts: Sequence[str]) -> None:
    if isinstance(prompts, str):
        raise ValueError(f"prompts must be a list of strings, got the string {prompts!r}.")
    if not len(prompts) or not all(isinstance(prompt, str) and prompt.strip() for prompt in prompts):
        raise ValueError("prompts must be a non-empty list of non-empty strings.")
