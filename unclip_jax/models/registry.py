"""The networks by the kind of stage that they serve, built from the fields of a config."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from unclip_jax.models.clip import CLIP
from unclip_jax.models.decoder import Decoder
from unclip_jax.models.diffusion_prior import DiffusionPrior
from unclip_jax.models.glide import Glide
from unclip_jax.models.network import build, default_fields, fields_of
from unclip_jax.models.noised_classifier import NoisedClassifier
from unclip_jax.models.noised_clip import NoisedCLIP
from unclip_jax.models.unet import UNet
from unclip_jax.models.upsampler import Upsampler

__all__ = ["NETWORKS", "defaults", "fields_of", "network"]

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
    return default_fields(_of_kind(kind))


def network(kind: str, fields: Mapping[str, Any], *, dtype: Any = jnp.float32) -> nn.Module:
    """The network of a stage of `kind`; see `network.build`. Raises ValueError for an unknown kind or field, with the
    known names."""
    return build(_of_kind(kind), fields, dtype=dtype, where=f"{kind}.model")


def _of_kind(kind: str) -> type[nn.Module]:
    if kind not in NETWORKS:
        raise ValueError(f"kind {kind!r} is unknown; known: {', '.join(NETWORKS)}")
    return NETWORKS[kind]
