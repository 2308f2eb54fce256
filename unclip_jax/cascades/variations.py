"""Variations of an image: images generated from its CLIP embedding (arXiv 2204.06125, Section 3.1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unclip_jax import images
from unclip_jax.arrays import UInt8
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.generate import generate
from unclip_jax.cascades.image_stages import image_stages, reads
from unclip_jax.cascades.plan import Plan, make_plan
from unclip_jax.errors import unknown
from unclip_jax.sampling.rows import Progress

NOISES = ("fresh",)


def variations(
    cascade: Cascade,
    image: UInt8["H W 3"],
    *,
    count: int = 1,
    noise: str = "fresh",
    seed: int = 0,
    first_image: int = 0,
    decoder_scale: float | None = None,
    steps: Mapping[str, int | str] | None = None,
    sampler: Mapping[str, str] | None = None,
    sampling: Mapping[str, Mapping[str, Any]] | None = None,
    denoiser_transforms: Mapping[str, Sequence[Any]] | None = None,
    sampler_transforms: Mapping[str, Sequence[Any]] | None = None,
    stop_after: str | None = None,
    low_memory: bool = False,
    free: bool | None = None,
    progress: Progress | None = None,
) -> UInt8["N H W 3"]:
    """Generates variations of an image from its CLIP embedding and the empty caption.

    Args:
      cascade: The cascade.
      image: An image of any size.
      count: Number of variations, N.
      noise: "fresh" samples independent noise for every variation, so that only the embedding of the image is kept.
      seed: Seed in [0, 2**32).
      first_image: Index of the first image.
      decoder_scale: Guidance scale of the decoder; 1 disables guidance. If None, the default of the stage is used, as
        for `steps`, `sampler` and `sampling`.
      steps: {stage: steps}, see `text_to_image`.
      sampler: {stage: sampler}, see `text_to_image`.
      sampling: {stage: {field: value}}, see `text_to_image`.
      denoiser_transforms: {stage: transforms}, see `text_to_image`.
      sampler_transforms: {stage: transforms}, see `text_to_image`.
      stop_after: Name of the stage whose images are returned. If None, the last stage.
      low_memory: Whether to release parameters during the call, see `text_to_image`.
      free: Deprecated name of `low_memory`.
      progress: Called with the name of the stage, the number of completed steps and the total number of steps.

    Raises:
      ValueError: If an argument is invalid, if a stage is unknown or missing, if the cascade cannot embed images, or if
        its parameters have been released.
    """
    plan = plan_variations(
        cascade, image, count=count, noise=noise, seed=seed, first_image=first_image, decoder_scale=decoder_scale,
        steps=steps, sampler=sampler, sampling=sampling, denoiser_transforms=denoiser_transforms,
        sampler_transforms=sampler_transforms, stop_after=stop_after,
    )  # fmt: skip
    return generate(plan, low_memory=low_memory, free=free, progress=progress)


def plan_variations(cascade: Cascade, image: UInt8["H W 3"], *, noise: str = "fresh", **arguments: Any) -> Plan:
    """Checks the arguments of `variations` and returns the plan for `generate`."""
    if noise not in NOISES:
        raise unknown("noise", noise, ", ".join(NOISES))
    images.check_uint8(np.asarray(image)[None])
    cascade.check_not_deleted()
    base = image_stages(cascade, arguments.get("stop_after"))[0]
    if "image_embedding" not in reads(base):
        raise ValueError(f"{base.name} of {cascade.path!r} has no image embedding input, which variations require.")
    return make_plan(cascade, inputs=1, image=image, empty_caption=True, **arguments)
