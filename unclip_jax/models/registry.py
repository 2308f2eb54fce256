"""The networks by the kind of stage that they serve, built from the fields of a config."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from unclip_jax.models.clip import CLIP
from unclip_jax.models.decoder import Decoder
from unclip_jax.models.diffusion_prior import DiffusionPrior
from unclip_jax.models.glide import Glide
from unclip_jax.models.noised_classifier import NoisedClassifier
from unclip_jax.models.noised_clip import NoisedCLIP
from unclip_jax.models.unet import UNet
from unclip_jax.models.upsampler import Upsampler

NETWORKS: dict[str, type[nn.Module]] = {
    "clip": CLIP,
    "diffusion_prior": DiffusionPrior,
    "decoder": Decoder,
    "upsampler": Upsampler,
    "unet": UNet,
    "glide": Glide,
    "noised_classifier": NoisedClassifier,
    "noised_clip": NoisedCLIP,
}


def defaults(kind: str) -> dict[str, Any]:
    """The fields of a kind's network that have a default, with it."""
    return {field.name: field.default for field in _fields(kind) if field.default is not dataclasses.MISSING}


def network(kind: str, fields: Mapping[str, Any], *, dtype: Any = jnp.float32) -> nn.Module:
    """The linen module of a stage of `kind`, with `fields` (JSON or a config: lists stand for tuples).

    Args: dtype: in which it computes; a matter of the machine (see `precision`), and so no part of a config.
    Raises ValueError for an unknown kind or field, with the known names.
    """
    known = [field.name for field in _fields(kind)]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ValueError(f"model of kind {kind!r} has no field {', '.join(unknown)}; known: {', '.join(known)}")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return NETWORKS[kind](**values, dtype=dtype)


def fields_of(module: nn.Module) -> dict[str, Any]:
    """The fields of a network that a config may set, with those that it left at their default."""
    return {field.name: getattr(module, field.name) for field in _settable(type(module))}


def _fields(kind: str) -> list[dataclasses.Field]:
    """The fields of a kind's network that a config may set."""
    if kind not in NETWORKS:
        raise ValueError(f"kind {kind!r} is unknown; known: {', '.join(NETWORKS)}")
    return _settable(NETWORKS[kind])


def _settable(module: type[nn.Module]) -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(module) if field.name not in ("parent", "name", "dtype")]
