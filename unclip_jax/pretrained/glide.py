"""GLIDE's published weights (arXiv 2112.10741): base, upsampling, and both for inpainting, as `models.glide.Glide`.

All four have the same names and differ in sizes alone. Behind the noised picture's channels stand, for inpainting, the
known part and its mask, and after them, for upsampling, the low-resolution picture, enlarged bilinearly by the caller.
"""

from collections.abc import Mapping
from typing import Any

from unclip_jax.pretrained.adm_unet import adm_fields, adm_rules
from unclip_jax.pretrained.layer_rules import count_numbers, dense, norm
from unclip_jax.pretrained.openai_transformer import openai_transformer_rules
from unclip_jax.pretrained.stored_tensor import StoredTensor
from unclip_jax.pretrained.weight_mapping import Rule

# Of the U-Net's fields: Glide's attention sees its own captions, it has no labels, and resamples in one way.
NOT_GLIDES = ("context_width", "num_classes", "resblock_updown")


def glide_fields(
    tensors: Mapping[str, StoredTensor],
    *,
    image_size: int,
    head_channels: int = 64,
    text_head_width: int = 64,
    groups: int = 32,
) -> dict[str, Any]:
    """The fields of `models.glide.Glide`. The arguments are what shapes do not tell; the defaults are GLIDE's.

    Raises KeyError for a tensor that every GLIDE has and these have not.
    """
    unet = adm_fields(tensors, image_size=image_size, head_channels=head_channels, groups=groups)
    vocab_size, text_width = tensors["token_embedding.weight"].shape
    return {
        **{name: value for name, value in unet.items() if name not in NOT_GLIDES},
        "vocab_size": vocab_size,
        "context_length": tensors["positional_embedding"].shape[0],
        "text_width": text_width,
        "text_layers": count_numbers(tensors, "transformer.resblocks."),
        "text_heads": text_width // text_head_width,
    }


def glide_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """The parameters of the Glide with these fields."""
    return [
        Rule("text/token_embedding/embedding", "token_embedding.weight"),
        Rule("text/positional_embedding", "positional_embedding"),
        Rule("text/padding_embedding", "padding_embedding"),
        *openai_transformer_rules(
            "text/transformer", "transformer", layers=fields["text_layers"], heads=fields["text_heads"]
        ),
        *norm("text/norm_final", "final_ln"),
        *dense("text_to_time", "transformer_proj"),
        *adm_rules({**fields, "context_width": fields["text_width"]}, target="unet/"),
    ]
