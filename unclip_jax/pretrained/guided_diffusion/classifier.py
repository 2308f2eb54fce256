"""Classifiers of guided-diffusion (arXiv 2105.05233), as `models.noised_classifier.NoisedClassifier`.

Tensors are named as in the down path and bottleneck of the U-Net. The attention pool is `out.2`. The rows of qkv
projections are ordered [head][q, k, v][width] in the blocks and [q, k, v][head][width] in the pool.
"""

import math
from collections.abc import Mapping
from typing import Any

from unclip_jax.pretrained.layer_rules import count_numbers
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.rules import Rule
from unclip_jax.pretrained.unet_layouts.adm import (
    adm_encoder_fields,
    adm_encoder_rules,
    joint_projection,
    out_projection,
)

# Arguments of `classifier_fields` by file name without ".pt", from the README of guided-diffusion.
FILE_SETTINGS: dict[str, dict[str, Any]] = {
    "64x64_classifier": {"image_size": 64},
    "128x128_classifier": {"image_size": 128},
    "256x256_classifier": {"image_size": 256},
    "512x512_classifier": {"image_size": 512},
}


def classifier_fields(tensors: Mapping[str, LazyTensor], *, image_size: int, head_channels: int = 64) -> dict[str, Any]:
    """Returns the fields of `NoisedClassifier`, derived from tensor shapes.

    Args:
      tensors: The tensors of a classifier.
      image_size: Size of its images, which the shapes do not determine.
      head_channels: Width of an attention head, which the shapes do not determine.

    Raises:
      KeyError: If a tensor is missing.
      ValueError: If `image_size` does not match the size of the attention pool.
    """
    per_level = _entries_per_level(tensors, image_size)
    return {
        **adm_encoder_fields(tensors, per_level, image_size=image_size, head_channels=head_channels),
        "num_classes": tensors["out.2.c_proj.weight"].shape[0],
    }


def classifier_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """Returns the rules of a `NoisedClassifier` with these fields."""
    channels = int(fields["channels"] * fields["channel_mult"][-1])
    heads = fields["num_heads"] or channels // fields["head_channels"]
    return [
        *adm_encoder_rules(fields),
        Rule("pool/positional_embedding", "out.2.positional_embedding", "c p -> p c"),
        *joint_projection("pool/qkv", "out.2.qkv_proj", "p n k", {"p": 3, "n": heads}),
        *out_projection("pool/out", "out.2.c_proj", heads),
    ]


def _entries_per_level(tensors: Mapping[str, LazyTensor], image_size: int) -> int:
    """Returns the number of input_blocks per level, which is res_blocks + 1.

    Blocks have the same shapes with and without downsampling. The number of levels follows from the attention pool,
    which has a positional embedding for each pixel of the last level and one for their mean.
    """
    side = math.isqrt(tensors["out.2.positional_embedding"].shape[1] - 1)
    entries, levels = count_numbers(tensors, "input_blocks."), max(1, image_size // side).bit_length()
    if image_size != side << (levels - 1) or entries % levels:
        raise ValueError(
            f"image_size must match a classifier with {entries} input_blocks and an attention pool of {side} x {side} "
            f"pixels, got {image_size}."
        )
    return entries // levels
