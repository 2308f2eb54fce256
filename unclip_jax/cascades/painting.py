"""From what was asked for to pictures, by all stages that make them: what every use of a cascade ends with."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from unclip_jax import images
from unclip_jax.arrays import Float, Int, PyTree, UInt8
from unclip_jax.cascades import bindings, stages
from unclip_jax.cascades.cascade import SAMPLED, Cascade, Stage
from unclip_jax.cascades.embedding import clip_of
from unclip_jax.cascades.sampling import Progress, Settings

# Short names of stages in `steps` and `sampler`, beside their full ones.
SHORT = {"prior": "diffusion_prior"}
# The stage that begins a picture, where it is no decoder: GLIDE's and guided-diffusion's.
BASE = "base"


def paint(
    cascade: Cascade,
    seen: Mapping[str, PyTree],
    *,
    plan: Mapping[str, Settings],
    seed: int,
    numbers: Int["N"],
    wanted: Float["N E"] | None = None,
    stop_after: str | None = None,
    free: bool = False,
    progress: Progress | None = None,
) -> UInt8["N H W 3"]:
    """N pictures.

    Where the decoder's settings ask for several candidates of each, CLIP chooses among them as soon as they are as
    large as the pictures that it sees, and what is left of the stages enlarges the best alone.

    Args:
      seen: {kind of stage: what its network sees}, see `stages.run_painter`; of everything a row for each picture, or
        one for each candidate, those of the first picture first.
      plan: the settings of every stage, see `plan_of`.
      wanted: CLIP's embeddings, of captions or of pictures, to which the best candidate is the nearest.
      The rest: as in `text_to_image`.
    """
    pictures, order = None, painters(cascade, stop_after)
    candidates = plan[order[0].name].candidates
    for place, stage in enumerate(order):
        if free:  # the first may ask CLIP for the empty caption
            cascade.keep(*order[place:], *(cascade.of_kind("clip") if place == 0 or candidates > 1 else ()))
        repeated = np.repeat(numbers, candidates)
        pictures = stages.run_painter(
            cascade,
            stage,
            jax.tree.map(lambda rows: np.repeat(rows, len(repeated) // len(rows), axis=0), seen.get(stage.kind)),
            pictures,
            settings=plan[stage.name],
            seed=seed,
            numbers=repeated,
            candidates=np.tile(np.arange(candidates), len(numbers)),
            progress=progress,
        )
        if candidates > 1 and (stage is order[-1] or stage.module.image_size >= clip_of(cascade).module.image_size):
            pictures, candidates = stages.nearest(cascade, pictures, wanted), 1
    if free:
        cascade.keep()
    return np.asarray(images.to_uint8(pictures))


def painters(cascade: Cascade, stop_after: str | None = None) -> list[Stage]:
    """The stages that make pictures, in order, up to the one that `stop_after` names (None: all).

    Raises ValueError where the cascade has none that begins.
    """
    found = [stage for stage in cascade.stages.values() if stage.kind in bindings.PAINTERS]
    if not found or bindings.enlarges(found[0].module):
        known = ", ".join(cascade.stages)
        raise ValueError(f"cascade {cascade.path!r} has no stage that begins a picture; it has: {known}")
    names = [stage.name for stage in found]
    if stop_after is not None and stop_after not in names:
        raise ValueError(f"stop_after names {stop_after}, which makes no picture here; known: {', '.join(names)}")
    return found if stop_after is None else found[: names.index(stop_after) + 1]


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
    `text_to_image`. Raises ValueError for a stage that the cascade has not, a setting that cannot be, and a cascade
    that was freed."""
    cascade.check_held()
    steps, sampler, sampling = _by_full_name(steps), _by_full_name(sampler), _by_full_name(sampling)
    stages.check_names(cascade, steps, "steps")
    stages.check_names(cascade, sampler, "sampler")
    stages.check_names(cascade, sampling, "sampling")
    if not cascade.of_kind("diffusion_prior"):
        for name, given in (("prior_scale", prior_scale), ("candidates", candidates)):
            if given is not None:
                raise ValueError(f"{name} is {given}, and cascade {cascade.path!r} has no prior")
    if stop_after is not None:
        painters(cascade, stop_after)
    scales = {"diffusion_prior": prior_scale, "decoder": decoder_scale, BASE: decoder_scale}
    plan = {
        stage.name: stages.stage_settings(
            stage,
            sampling.get(stage.name),
            steps=steps.get(stage.name),
            sampler=sampler.get(stage.name),
            scale=scales.get(stage.name),
            candidates=candidates if stage.kind == "diffusion_prior" else None,
        )
        for stage in cascade.stages.values()
        if stage.kind in SAMPLED
    }
    for stage in cascade.of_kind("decoder"):
        if plan[stage.name].candidates > 1 and clip_of(cascade).module.image_width is None:
            raise ValueError(f"candidates of {stage.name} must be 1: CLIP has no image tower here, and cannot choose")
    return plan


def check_numbers(asked: int, *, count: int, seed: int, first_image: int) -> None:
    """Raises ValueError for a seed, a `count` of pictures of each of `asked` things, or their numbers, that cannot
    be."""
    if count < 1:
        raise ValueError(f"count is {count}; it must be 1 or more")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; it must be from 0 to {2**32 - 1}")
    most = 2**31 - asked * count
    if not 0 <= first_image <= most:
        raise ValueError(f"first_image is {first_image}; it must be from 0 to {most}")


def _by_full_name(values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {SHORT.get(name, name): value for name, value in (values or {}).items()}
