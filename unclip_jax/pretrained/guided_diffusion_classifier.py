"""The classifiers of noised pictures that guided-diffusion published (arXiv 2105.05233), as
`models.noised_classifier.NoisedClassifier`.

They are named as the U-Net's way down and middle, and the pool as the entry `out.2`. The rows of their blocks' qkv lie
[head][q, k, v][width], and those of the pool's [q, k, v][head][width].
"""

import math
from collections.abc import Mapping
from typing import Any

from unclip_jax.pretrained.adm_unet import adm_encoder_fields, adm_encoder_rules, joint_projection, out_projection
from unclip_jax.pretrained.layer_rules import count_numbers
from unclip_jax.pretrained.stored_tensor import StoredTensor
from unclip_jax.pretrained.weight_mapping import Rule

# What the shapes in a published file do not tell, by the file's name without .pt: arguments of the function below.
# Source: the flags in the repository's README.
UNSEEN: dict[str, dict[str, Any]] = {
    "64x64_classifier": {"image_size": 64},
    "128x128_classifier": {"image_size": 128},
    "256x256_classifier": {"image_size": 256},
    "512x512_classifier": {"image_size": 512},
}


def classifier_fields(
    tensors: Mapping[str, StoredTensor], *, image_size: int, head_channels: int = 64
) -> dict[str, Any]:
    """The fields of NoisedClassifier, from shapes. The arguments are what shapes do not tell.

    Raises KeyError for a tensor that every such classifier has and these have not, and ValueError for an image_size
    that they cannot have.
    """
    per_level = _entries_per_level(tensors, image_size)
    return {
        **adm_encoder_fields(tensors, per_level, image_size=image_size, head_channels=head_channels),
        "num_classes": tensors["out.2.c_proj.weight"].shape[0],
    }


def classifier_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """The parameters of the NoisedClassifier with these fields."""
    channels = int(fields["channels"] * fields["channel_mult"][-1])
    heads = fields["num_heads"] or channels // fields["head_channels"]
    return [
        *adm_encoder_rules(fields),
        Rule("pool/positional_embedding", "out.2.positional_embedding", "c p -> p c"),
        *joint_projection("pool/qkv", "out.2.qkv_proj", "p n k", {"p": 3, "n": heads}),
        *out_projection("pool/out", "out.2.c_proj", heads),
    ]


def _entries_per_level(tensors: Mapping[str, StoredTensor], image_size: int) -> int:
    """Blocks that halve pictures look like those that do not; but the pool has a position for each pixel of the last
    level, and one for their mean."""
    side = math.isqrt(tensors["out.2.positional_embedding"].shape[1] - 1)
    entries, levels = count_numbers(tensors, "input_blocks."), max(1, image_size // side).bit_length()
    if image_size != side << (levels - 1) or entries % levels:
        raise ValueError(
            f"image_size {image_size} cannot be that of a classifier with {entries} entries of input_blocks and a pool "
            f"of {side} x {side} pixels"
        )
    return entries // levels
