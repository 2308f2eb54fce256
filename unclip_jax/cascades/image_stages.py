"""Image stages of a cascade: their order and their inputs."""

import itertools

from unclip_jax import images
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.kinds import kind_of
from unclip_jax.kinds.kind import CLIP
from unclip_jax.stages.stage import Stage


def reads(stage: Stage) -> tuple[str, ...]:
    """Returns the fields of `Conditions` that a stage reads, except `low_res` and `known`."""
    return kind_of(stage).reads(stage.module)


def reads_prompts(stage: Stage) -> bool:
    """Returns whether a stage is conditioned on captions, directly or through an image embedding."""
    return not {"tokens", "text", "image_embedding"}.isdisjoint(reads(stage))


def space_of(stage: Stage) -> str | None:
    """Returns the encoder whose image embeddings a stage reads, or None if it reads no image embeddings."""
    return stage.spec.encoders[CLIP].stage if "image_embedding" in reads(stage) else None


def image_stages(cascade: Cascade, stop_after: str | None = None) -> list[Stage]:
    """Returns the image stages that run, in execution order: a base stage and the upsamplers.

    Args:
      cascade: The cascade.
      stop_after: Name of the last stage to run. If it is a base stage, only that stage runs. If None, the first base
        stage and all upsamplers run.

    Raises:
      ValueError: If there is no base stage, if `stop_after` is unknown, or if the image sizes of two consecutive stages
        do not match.
    """
    found = cascade.stages_producing("image")
    bases = [stage for stage in found if stage.spec.low_res_size is None]
    if not bases:
        raise cascade.lacks("a stage that generates images from noise")
    names = [stage.name for stage in found]
    if stop_after is not None and stop_after not in names:
        raise ValueError(f"stop_after must be an image stage, got {stop_after!r}. Available: {', '.join(names)}.")
    base = next((stage for stage in bases if stage.name == stop_after), bases[0])
    chain = [base, *(stage for stage in found if stage not in bases)]
    last = [index for index, stage in enumerate(chain) if stage.name == stop_after]
    chain = chain[: last[0] + 1] if last else chain
    for before, stage in itertools.pairwise(chain):
        if images.height_width(before.module.image_size) != images.height_width(stage.spec.low_res_size):
            raise ValueError(
                f"low_res_size of {stage.name} must be {before.module.image_size}, the size of {before.name}'s images, "
                f"got {stage.spec.low_res_size!r}."
            )
    return chain
