"""Frozen encoders that a stage is trained with."""

import dataclasses
from collections.abc import Mapping

import jax
from flax import linen as nn

from unclip_jax.cascades.embedding import load_clip
from unclip_jax.experiment.spec import ExperimentConfig
from unclip_jax.kinds import kind_of
from unclip_jax.models.precision import compute_dtype
from unclip_jax.stages.stage import Stage


def load_encoders(config: ExperimentConfig) -> dict[str, Stage]:
    """Loads the encoder of each role.

    Encoders have the compute dtype of the training. Their parameters are float32, because digests are computed from
    float32 parameters.

    Raises:
      ValueError: If a source is unknown or contains no CLIP model.
    """
    dtype = compute_dtype(config.training.dtype, jax.default_backend())
    encoders = {role: load_clip(source, dtype="float32") for role, source in config.encoders.items()}
    return {
        role: dataclasses.replace(encoder, module=encoder.module.clone(dtype=dtype))
        for role, encoder in encoders.items()
    }


def check_widths(config: ExperimentConfig, module: nn.Module, encoders: Mapping[str, Stage]) -> None:
    """Checks that the network and its encoders agree in the shared fields of the kind.

    Args:
      config: Config of the run.
      module: Network of the stage.
      encoders: The encoder of each role.

    Raises:
      ValueError: If a field in `StageKind.shared_fields` differs.
    """
    for role, encoder in encoders.items():
        for name in config.stage_kind.shared_fields:
            actual, expected = getattr(module, name), getattr(encoder.module, name)
            if actual != expected:
                raise ValueError(
                    f"config.model.{name} must be {expected}, as in config.encoders.{role} "
                    f"({config.encoders[role]!r}), got {actual}."
                )


def image_encoder_of(encoders: Mapping[str, Stage]) -> Stage | None:
    """Returns the encoder that encodes images, or None if there is none."""
    return next((stage for stage in encoders.values() if kind_of(stage).encode_images is not None), None)
