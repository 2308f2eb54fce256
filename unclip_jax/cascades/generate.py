"""Execution of a plan: encoders, the prior, then the image stages in order."""

import jax
import numpy as np

from unclip_jax import images
from unclip_jax.arrays import Float, UInt8
from unclip_jax.cascades.candidates import best_embeddings, best_images
from unclip_jax.cascades.encode import encode, encode_captions, target_of
from unclip_jax.cascades.plan import Plan
from unclip_jax.deprecation import warn_renamed
from unclip_jax.kinds import kind_of
from unclip_jax.sampling.rows import Progress, SampleRequest
from unclip_jax.sampling.transforms import repeat
from unclip_jax.stages.conditions import Conditions
from unclip_jax.stages.stage import Stage


def generate(
    plan: Plan, *, low_memory: bool = False, free: bool | None = None, progress: Progress | None = None
) -> UInt8["N H W 3"]:
    """Generates the N images of a plan.

    If the first image stage samples several candidates, CLIP ranks them after the first stage whose images are at least
    as large as its input, or after the last stage. The stages after that upsample only the best candidate.

    Args:
      plan: Plan of `plan_text_to_image`, `plan_class_to_image` or `plan_variations`.
      low_memory: Whether to delete parameters from the devices as soon as possible, which makes the cascade unusable:
        those of the prior before the first image stage runs, those of each image stage before the next one runs, and
        those of the encoders before the second image stage runs, or later if they still have to rank candidates.
      free: Deprecated name of `low_memory`.
      progress: Called with the name of the stage, the number of completed steps and the total number of steps.
    """
    if free is not None:
        warn_renamed("free=", "low_memory=", where="unclip_jax")
        low_memory = free
    conditions, empty = encode(plan), encode_captions(plan, [""])
    target = target_of(plan, conditions)
    candidates = plan.settings[plan.image_stages[0].name].candidates
    if plan.prior is not None:
        conditions = conditions.merge(sample_embeddings(plan, conditions, empty, candidates, progress))
    if plan.empty_caption:
        conditions = conditions.merge(empty.repeat(plan.total))
    for index, stage in enumerate(plan.image_stages):
        if low_memory:
            plan.cascade.delete_params_except(*plan.stages_used_from(index, ranking=index == 0 or candidates > 1))
        conditions = conditions.with_rows(plan.total * candidates)
        sampled = _sample(plan, stage, conditions, empty, candidates, progress)
        if candidates > 1 and plan.ranks_after(stage):
            best = best_images(plan.cascade.stages[plan.ranking_clip], sampled, target)
            sampled, conditions, candidates = sampled[best], conditions.take(best), 1
        conditions = conditions.replace(low_res=sampled)
    if low_memory:
        plan.cascade.delete_params_except()
    return np.asarray(images.to_uint8(sampled))


def sample_embeddings(
    plan: Plan, conditions: Conditions, empty: Conditions, per_image: int, progress: Progress | None = None
) -> Conditions:
    """Samples image embeddings from the prior of a plan.

    For each output, the prior samples the number of candidates in its sampling settings, and the one closest to the
    caption is kept.

    Args:
      plan: A plan with a prior.
      conditions: Conditions of the N images.
      empty: Conditions of the empty caption, with one row.
      per_image: Number of embeddings to return per image.
      progress: Called with the name of the stage, the number of completed steps and the total number of steps.

    Returns:
      N * `per_image` unnormalized embeddings, grouped by image.
    """
    candidates = per_image * plan.settings[plan.prior.name].candidates
    prior = plan.prior.on_devices(plan.cascade.devices)
    sampled = _sample(plan, prior, conditions.repeat(candidates), empty, candidates, progress)
    text = np.repeat(conditions.text[plan.prior_space].pooled, per_image, axis=0)
    return Conditions(image_embedding={plan.prior_space: best_embeddings(sampled, text)})


def _sample(
    plan: Plan, stage: Stage, conditions: Conditions, empty: Conditions, candidates: int, progress: Progress | None
) -> Float["M ..."]:
    """Samples `candidates` rows per image from one stage."""
    request = SampleRequest(
        seed=plan.seed if isinstance(plan.seed, int) else np.repeat(plan.seed, candidates).tolist(),
        image_ids=np.repeat(plan.image_ids, candidates),
        candidate_ids=np.tile(np.arange(candidates), plan.total),
        devices=plan.cascade.devices,
        progress=progress,
    )
    settings = plan.settings[stage.name]
    guides = [kind_of(guide).guide(guide, conditions, settings.guides[guide.name]) for guide in plan.guides_of(stage)]
    return kind_of(stage).sample_stage(
        stage,
        conditions,
        empty,
        settings=settings,
        request=request,
        denoiser_transforms=[*guides, *repeat(plan.denoiser_transforms.get(stage.name, ()), candidates)],
        sampler_transforms=repeat(plan.sampler_transforms.get(stage.name, ()), candidates),
    )


def upsample_images(
    stage: Stage, low_res: Float["N h w 3"], *, seed: int, first_image: int, devices: tuple[jax.Device, ...]
) -> UInt8["N H W 3"]:
    """Runs one upsampler on images in [-1, 1], with its default settings."""
    request = SampleRequest(seed=seed, image_ids=first_image + np.arange(len(low_res)), devices=devices)
    conditions = Conditions(low_res=np.asarray(low_res, np.float32))
    settings = stage.spec.sampling
    sampled = kind_of(stage).sample_stage(stage, conditions, Conditions(), settings=settings, request=request)
    return np.asarray(images.to_uint8(sampled))
