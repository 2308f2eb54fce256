"""The frozen encoders that a stage is trained with."""

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
    """Loads the encoder of each role. It computes in the dtype of the training.

    Its parameters are float32 nevertheless, since its digest is that of float32 parameters.
    """
    dtype = compute_dtype(config.training.dtype, jax.default_backend())
    encoders = {role: load_clip(source, dtype="float32") for role, source in config.encoders.items()}
    return {
        role: dataclasses.replace(encoder, module=encoder.module.clone(dtype=dtype))
        for role, encoder in encoders.items()
    }


def check_widths(config: ExperimentConfig, module: nn.Module, encoders: Mapping[str, Stage]) -> None:
    """Raises ValueError if the network expects other features than an encoder gives."""
    for role, encoder in encoders.items():
        for name in config.stage_kind.shared_fields:
            own, given = getattr(module, name), getattr(encoder.module, name)
            if own != given:
                raise ValueError(
                    f"config.model.{name} must be {given}, as in config.encoders.{role} "
                    f"({config.encoders[role]!r}), got {own}."
                )


def image_encoder_of(encoders: Mapping[str, Stage]) -> Stage | None:
    """Returns the encoder that embeds images, if there is one."""
    return next((stage for stage in encoders.values() if kind_of(stage).encode_images is not None), None)
