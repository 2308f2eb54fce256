"""What a stage kind is: a frozen dataclass of functions, and the whole of what the rest of the package asks of it."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from flax import linen as nn

from unclip_jax.arrays import Float, PyTree, UInt8
from unclip_jax.diffusion.schedule import Schedule
from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.models.network import build
from unclip_jax.sampling.denoising import Denoising, network_call
from unclip_jax.sampling.diffusion import sample_diffusion
from unclip_jax.sampling.transforms import DenoiserTransform
from unclip_jax.stages.conditions import Conditions
from unclip_jax.stages.spec import StageSpec
from unclip_jax.stages.stage import Stage
from unclip_jax.training.spec import TrainingSpec
from unclip_jax.training.task import Task

CLIP = "clip"  # the role of the CLIP whose embeddings and text features a network reads

Names = Callable[[nn.Module], tuple[str, ...]]


@dataclasses.dataclass(frozen=True, eq=False)
class TaskParts:
    """What a task is made of.

    Attributes:
      spec: The stage to be trained.
      module: Its network.
      options: The kind's own options, an instance of `StageKind.options`; None if it has none.
      encoders: The frozen encoder of each role.
      training: The training settings, such as `micro_batches` for tasks whose loss couples the rows of a batch.
    """

    spec: StageSpec
    module: nn.Module
    options: Any
    encoders: Mapping[str, Stage]
    training: TrainingSpec

    @property
    def schedule(self) -> Schedule:
        """The noise schedule of the stage."""
        return self.spec.diffusion.noise_schedule()


def no_names(module: nn.Module) -> tuple[str, ...]:
    """Names nothing."""
    return ()


def no_size(module: nn.Module) -> None:
    """Returns None."""


def resolve_diffusion(spec: StageSpec, settings: SamplingSettings) -> SamplingSettings:
    """Resolves and checks settings of diffusion sampling against the stage's noise schedule."""
    settings = settings.resolved(spec.diffusion.steps)
    return settings.check(spec.name, spec.diffusion.steps)


