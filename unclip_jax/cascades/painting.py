"""From embeddings and captions to pictures, by decoder and upsamplers: what every use of a cascade ends with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unclip_jax import images
from unclip_jax.arrays import Float, Int, UInt8
from unclip_jax.cascades import stages
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.sampling import Progress, Settings
from unclip_jax.models.clip import TextFeatures

# Short names of stages in `steps` and `sampler`, beside their full ones.
SHORT = {"prior": "diffusion_prior"}


def paint(
    cascade: Cascade,
    image_embeddings: Float["N E"],
    text: TextFeatures,
    *,
    plan: Mapping[str, Settings],
    seed: int,
    numbers: Int["N"],
    stop_after: str | None = None,
    progress: Progress | None = None,
) -> UInt8["N H W 3"]:
    """Pictures of raw image embeddings and captions' features. `plan`: the settings of every stage, see `plan_of`."""
    common = {"seed": seed, "numbers": numbers, "progress": progress}
    decoder = cascade.only("decoder")
    pictures = stages.run_decoder(cascade, image_embeddings, text, settings=plan[decoder.name], **common)
    for stage in _upsamplers(cascade, stop_after):
        pictures = stages.run_upsampler(cascade, stage, pictures, settings=plan[stage.name], **common)
    return np.asarray(images.to_uint8(pictures))


def plan_of(
    cascade: Cascade,
    *,
    prior_scale: float | None = None,
    decoder_scale: float | None = None,
    steps: Mapping[str, int | str] | None = None,
    sampler: Mapping[str, str] | None = None,
    candidates: int | None = None,
    sampling: Mapping[str, Mapping[str, Any]] | None = None,
    stop_after: str | None = None,
) -> dict[str, Settings]:
    """The settings of every stage that is sampled: the cascade's own, and over them those given, as in
    `text_to_image`. Raises ValueError for a stage that the cascade has not, or a setting that cannot be."""
    steps, sampler, sampling = _by_full_name(steps), _by_full_name(sampler), _by_full_name(sampling)
    stages.check_names(cascade, steps, "steps")
    stages.check_names(cascade, sampler, "sampler")
    stages.check_names(cascade, sampling, "sampling")
    makers = [stage.name for stage in cascade.stages.values() if stage.kind in ("decoder", "upsampler")]
    if stop_after is not None and stop_after not in makers:
        raise ValueError(f"stop_after names {stop_after}, which makes no picture here; known: {', '.join(makers)}")
    scales = {"diffusion_prior": prior_scale, "decoder": decoder_scale}
    return {
        stage.name: stages.stage_settings(
            stage,
            sampling.get(stage.name),
            steps=steps.get(stage.name),
            sampler=sampler.get(stage.name),
            scale=scales.get(stage.kind),
            candidates=candidates if stage.kind == "diffusion_prior" else None,
        )
        for stage in cascade.stages.values()
        if stage.kind != "clip"
    }


def check_numbers(total: int, *, seed: int, first_image: int) -> None:
    """Raises ValueError for a seed, or numbers of `total` pictures, that cannot be."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; it must be from 0 to {2**32 - 1}")
    most = 2**31 - total
    if not 0 <= first_image <= most:
        raise ValueError(f"first_image is {first_image}; it must be from 0 to {most}")


def _upsamplers(cascade: Cascade, stop_after: str | None) -> Sequence:
    """The upsamplers that run, in order."""
    names = list(cascade.stages)
    last = names.index(stop_after) if stop_after else len(names) - 1
    return [stage for stage in cascade.of_kind("upsampler") if names.index(stage.name) <= last]


def _by_full_name(values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {SHORT.get(name, name): value for name, value in (values or {}).items()}
