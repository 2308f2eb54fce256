"""Variations of an image (unCLIP, arXiv 2204.06125, section 3.1): others with the same CLIP embedding."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unclip_jax import images
from unclip_jax.arrays import UInt8
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.generate import generate
from unclip_jax.cascades.image_stages import image_stages, reads
from unclip_jax.cascades.plan import Plan, make_plan
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
    """Generates `count` images with the CLIP embedding of `image`; the decoder receives the empty caption.

    Args:
      image: An image of any size.
      noise: "fresh": every variation begins with noise of its own, so only the embedding is kept.
      The rest: as in `text_to_image`.

    Raises:
      ValueError: If `image` is not an image, for unknown noise, unknown stages, invalid settings, and a cascade whose
        CLIP has no image encoder.
    """
    plan = plan_variations(
        cascade, image, count=count, noise=noise, seed=seed, first_image=first_image, decoder_scale=decoder_scale,
        steps=steps, sampler=sampler, sampling=sampling, denoiser_transforms=denoiser_transforms,
        sampler_transforms=sampler_transforms, stop_after=stop_after,
    )  # fmt: skip
    return generate(plan, low_memory=low_memory, free=free, progress=progress)


def plan_variations(cascade: Cascade, image: UInt8["H W 3"], *, noise: str = "fresh", **arguments: Any) -> Plan:
    """Checks the arguments of `variations` and returns their plan, for `generate`."""
    if noise not in NOISES:
        raise ValueError(f"noise is {noise!r}; known: {', '.join(NOISES)}")
    images.check_uint8(np.asarray(image)[None])
    cascade.check_not_deleted()
    base = image_stages(cascade, arguments.get("stop_after"))[0]
    if "image_embedding" not in reads(base):
        raise ValueError(f"{base.name} of {cascade.path!r} reads no image embeddings, so it cannot vary an image.")
    return make_plan(cascade, inputs=1, image=image, empty_caption=True, **arguments)
