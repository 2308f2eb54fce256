"""The networks by the kind of stage that they serve, built from the fields of a config."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from unclip_jax.models.clip import CLIP
from unclip_jax.models.decoder import Decoder
from unclip_jax.models.diffusion_prior import DiffusionPrior
from unclip_jax.models.upsampler import Upsampler

NETWORKS: dict[str, type[nn.Module]] = {
    "clip": CLIP,
    "diffusion_prior": DiffusionPrior,
    "decoder": Decoder,
    "upsampler": Upsampler,
}


def defaults(kind: str) -> dict[str, Any]:
    """The fields of a kind's network that have a default, with it; all but `dtype`, which is no part of a config."""
    if kind not in NETWORKS:
        raise ValueError(f"kind {kind!r} is unknown; known: {', '.join(NETWORKS)}")
    fields = dataclasses.fields(NETWORKS[kind])
    return {
        field.name: field.default
        for field in fields
        if field.default is not dataclasses.MISSING and field.name not in ("parent", "name", "dtype")
    }


def network(kind: str, fields: Mapping[str, Any]) -> nn.Module:
    """The linen module of a stage of `kind`, with `fields` (JSON or a config: lists stand for tuples).

    Raises ValueError for an unknown kind or field, with the known names.
    """
    if kind not in NETWORKS:
        raise ValueError(f"kind {kind!r} is unknown; known: {', '.join(NETWORKS)}")
    module = NETWORKS[kind]
    known = [field.name for field in dataclasses.fields(module) if field.name not in ("parent", "name")]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ValueError(f"model of kind {kind!r} has no field {', '.join(unknown)}; known: {', '.join(known)}")
    return module(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
