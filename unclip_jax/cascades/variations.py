"""Variations of a picture (unCLIP, arXiv 2204.06125, section 3.1): others with the same CLIP embedding."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from unclip_jax.arrays import UInt8
from unclip_jax.cascades import painting, stages
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.embedding import clip_of, encode_image
from unclip_jax.cascades.sampling import Progress, Settings

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
    stop_after: str | None = None,
    free: bool = False,
    progress: Progress | None = None,
) -> UInt8["N H W 3"]:
    """`count` pictures that share with `image` what CLIP sees in it; the decoder gets the empty caption.

    Args:
      image: of any size.
      noise: "fresh": every variation begins with noise of its own, so that nothing but the embedding is kept.
      The rest: as in `text_to_image`.

    Raises ValueError for what is no picture, unknown noise, unknown stages, settings that cannot be, and a cascade
    whose CLIP has no image tower.
    """
    plan = check(
        cascade, count=count, noise=noise, seed=seed, first_image=first_image, decoder_scale=decoder_scale,
        steps=steps, sampler=sampler, sampling=sampling, stop_after=stop_after,
    )  # fmt: skip
    embeddings = np.repeat(encode_image(clip_of(cascade), np.asarray(image)[None]), count, axis=0)
    return painting.paint(
        cascade,
        {"decoder": (embeddings, stages.empty_like(cascade, count))},
        plan=plan,
        wanted=embeddings,
        seed=seed,
        numbers=first_image + np.arange(count),
        stop_after=stop_after,
        free=free,
        progress=progress,
    )


def check(
    cascade: Cascade,
    *,
    count: int = 1,
    noise: str = "fresh",
    seed: int = 0,
    first_image: int = 0,
    **settings: Any,
) -> dict[str, Settings]:
    """Checks the arguments of `variations`, and returns the settings of every stage that is sampled."""
    if noise not in NOISES:
        raise ValueError(f"noise is {noise!r}; known: {', '.join(NOISES)}")
    painting.check_numbers(1, count=count, seed=seed, first_image=first_image)
    plan = painting.plan_of(cascade, **settings)
    return {name: stage for name, stage in plan.items() if cascade.stages[name].kind != "diffusion_prior"}
