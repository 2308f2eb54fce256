"""Stage kinds: one file each, and the table of all.

Kinds of other packages are added with `kinds.register(KIND)`, or by the entry-point group `unclip_jax.kinds`, all of
whose entry points are loaded when a name is unknown. A cascade's files never name a module.
"""

from typing import Any

from unclip_jax.kinds import (
    clip,
    decoder,
    diffusion_prior,
    glide,
    noised_classifier,
    noised_clip,
    unet,
    upsampler,
)
from unclip_jax.kinds.kind import StageKind
from unclip_jax.registry import Registry
from unclip_jax.stages.spec import StageSpec
from unclip_jax.stages.stage import Stage

_MODULES = (clip, diffusion_prior, decoder, upsampler, glide, unet, noised_clip, noised_classifier)
KINDS: Registry[StageKind] = Registry(
    "stage kind",
    "unclip_jax.kinds",
    {module.KIND.name: module.KIND for module in _MODULES},
    entry_type=StageKind,
)


def register(kind: StageKind) -> None:
    """Adds a kind to the table.

    Raises:
      ValueError: If the name belongs to another kind.
    """
    KINDS.register(kind.name, kind)


def kind_of(stage: Stage | StageSpec, *, where: str | None = None) -> StageKind:
    """Returns the kind of a stage.

    Args:
      where: The file of the spec, for the error message.

    Raises:
      ValueError: If it is unknown, with the known names.
    """
    spec: Any = stage.spec if isinstance(stage, Stage) else stage
    return KINDS.choose(spec.kind, where or f"stage {spec.name!r}")
