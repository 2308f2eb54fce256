"""The stages that make images, in the order in which they run, and what they read."""

from unclip_jax import images
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.kinds import kind_of
from unclip_jax.kinds.kind import CLIP
from unclip_jax.stages.stage import Stage


def reads(stage: Stage) -> tuple[str, ...]:
    """Returns the conditions that a stage reads."""
    return kind_of(stage).reads(stage.module)


def reads_prompts(stage: Stage) -> bool:
    """Returns whether a stage is conditioned on captions, directly or through the embedding of an image."""
    return not {"tokens", "text", "image_embedding"}.isdisjoint(reads(stage))


def space_of(stage: Stage) -> str | None:
    """Returns the encoder in whose space a stage reads image embeddings; None if it reads none."""
    return stage.spec.encoders[CLIP].stage if "image_embedding" in reads(stage) else None


def image_stages(cascade: Cascade, stop_after: str | None = None) -> list[Stage]:
    """Returns the stages that make images, in order, up to `stop_after` (None: all).

    They are the first that starts from noise, or `stop_after` if it is another such stage, and the upsamplers.

    Raises:
      ValueError: If none starts from noise, or one does not fit the images of the stage before it.
    """
    found = cascade.stages_producing("image")
    bases = [stage for stage in found if stage.spec.low_res_size is None]
    if not bases:
        raise cascade.lacks("a stage that begins a picture")
    names = [stage.name for stage in found]
    if stop_after is not None and stop_after not in names:
        raise ValueError(f"stop_after names {stop_after}, which makes no picture here; known: {', '.join(names)}")
    base = next((stage for stage in bases if stage.name == stop_after), bases[0])
    chain = [base, *(stage for stage in found if stage not in bases)]
    places = [place for place, stage in enumerate(chain) if stage.name == stop_after]
    chain = chain[: places[0] + 1] if places else chain
    for before, stage in zip(chain, chain[1:]):
        if images.height_width(before.module.image_size) != images.height_width(stage.spec.low_res_size):
            raise ValueError(
                f"low_res_size of {stage.name} must be {before.module.image_size}, the size of {before.name}'s images, "
                f"got {stage.spec.low_res_size!r}."
            )
    return chain