def accept(spec: StageSpec, module: nn.Module) -> None:
    """Accepts every spec."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageKind:
    """A kind of stage: its network, its task and how it is sampled.

    Attributes:
      name: Name of the kind in configs and cascade folders.
      network: The linen module of its network, see `models.network.Network`. One that produces images has the field
        `image_size`, and one that produces embeddings or reads them `embed_dim`.
      produces: What the stage gives to others: "features" (an encoder of captions or images), "embedding" (CLIP image
        embeddings), "image", or "guide" (a gradient that guides other stages).
      roles: The encoders that `StageSpec.encoders` must name, from the network's fields.
      shared_fields: Fields in which its network agrees with those of its encoders.
      reads: The fields of `Conditions` that its network reads, from the network's fields; `low_res` and `known` follow
        from the spec.
      upsamples: Whether its specs have a `low_res_size`: True always, False never, None if some have it.
      inpaints: Whether its specs may set `mask_channels`.
      batch_fields: Fields of a training batch that its task reads.
      options: Dataclass of the kind's own fields in config.task.
      check: Raises ValueError if a spec and its network do not fit.
      auxiliary: Names of parameters that its task trains with the network and that are not packaged.
      make_task: Builds the task. If None, the kind can be loaded and sampled but not trained.
      fit_extras: Computes the stage's extras from the batches of one epoch, before the first step.
      extras_shapes: The shapes of the stage's extras; empty if it has none.
      encode_text: Captions to conditions under the stage's name.
      tokenizer: The class of the stage's own tokenizer, which is packaged and loaded with it; None if it has none.
      encode_images: Images to conditions under the stage's name.
      image_encoder_size: Side to which `encode_images` resizes images; None if the network has no image encoder.
      settings: Dataclass of the kind's sampler settings, with the fields `candidates` and `guides` and a method
        `chosen` that returns what differs from the defaults.
      resolve: (spec, settings) -> settings with every default filled in. Raises ValueError if they are invalid.
      denoising: How the network is called, for kinds that sample by diffusion.
      sample: (stage, conditions, empty, **arguments of `sample_diffusion`) -> samples. If None, `sample_diffusion`.
      guide: (stage, conditions, scale) -> the transform by which the stage guides another.
    """

    name: str
    network: type[nn.Module]
    produces: Literal["features", "embedding", "image", "guide"]
    roles: Names = no_names
    shared_fields: tuple[str, ...] = ()
    reads: Names = no_names
    upsamples: bool | None = False
    inpaints: bool = False
    batch_fields: tuple[str, ...] = ()
    options: type | None = None
    check: Callable[[StageSpec, nn.Module], None] = accept
    auxiliary: tuple[str, ...] = ()
    make_task: Callable[[TaskParts], Task] | None = None
    fit_extras: Callable[[TaskParts, Iterator[Mapping[str, np.ndarray]]], Mapping[str, PyTree]] | None = None
    extras_shapes: Callable[[nn.Module], PyTree] | None = None
    encode_text: Callable[[Stage, Sequence[str]], Conditions] | None = None
    tokenizer: type | None = None
    encode_images: Callable[[Stage, UInt8["N H W 3"]], Conditions] | None = None
    image_encoder_size: Callable[[nn.Module], int | None] = no_size
    settings: type = SamplingSettings
    resolve: Callable[[StageSpec, Any], Any] = resolve_diffusion
    denoising: Denoising | None = None
    sample: Callable[..., Float["N ..."]] | None = None
    guide: Callable[[Stage, Conditions, float], DenoiserTransform] | None = None

    @property
    def is_sampled(self) -> bool:
        """Whether the stage generates something, with sampler settings."""
        return self.denoising is not None or self.sample is not None

    def build(self, spec: StageSpec, *, where: str, dtype: Any = np.float32) -> nn.Module:
        """Builds the network of a spec and checks that both fit.

        Args:
          where: Where the spec comes from, for messages.
          dtype: In which the network computes.

        Raises:
          ValueError: For an unknown or missing field, a missing section, or a spec that does not fit the network.
        """
        module = build(self.network, spec.model, dtype=dtype, where=f"{where}.model")
        sections = ("diffusion",) * (self.denoising is not None) + ("sampling",) * self.is_sampled
        needed = [name for name in sections if getattr(spec, name) is None]
        needed += [f"encoders.{role}" for role in self.roles(module) if role not in spec.encoders]
        if needed:
            raise ValueError(f"{where} lacks {', '.join(needed)}, which a stage of kind {self.name!r} needs.")
        unknown = sorted(set(spec.encoders) - set(self.roles(module)))
        if unknown:
            known = ", ".join(self.roles(module)) or "none"
            raise ValueError(f"{where}.encoders has no role {', '.join(unknown)}; known: {known}")
        if self.upsamples not in (None, spec.low_res_size is not None):
            expected = "must be set" if self.upsamples else "must be None"
            raise ValueError(f"{where}.low_res_size {expected} for kind {self.name!r}, got {spec.low_res_size!r}.")
        if spec.mask_channels and not self.inpaints:
            raise ValueError(f"{where}.mask_channels must be False for kind {self.name!r}, which does not inpaint.")
        if self.is_sampled:
            self.resolve(spec, spec.sampling)
        self.check(spec, module)
        return module

    def sample_stage(self, stage: Stage, conditions: Conditions, empty: Conditions, **arguments: Any) -> Float["N ..."]:
        """Samples a stage of this kind.

        Args:
          conditions: N rows.
          empty: Conditions of the empty caption, one row.
          arguments: As in `sample_diffusion`.
        """
        if self.sample is not None:
            return self.sample(stage, conditions, empty, **arguments)
        return sample_diffusion(stage, network_call(self.denoising, stage, conditions, empty), **arguments)
