"""GLIDE's base and upsampler (arXiv 2112.10741), with and without inpainting, as `models.glide.Glide`.

All four networks have the same tensor names. Their input channels are the noisy image, then the known part of the image
and its mask (inpainting), then the resized low-resolution image (upsampling).
"""

from collections.abc import Mapping
from typing import Any

from unclip_jax.pretrained.clip.openai import transformer_rules
from unclip_jax.pretrained.layer_rules import count_numbers, dense, norm
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.rules import Rule
from unclip_jax.pretrained.unet_layouts.adm import adm_fields, adm_rules

HEAD_WIDTH = 64  # of the U-Net and of the text encoder
# Fields of `UNet` that `Glide` sets.
NOT_IN_GLIDE = ("context_width", "num_classes", "resblock_updown")


def glide_fields(tensors: Mapping[str, LazyTensor], *, image_size: int) -> dict[str, Any]:
    """Returns the fields of `models.glide.Glide`, derived from tensor shapes.

    Args:
      tensors: The tensors of one network.
      image_size: Size of its images, which the shapes do not determine.

    Raises:
      KeyError: If a tensor is missing.
    """
    unet = adm_fields(tensors, image_size=image_size, head_channels=HEAD_WIDTH)
    vocab_size, text_width = tensors["token_embedding.weight"].shape
    return {
        **{name: value for name, value in unet.items() if name not in NOT_IN_GLIDE},
        "vocab_size": vocab_size,
        "context_length": tensors["positional_embedding"].shape[0],
        "text_width": text_width,
        "text_layers": count_numbers(tensors, "transformer.resblocks."),
        "text_heads": text_width // HEAD_WIDTH,
    }


def glide_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """Returns the rules of a `Glide` with these fields."""
    layers, heads = fields["text_layers"], fields["text_heads"]
    return [
        Rule("text/token_embedding/embedding", "token_embedding.weight"),
        Rule("text/positional_embedding", "positional_embedding"),
        Rule("text/padding_embedding", "padding_embedding"),
        *transformer_rules("text/transformer", "transformer", layers=layers, heads=heads),
        *norm("text/norm_final", "final_ln"),
        *dense("text_to_time", "transformer_proj"),
        *adm_rules({**fields, "context_width": fields["text_width"]}, target="unet/"),
    ]
