"""Stage kinds, one per file, and their registry.

Other packages add kinds by calling `kinds.register(KIND)` or through the entry-point group `unclip_jax.kinds`. All its
entry points are loaded when a name is unknown or the kinds are listed. The files of a cascade never name a module to
import.
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
    """Registers a kind.

    Raises:
      ValueError: If a different kind is registered under this name, or if `kind` is not a `StageKind`.
    """
    KINDS.register(kind.name, kind)


def kind_of(stage: Stage | StageSpec, *, where: str | None = None) -> StageKind:
    """Returns the kind of a stage.

    Args:
      stage: A stage or its spec.
      where: The file of the spec, for the error message. If None, the message names the stage.

    Raises:
      ValueError: If the kind is unknown.
    """
    spec: Any = stage.spec if isinstance(stage, Stage) else stage
    return KINDS.choose(spec.kind, where or f"stage {spec.name!r}")
