"""Stage kinds: frozen dataclasses of the functions that implement all stages of a kind.

Sampling, training and packaging work with any kind through these functions.
"""

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

CLIP = "clip"  # role of the CLIP whose embeddings and text features a network receives

Names = Callable[[nn.Module], tuple[str, ...]]


@dataclasses.dataclass(frozen=True, eq=False)
class TaskParts:
    """Components from which a training task is built.

    Attributes:
      spec: The stage to train.
      module: Network of the stage.
      options: Task options, an instance of `StageKind.options`. None if the kind has no options.
      encoders: Frozen encoder of each role.
      training: Training settings, such as `micro_batches` for tasks whose loss couples the rows of a batch.
    """

    spec: StageSpec
    module: nn.Module
    options: Any
    encoders: Mapping[str, Stage]
    training: TrainingSpec

    @property
    def schedule(self) -> Schedule:
        """Noise schedule of the stage."""
        return self.spec.diffusion.noise_schedule()


def no_names(module: nn.Module) -> tuple[str, ...]:
    """Returns no names."""
    return ()


def no_size(module: nn.Module) -> None:
    """Returns None."""


def resolve_diffusion(spec: StageSpec, settings: SamplingSettings) -> SamplingSettings:
    """Fills in the defaults of diffusion sampling settings and checks them against the noise schedule."""
    settings = settings.resolved(spec.diffusion.steps)
    return settings.check(spec.name, spec.diffusion.steps)


def accept(spec: StageSpec, module: nn.Module) -> None:
    """Accepts every spec."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageKind:
    """Kind of a stage: its network, its training task and its sampling.

    Attributes:
      name: Name of the kind in configs and cascade folders.
      network: Linen module of the network, see `models.network.Network`. Networks that produce images have the field
        `image_size`; networks that produce or receive embeddings have the field `embed_dim`.
      produces: Output of the stage: "features" (an encoder of captions or images), "embedding" (CLIP image
        embeddings), "image", or "guide" (a gradient that guides other stages).
      roles: module -> names of the roles for which `StageSpec.encoders` must have an encoder.
      shared_fields: Names of fields whose values must be equal in the network and in its encoders.
      reads: module -> fields of `Conditions` that the network receives, except `low_res` and `known`, which follow from
        the spec.
      upsamples: True if specs must set `low_res_size`, False if they must not, None if it is optional.
      inpaints: Whether specs may set `mask_channels`.
      batch_fields: Fields of a training batch that the task reads.
      options: Dataclass of the options of the kind in config.task. If None, there are none.
      check: Raises ValueError if a spec does not match its network.
      auxiliary: Names of parameters that the task trains together with the network and that are not packaged.
      make_task: Builds the training task. If None, the kind can be loaded and sampled but not trained.
      fit_extras: Computes the extras of the stage from the batches of one epoch, before the first training step. If
        None, there are none to compute.
      extras_shapes: module -> shapes of the extras. If None, the stage has no extras.
      encode_text: Encodes captions into conditions, stored under the name of the stage. If None, stages of this kind do
        not read captions themselves.
      tokenizer: Class of the tokenizer that is packaged and loaded with the stage. If None, there is none.
      encode_images: Encodes images into conditions, stored under the name of the stage. If None, stages of this kind do
        not encode images.
      image_encoder_size: module -> side in pixels to which `encode_images` resizes images; None if there is no image
        encoder.
      settings: Dataclass of the sampling settings. It must have the fields `candidates` and `guides` and a method
        `chosen` that returns the fields that differ from the defaults.
      resolve: (spec, settings) -> settings with all defaults filled in. Raises ValueError if they are invalid.
      denoising: Calling convention of the network. If None, the kind does not sample by diffusion.
      sample: (stage, conditions, empty, **arguments of `sample_diffusion`) -> samples. If None, `sample_diffusion` is
        used.
      guide: (stage, conditions, scale) -> transform by which the stage guides another stage. If None, stages of this
        kind cannot guide other stages.
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
        """Whether stages of this kind are sampled, and therefore have sampling settings."""
        return self.denoising is not None or self.sample is not None

    def build(self, spec: StageSpec, *, where: str, dtype: Any = np.float32) -> nn.Module:
        """Builds the network of a spec.

        Args:
          spec: A spec of this kind.
          where: Source of the spec, for error messages.
          dtype: Compute dtype of the network.

        Raises:
          ValueError: If a field is unknown, missing or invalid, or if the spec does not match the network.
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
            raise ValueError(f"{where}.encoders has no role {', '.join(unknown)}. Available: {known}.")
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
          stage: The stage.
          conditions: Conditions with N rows.
          empty: Conditions of the empty caption, with one row.
          arguments: Keyword arguments of `sample_diffusion`.

        Returns:
          N images or unnormalized embeddings as a host array, see `sample_diffusion`.
        """
        if self.sample is not None:
            return self.sample(stage, conditions, empty, **arguments)
        return sample_diffusion(stage, network_call(self.denoising, stage, conditions, empty), **arguments)
